"""The few values of ``dsrl.types`` that compute something."""

from __future__ import annotations

import pickle

import pytest

from dsrl.types import UNREADABLE, Price, Prompt, Reward, Score, Usage


def test_prompt_and_reward_survive_the_way_to_a_worker_process() -> None:
    prompt = pickle.loads(pickle.dumps(Prompt("question", "You are a doctor.")))
    assert (prompt, prompt.system) == ("question", "You are a doctor.")
    assert [(m.role, m.content) for m in prompt.messages] == [("system", "You are a doctor."), ("user", "question")]
    assert [m.role for m in Prompt("question").messages] == ["user"]
    reward = pickle.loads(pickle.dumps(Reward(0.5, {"a": 0.5})))
    assert (reward, reward.parts) == (0.5, {"a": 0.5})


def test_a_prompt_without_a_chat_template_starts_with_the_system_text() -> None:
    assert Prompt("question", "You are a doctor.").plain_text == "You are a doctor.\n\nquestion"
    assert Prompt("question").plain_text == "question"
    assert type(Prompt("question").plain_text) is str, "an engine gets a plain string"


def test_an_unreadable_answer_is_false_but_not_none() -> None:
    assert not UNREADABLE
    assert UNREADABLE is not None
    assert pickle.loads(pickle.dumps(UNREADABLE)) is UNREADABLE


def test_a_reward_keeps_its_own_copy_of_the_parts() -> None:
    parts = {"format": 0.1}
    reward = Reward(0.1, parts)
    parts["format"] = 1.0
    assert reward.parts == {"format": 0.1}
    assert reward + 1 == 1.1


def test_usages_add_up_number_by_number() -> None:
    assert Usage(1, 2, 3, 4) + Usage(10, 20, 30, 40) == Usage(11, 22, 33, 44)


def test_cached_tokens_without_a_price_of_their_own_cost_what_other_prompt_tokens_cost() -> None:
    usage = Usage(1_000_000, 0, cached_tokens=400_000, cache_write_tokens=100_000)
    assert Price(2.0, 10.0).cost(usage) == pytest.approx(2.0)
    assert Price(2.0, 10.0, cached=0.0).cost(usage) == pytest.approx(1.2)


def test_the_pass_rate_is_measured_even_if_the_score_is_not() -> None:
    """A sample that was never solved has the score 1."""
    assert Score("1-0", 8, 2, 0.25).pass_rate == 0.25
    assert Score("1-0", 8, 0, 1.0).pass_rate == 0.0


def test_what_a_call_costs() -> None:
    price = Price(2.0, 10.0, cached=0.2, cache_write=2.5, batch=0.5)
    usage = Usage(1_000_000, 100_000, cached_tokens=500_000, cache_write_tokens=200_000)
    assert price.cost(usage) == pytest.approx(0.3 * 2 + 0.5 * 0.2 + 0.2 * 2.5 + 0.1 * 10)
    assert price.cost(usage, batch=True) == pytest.approx(price.cost(usage) / 2)


def test_the_worst_case_is_never_below_the_cost() -> None:
    for price in (Price(2.0, 10.0, 0.2, 2.5, 0.5), Price(2.0, 10.0), Price(0.0, 0.0), Price(1.0, 1.0, cached=3.0)):
        for cached, written in ((0, 0), (900, 0), (0, 900), (500, 500)):
            for batch in (False, True):
                cost = price.cost(Usage(1000, 50, cached, written), batch)
                assert price.worst(1000, 50, batch) >= cost - 1e-12
