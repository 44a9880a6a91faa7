from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrl.pipeline.stages.scored import compute_score
from dsrl.pipeline.stages.selected import select
from dsrl.settings import SELECTIONS
from dsrl.types import Score


def make_scores(**passed: int) -> list[Score]:
    """Make scores of ten attempts from sample -> right ones."""
    return [Score(sample, 10, right, compute_score(right, 10)) for sample, right in passed.items()]


SCORES = make_scores(never=0, hard=1, middle=5, easy=9, always=10)
rules = st.sampled_from(SELECTIONS)
scores = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(0, 10)).map(lambda d: make_scores(**d))


@pytest.mark.parametrize(
    ("rule", "m", "chosen"),
    [
        ("potential", 3, ["hard", "middle", "easy"]),
        ("potential", 1, ["hard"]),
        ("easy", 3, ["always", "easy", "middle"]),
        ("hard", 3, ["never", "hard", "middle"]),
    ],
)
def test_the_rules_of_the_paper_choose_by_score(rule: str, m: int, chosen: list[str]) -> None:
    assert select(SCORES, m, rule, 0) == chosen


def test_samples_always_or_never_solved_come_last_by_potential() -> None:
    assert set(select(SCORES, 5, "potential", 0)[3:]) == {"never", "always"}


def test_full_takes_all_whatever_m_is() -> None:
    assert set(select(SCORES, 1, "full", 0)) == {score.sample for score in SCORES}


def test_random_takes_others_under_another_seed() -> None:
    drawn = {tuple(select(SCORES, 2, "random", seed)) for seed in range(40)}
    assert len(drawn) > 5
    assert {sample for pair in drawn for sample in pair} == {score.sample for score in SCORES}


def test_an_unknown_rule_is_a_fault() -> None:
    with pytest.raises(ValueError, match="there is no selection rule 'best'"):
        select(SCORES, 1, "best", 0)


def test_ties_are_broken_the_same_way_every_time_and_by_the_seed() -> None:
    tied = make_scores(**{f"s{number}": 3 for number in range(20)})
    first = select(tied, 5, "potential", 0)
    assert select(tied, 5, "potential", 0) == first
    assert select(tied, 5, "potential", 1) != first
    assert first != [f"s{number}" for number in range(5)], "not the order of writing"


@given(scores, rules, st.integers(1, 30), st.integers(0, 3), st.randoms())
def test_the_choice_does_not_hang_on_the_order_of_input(
    scores: list[Score], rule: str, m: int, seed: int, rng: Any
) -> None:
    turned = list(scores)
    rng.shuffle(turned)
    assert select(turned, m, rule, seed) == select(scores, m, rule, seed)


@given(scores, rules, st.integers(1, 30), st.integers(0, 3), st.data())
def test_the_order_of_two_does_not_hang_on_who_else_is_there(
    scores: list[Score], rule: str, m: int, seed: int, data: Any
) -> None:
    part = data.draw(st.lists(st.sampled_from(scores), unique=True)) if scores else []
    whole = select(scores, len(scores), rule, seed)
    remaining = {score.sample for score in part}
    assert select(part, len(scores), rule, seed) == [sample for sample in whole if sample in remaining]


@given(scores, rules, st.integers(1, 30), st.integers(0, 3))
def test_m_are_chosen_or_all_and_none_twice(scores: list[Score], rule: str, m: int, seed: int) -> None:
    chosen = select(iter(scores), m, rule, seed)
    assert len(set(chosen)) == len(chosen) == (len(scores) if rule == "full" else min(m, len(scores)))
    assert select(scores, len(scores), rule, seed)[: len(chosen)] == chosen, "M more are the same and some"


@given(scores, st.integers(1, 30))
def test_by_potential_no_sample_left_out_scores_lower(scores: list[Score], m: int) -> None:
    chosen = set(select(scores, m, "potential", 0))
    taken = [score.score for score in scores if score.sample in chosen]
    left = [score.score for score in scores if score.sample not in chosen]
    assert not left or max(taken) <= min(left)
