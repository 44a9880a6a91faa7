from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrl.errors import RowRefused
from dsrl.pipeline.instructor import Definition
from dsrl.pipeline.judging import Submission
from dsrl.pipeline.stages.verified import (
    VotePolicy,
    compute_confidence,
    count_needed_votes,
    find_majority,
    verify,
    verify_by_judge,
)
from dsrl.plugins.binding import Plugin
from dsrl.types import UNREADABLE, Answer, Sample

SAMPLE = Sample("1-00000", 1, 0, "initial", "Is it?", "<answer>yes</answer>", passage="p")


# --- the majority (paper, A.3) ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "label", "reason"),
    [
        (["a"], "a", None),
        (["a", "a", "b"], "a", None),
        (["b", "a", "a"], "a", None),
        (["a", "b"], None, "no_majority"),
        (["a", "a", "b", "b", "c"], None, "no_majority"),
        (["a", "b", "c"], None, "no_majority"),
        (["a", "a", "b", "c"], "a", None),
        ([UNREADABLE, UNREADABLE, UNREADABLE, "a"], "a", None),
        ([UNREADABLE] * 17, None, "no_readable_answer"),
        ([], None, "no_readable_answer"),
        ([""], "", None),
    ],
)
def test_the_most_frequent_readable_answer_wins(answers: list[Answer], label: str | None, reason: str | None) -> None:
    assert find_majority(answers) == (label, reason)


def test_the_samples_own_answer_breaks_a_tie_of_the_votes() -> None:
    votes: list[Answer] = ["a"] * 8 + ["b"] * 8
    assert find_majority(votes) == (None, "no_majority")
    assert find_majority(["a", *votes]) == ("a", None)
    assert find_majority(["b", *votes]) == ("b", None)
    assert find_majority([UNREADABLE, *votes]) == (None, "no_majority")


@given(st.lists(st.sampled_from(["a", "b", "c", UNREADABLE]), max_size=17), st.randoms())
def test_the_majority_does_not_hang_on_the_order(answers: list[Answer], rng: Any) -> None:
    turned = list(answers)
    rng.shuffle(turned)
    label, reason = find_majority(answers)
    assert find_majority(turned) == (label, reason)
    assert (label is None) != (reason is None)
    counts = Counter(answer for answer in answers if answer is not UNREADABLE)
    if label is not None:
        assert all(counts[label] > count for answer, count in counts.items() if answer != label)


# --- rounds ----------------------------------------------------------------------------------------------------------


def in_rounds(answers: list[Answer], confidence: float = 0.0) -> list[Answer]:
    """Give the part of all answers (own first) that voting in rounds looks at."""
    taken = 1
    while more := count_needed_votes(answers[:taken], len(answers) - 1, confidence):
        taken += more
    return answers[:taken]


@pytest.mark.parametrize("seed", range(20))
def test_fewer_votes_never_change_a_label(seed: int) -> None:
    """Over thousands of rows of votes with ties, close races and unreadable ones."""
    rng = Random(seed)
    for _ in range(500):
        names: list[Answer] = [*"abcdefgh"[: rng.randint(1, 8)], UNREADABLE]
        weights = [rng.random() ** 3 for _ in names]
        answers = rng.choices(names, weights, k=rng.choice([1, 2, 3, 5, 17, 17, 17]))
        used = in_rounds(answers)
        assert find_majority(used) == find_majority(answers)
        assert used == answers[: len(used)]


@given(st.lists(st.sampled_from(["a", "b", UNREADABLE]), min_size=1, max_size=17))
def test_voting_stops_as_soon_as_the_label_is_settled_and_not_before(answers: list[Answer]) -> None:
    used = in_rounds(answers)
    if len(used) < len(answers):
        others = [[*used, *([other] * (len(answers) - len(used)))] for other in ("a", "b", "c", UNREADABLE)]
        assert len({find_majority(other) for other in others}) == 1
    before = used[:-1]
    if before and count_needed_votes(before, len(answers) - 1):
        left = len(answers) - len(before)
        turned = {find_majority([*before, *([other] * left)]) for other in ("a", "b", "c", UNREADABLE)}
        assert len(turned) > 1


def test_a_clear_case_takes_eight_votes_of_sixteen() -> None:
    assert len(in_rounds(["a"] * 17)) == 9
    assert len(in_rounds([UNREADABLE, *["a"] * 16])) == 10
    assert len(in_rounds(["b", *["a"] * 16])) == 10
    assert in_rounds(["a", *["b"] * 8, *["a"] * 8]) == ["a", *["b"] * 8, *["a"] * 8], "open to the last vote"


