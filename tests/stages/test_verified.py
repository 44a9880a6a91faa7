from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrl.errors import RowRefused
from dsrl.instructor import Definition
from dsrl.plugins import Plugin
from dsrl.records import UNREADABLE, Answer, Sample
from dsrl.stages.verified import majority, verify

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
    assert majority(answers) == (label, reason)


def test_the_samples_own_answer_breaks_a_tie_of_the_votes() -> None:
    votes: list[Answer] = ["a"] * 8 + ["b"] * 8
    assert majority(votes) == (None, "no_majority")
    assert majority(["a", *votes]) == ("a", None)
    assert majority(["b", *votes]) == ("b", None)
    assert majority([UNREADABLE, *votes]) == (None, "no_majority")


@given(st.lists(st.sampled_from(["a", "b", "c", UNREADABLE]), max_size=17), st.randoms())
def test_the_majority_does_not_hang_on_the_order(answers: list[Answer], rng: Any) -> None:
    turned = list(answers)
    rng.shuffle(turned)
    label, reason = majority(answers)
    assert majority(turned) == (label, reason)
    assert (label is None) != (reason is None)
    counts = Counter(answer for answer in answers if answer is not UNREADABLE)
    if label is not None:
        assert all(counts[label] > count for answer, count in counts.items() if answer != label)


# --- verification ----------------------------------------------------------------------------------------------------


def tagged(answer: str) -> str:
    return f"<think>..</think><answer>{answer}</answer>"


def test_the_label_is_settled_by_the_votes_and_the_samples_own_answer(
    asking: Any, definition: Definition, task: Plugin[Any]
) -> None:
    texts = [tagged("no"), tagged("no"), "who knows", tagged("YES")]
    (sample, answers), (request,) = asking(
        lambda request, number: texts[number], lambda i: verify(i, definition, task, SAMPLE, 4)
    )
    assert answers == ["yes", "no", "no", UNREADABLE, "yes"]
    assert sample == replace(SAMPLE, dropped="no_majority")
    assert (request.purpose, request.n, request.temperature) == ("solve", 4, 0.7)
    assert [message.content for message in request.messages] == ["Is it? In <answer> tags."]
    assert request.variables == {"input": "Is it?"}


def test_the_votes_can_overrule_the_sample(asking: Any, definition: Definition, task: Plugin[Any]) -> None:
    (sample, _), _ = asking(lambda request, number: tagged("no"), lambda i: verify(i, definition, task, SAMPLE, 16))
    assert (sample.label, sample.dropped) == ("no", None)


def test_no_votes_leave_the_samples_own_answer(asking: Any, definition: Definition, task: Plugin[Any]) -> None:
    (sample, answers), requests = asking(lambda request, number: "", lambda i: verify(i, definition, task, SAMPLE, 0))
    assert (sample.label, answers, requests) == ("yes", ["yes"], [])


def test_a_sample_that_nobody_can_answer_is_dropped(asking: Any, definition: Definition, task: Plugin[Any]) -> None:
    own = replace(SAMPLE, output="no idea")
    (sample, _), _ = asking(lambda request, number: "no idea", lambda i: verify(i, definition, task, own, 3))
    assert (sample.label, sample.dropped) == (None, "no_readable_answer")


def test_a_refused_vote_drops_the_sample_with_its_reason(
    asking: Any, definition: Definition, task: Plugin[Any]
) -> None:
    (sample, answers), _ = asking(
        lambda request, number: RowRefused("content_filter"), lambda i: verify(i, definition, task, SAMPLE, 3)
    )
    assert (sample.label, sample.dropped, answers) == (None, "content_filter", ["yes"])
