from __future__ import annotations

from typing import Any

from dsrl_vllm.work import Backlog, EngineRequest, make_prompts, make_requests

from dsrl import Prompt


def make(tokens: list[list[int]], **values: Any) -> list[EngineRequest]:
    usual = {"id": 7, "n": 4, "temperature": 1.0, "top_p": 0.9, "seed": 3, "first": 0, "done": []}
    return list(make_requests({**usual, **values}, tokens, max_tokens=12, adapter=0))


def test_the_seed_of_an_attempt_depends_on_seed_prompt_and_number_only() -> None:
    one, two = make([[1, 2], [3]])
    assert [request.seed for request in make([[3], [1, 2]])] == [two.seed, one.seed], "not on the order"
    assert make([[1, 2]])[0].seed == one.seed, "not on the company"
    assert make([[1, 2]], id=8, n=9)[0].seed == one.seed, "not on the call"
    assert one.seed is not None
    assert make([[1, 2]], first=2)[0].seed == one.seed + 2, "vLLM adds the number of the attempt to the seed"
    assert make([[1, 2]], seed=4)[0].seed != one.seed
    assert make([[12]])[0].seed != make([[1, 2]])[0].seed


def test_a_prompt_that_is_given_twice_gets_other_attempts() -> None:
    first, other, second = make([[1], [2], [1]])
    assert len({first.seed, other.seed, second.seed}) == 3
    (again,) = make([[1], [2], [1]], done=[0, 1])
    assert again == second, "what is left after a restart is the same"


def test_greedy_attempts_are_one_request_with_one_attempt() -> None:
    (request,) = make([[1, 2]], temperature=0.0)
    assert (request.attempts, request.copies, request.seed, request.temperature) == (1, 4, None, 0.0)
    (request,) = make([[1, 2]], temperature=1e-7)
    assert (request.attempts, request.temperature) == (1, 0.0), "vLLM takes it as greedy, and refuses several attempts"
    (request,) = make([[1, 2]])
    assert (request.attempts, request.copies) == (4, 1)


def test_the_seed_fits_into_64_bits_with_a_sign() -> None:
    seeds = [request.seed or 0 for number in range(200) for request in make([[number]], first=10**6)]
    assert max(seeds) + 10**6 < 2**63
    assert min(seeds) >= 0
    assert len(set(seeds)) == 200


def test_the_engine_is_kept_full_and_not_fuller() -> None:
    backlog = Backlog(sequences=8)
    backlog.add(make([[number] for number in range(10)]))
    taken = list(backlog.take())
    assert len(taken) == 4, "16 attempts: those that are computed, and as many that wait"
    assert not list(backlog.take())
    assert backlog.finish(taken[0].name) == taken[0]
    assert len(list(backlog.take())) == 1
    assert len(backlog) == 9


def test_a_request_larger_than_the_engine_is_taken_alone() -> None:
    backlog = Backlog(sequences=1)
    backlog.add(make([[1], [2]], n=100))
    assert len(list(backlog.take())) == 1


def test_a_cancelled_call_leaves_nothing_behind() -> None:
    backlog = Backlog(sequences=4)
    backlog.add(make([[1], [2], [3]]))
    backlog.add(make([[4]], id=8))
    running = [request.name for request in backlog.take()]
    assert backlog.cancel(7) == running == ["7-0", "7-1"]
    assert backlog.finish("7-0") is None
    assert [request.call for request in backlog.take()] == [8]


def test_prompts_come_through_whole() -> None:
    prompts = [Prompt("a\ud800b", "system", True), Prompt("", "", False)]
    message = {"prompts": [(str(prompt), prompt.system, prompt.is_chat) for prompt in prompts]}
    made = make_prompts(message)
    assert [repr(prompt) for prompt in made] == [repr(prompt) for prompt in prompts]