def test_a_confidence_stops_earlier() -> None:
    assert len(in_rounds(["a"] * 17, 0.99)) == 6
    assert len(in_rounds(["a"] * 17, 0.95)) == 4
    assert len(in_rounds([UNREADABLE] * 17, 0.6)) == 17, "no leader, no confidence"


@given(st.integers(0, 17), st.integers(0, 17))
def test_the_confidence_is_the_mass_of_a_beta_distribution(leader: int, second: int) -> None:
    steps = 4000
    points = [(i + 0.5) / steps for i in range(steps)]
    density = [p**leader * (1 - p) ** second for p in points]
    assert compute_confidence(leader, second) == pytest.approx(sum(density[steps // 2 :]) / sum(density), abs=1e-4)


def test_the_last_of_so_many_rounds_asks_for_all_that_are_left(
    asking: Any, definition: Definition, task: Plugin[Any]
) -> None:
    texts = [tagged("no")] * 8 + [tagged("yes")] * 8
    (sample, _), requests = asking(
        lambda request, number: texts[number],
        lambda i: verify(i, definition, task, SAMPLE, VotePolicy(16, max_rounds=2)),
    )
    assert [(r.first, r.n) for r in requests] == [(0, 8), (8, 8)]
    assert sample.label == "yes"


# --- verification ----------------------------------------------------------------------------------------------------


def tagged(answer: str) -> str:
    return f"<think>..</think><answer>{answer}</answer>"


def test_the_label_is_settled_by_the_votes_and_the_samples_own_answer(
    asking: Any, definition: Definition, task: Plugin[Any]
) -> None:
    texts = [tagged("no"), tagged("no"), "who knows", tagged("YES")]
    (sample, answers), requests = asking(
        lambda request, number: texts[number], lambda i: verify(i, definition, task, SAMPLE, VotePolicy(4))
    )
    assert answers == ["yes", "no", "no", UNREADABLE, "yes"]
    assert sample == replace(SAMPLE, dropped="no_majority")
    request = requests[0]
    assert [(r.first, r.n) for r in requests] == [(0, 2), (2, 1), (3, 1)], "as many as could settle it"
    assert (request.purpose, request.temperature) == ("solve", 0.7)
    assert [message.content for message in request.messages] == ["Is it? In <answer> tags."]
    assert request.variables == {"input": "Is it?"}


def test_the_votes_can_overrule_the_sample(asking: Any, definition: Definition, task: Plugin[Any]) -> None:
    (sample, _), _ = asking(
        lambda request, number: tagged("no"), lambda i: verify(i, definition, task, SAMPLE, VotePolicy(16))
    )
    assert (sample.label, sample.dropped) == ("no", None)


def test_no_votes_leave_the_samples_own_answer(asking: Any, definition: Definition, task: Plugin[Any]) -> None:
    (sample, answers), requests = asking(
        lambda request, number: "", lambda i: verify(i, definition, task, SAMPLE, VotePolicy(0))
    )
    assert (sample.label, answers, requests) == ("yes", ["yes"], [])


def test_a_sample_that_nobody_can_answer_is_dropped(asking: Any, definition: Definition, task: Plugin[Any]) -> None:
    own = replace(SAMPLE, output="no idea")
    (sample, _), _ = asking(
        lambda request, number: "no idea", lambda i: verify(i, definition, task, own, VotePolicy(3))
    )
    assert (sample.label, sample.dropped) == (None, "no_readable_answer")


def test_a_refused_vote_drops_the_sample_with_its_reason(
    asking: Any, definition: Definition, task: Plugin[Any]
) -> None:
    (sample, answers), _ = asking(
        lambda request, number: RowRefused("content_filter"),
        lambda i: verify(i, definition, task, SAMPLE, VotePolicy(3)),
    )
    assert (sample.label, sample.dropped, answers) == (None, "content_filter", ["yes"])


# --- the judge of a judged task ----------------------------------------------------------------------------------------


def test_the_output_of_a_judged_sample_is_its_label_or_it_is_dropped(points_judge: Any) -> None:
    output = " <think>Hm.</think> a good poem "
    sample, answers = asyncio.run(verify_by_judge(points_judge, replace(SAMPLE, output=output)))
    assert (sample.label, sample.dropped, answers) == (output.strip(), None, ["a good poem"])
    assert points_judge.judged == [Submission("Is it?", "a good poem")], "without a reference"
    sample, answers = asyncio.run(verify_by_judge(points_judge, replace(SAMPLE, output="a bad poem")))
    assert (sample.label, sample.dropped, answers) == (None, "rejected_by_judge", ["a bad poem"])
    sample, answers = asyncio.run(verify_by_judge(points_judge, replace(SAMPLE, output="<think>good")))
    assert (sample.label, sample.dropped, answers) == (None, "rejected_by_judge", [UNREADABLE])
