from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrl.errors import PluginError
from dsrl.pipeline.stages.scored import compute_score, score
from dsrl.testing import SmallTask
from dsrl.types import UNREADABLE, Sample, Score

YES, NO, NONE = "<answer>yes</answer>", "<answer>no</answer>", "no idea"
SAMPLES = [Sample(f"1-0000{slot}", 1, slot, "initial", f"{slot}?", "o", label="yes") for slot in range(3)]


@pytest.mark.parametrize(
    ("passed", "attempts", "expected"),
    [(0, 64, 1.0), (1, 64, 1 / 64), (32, 64, 0.5), (64, 64, 1.0), (0, 1, 1.0), (1, 1, 1.0)],
)
def test_equation_7_is_the_pass_rate_and_one_for_a_sample_never_solved(
    passed: int, attempts: int, expected: float
) -> None:
    assert compute_score(passed, attempts) == expected


@given(st.integers(1, 1000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_equation_7_is_never_zero(case: tuple[int, int]) -> None:
    assert 0 < compute_score(*case) <= 1


def run_scoring(model: Any, attempts: int) -> Any:
    return asyncio.run(score(model, SAMPLES, attempts, 0.7, 0))


def test_the_pass_rate_counts_right_answers(model: Any) -> None:
    outputs = {"0?": [YES, NO, "so: " + YES, NONE], "1?": [NO, NONE, NONE, NO], "2?": [YES] * 4}
    answering = model(lambda prompt, number: outputs[prompt.partition(" ")[0]][number])
    first, second, third = run_scoring(answering, 4)
    assert first == (Score("1-00000", 4, 2, 0.5), {"yes": (2, True), "no": (1, False), UNREADABLE: (1, False)})
    assert second == (Score("1-00001", 4, 0, 1.0), {"no": (2, False), UNREADABLE: (2, False)})
    assert third == (Score("1-00002", 4, 4, 1.0), {"yes": (4, True)})
    assert (first[0].pass_rate, second[0].pass_rate) == (0.5, 0.0)


def test_no_samples_are_no_scores(model: Any) -> None:
    assert asyncio.run(score(model(lambda *_: YES), [], 4, 0.7, 0)) == []


@pytest.mark.parametrize("fewer", [1, -1])
def test_a_sampler_that_gives_another_number_of_attempts_is_named(model: Any, fewer: int) -> None:
    """Else every pass rate would be wrong, and nobody would know."""
    with pytest.raises(PluginError, match="sampler"):
        run_scoring(model(lambda *_: YES, fewer=fewer), 4)


def test_the_answers_behind_a_score_can_be_stored(bound: Any, model: Any) -> None:
    open_task = bound("task", SmallTask(choices=()))
    for _, answers in run_scoring(model(lambda *_: "<answer>\ud800</answer>", task=open_task), 2):
        assert all(str(answer).encode() for answer in answers)


def test_each_different_attempt_at_a_judged_task_is_judged_once(judged_model: Any, points_judge: Any) -> None:
    outputs = ["good", "<answer>yes</answer> good", "<answer>yes</answer> bad", "good"]
    first, *_ = asyncio.run(score(judged_model(lambda prompt, number: outputs[number]), SAMPLES, 4, 0.7, 0))
    assert first == (
        Score("1-00000", 4, 3, 0.75),
        {"good": (2, True), outputs[1]: (1, True), outputs[2]: (1, False)},
    )
    assert len(points_judge.judged) == 3 * len(SAMPLES)
