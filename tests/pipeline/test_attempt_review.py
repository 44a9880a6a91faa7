from __future__ import annotations

from typing import Any

import pytest

from dsrl.errors import DataError
from dsrl.pipeline.attempt_review import explain_unreadable, review_attempts
from dsrl.storage.attempts import Attempt
from dsrl.types import UNREADABLE, Answer, Sample, Score


def fill(run: Any, outputs: list[tuple[str, Answer]], passed: int = 1, unreadable: int = 0) -> None:
    """Store greedy attempts, and for each sample 4 more attempts, of which some are right and some unreadable."""
    samples = [Sample(f"1-{slot:05d}", 1, slot, "initial", "q", "o", "a") for slot in range(len(outputs))]
    run.store.add_samples(samples)
    run.store.add_verdicts([(sample, ["a"]) for sample in samples])
    run.store.add_greedy_attempts(
        [Attempt(sample.id, output, answer, False) for sample, (output, answer) in zip(samples, outputs, strict=True)]
    )
    answers: dict[Answer, tuple[int, bool]] = {"a": (passed, True), UNREADABLE: (unreadable, False)}
    answers["b"] = (4 - passed - unreadable, False)
    run.store.add_scores([(Score(sample.id, 4, passed, 1.0), answers) for sample in samples])


def get_texts(run: Any) -> list[str]:
    return [text for _, _, text in run.store.events()]


def test_most_answers_that_cannot_be_read_are_told_with_two_of_them(make_run: Any) -> None:
    run = make_run(attempts=4)
    fill(run, [("", UNREADABLE)] * 7 + [("I\n  am \x1b[31m" + "x" * 500, UNREADABLE), ("ok", UNREADABLE), ("a", "a")])
    review_attempts(run, 1)
    (text,) = get_texts(run)
    assert text.startswith(
        "9 of 10 answers of the base model are empty or cannot be read, for example '' (7 times) and 'I am"
    )
    assert "An empty answer usually means that the model did not get the chat template" in text
    assert "\x1b" not in text
    assert len(text) < 500
    assert text.count("…") == 1
    review_attempts(run, 1)
    assert get_texts(run) == [text], "it is told once"


def test_eighty_percent_are_not_told(make_run: Any) -> None:
    run = make_run(attempts=4)
    fill(run, [("", UNREADABLE)] * 8 + [("a", "a")] * 2)
    review_attempts(run, 1)
    assert get_texts(run) == []


def test_unreadable_answers_among_the_attempts_are_told_too(make_run: Any) -> None:
    run = make_run(attempts=4)
    fill(run, [("", "")] * 2 + [("a", "a")] * 8, passed=0, unreadable=4)
    run.store.add_samples([Sample("1-00010", 1, 10, "initial", "q", "o", "a")])
    run.store.add_scores([(Score("1-00010", 4, 4, 1.0), {"a": (4, True)})])
    review_attempts(run, 1)
    (text,) = get_texts(run)
    assert text.startswith("40 of 44 answers of the base model are empty or cannot be read, for example '' (2 times). ")


@pytest.mark.parametrize("stage", ["keywords", "verified"])
def test_nothing_is_told_before_the_attempts(make_run: Any, stage: str) -> None:
    run = make_run(stage)
    fill(run, [("", UNREADABLE)] * 10, passed=0)
    review_attempts(run, 1)
    assert get_texts(run) == []


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ([("", 5), ("x", 4)], "chat template that it was trained with: see --chat-template"),
        (
            [("long " * 50 + "and then", 5), ("", 4)],
            "cut off at the limit of 64 tokens: give a larger --max-completion",
        ),
        ([("long " * 50 + "to the end.", 9)], "does not answer in the form that the task asks for"),
        ([("I think it is so", 9)], "does not answer in the form that the task asks for"),
        ([], "does not answer in the form that the task asks for"),
    ],
)
def test_the_likely_reason_is_told(texts: list[tuple[str, int]], reason: str) -> None:
    assert reason in explain_unreadable(texts, 64)


def test_a_model_that_solves_nothing_is_refused_before_the_training(make_run: Any) -> None:
    run = make_run(attempts=4)
    fill(run, [("b", "b")] * 3, passed=0)
    with pytest.raises(
        DataError, match="no sample was solved in 4 attempts: take another --base-model; --force goes on"
    ):
        review_attempts(run, 1)
    review_attempts(make_run("scored", attempts=4), 1)
    assert len(get_texts(run)) == 1, "a command that does not train only tells it"
    review_attempts(make_run(attempts=4, force=True), 1)
    assert get_texts(run) == ["no sample was solved in 4 attempts: take another --base-model; --force goes on"]
    run.store.add_selected(1, ["1-00000"], pool=3)
    review_attempts(run, 1)


def test_few_labels_are_told_with_it_because_the_teacher_may_be_the_reason(make_run: Any) -> None:
    run = make_run(attempts=4)
    fill(run, [("b", "b")], passed=0)
    run.store.add_samples([Sample(f"1-{n:05d}", 1, n, "initial", "", "p", dropped="truncated") for n in (1, 2)])
    with pytest.raises(DataError, match=r"only 1 of the 3 initial samples got a label \(dropped in all: 2 truncated\)"):
        review_attempts(run, 1)


def test_one_right_answer_is_enough(make_run: Any) -> None:
    run = make_run(attempts=4)
    fill(run, [("b", "b")] * 3, passed=0)
    run.store.add_samples([Sample("1-00010", 1, 10, "initial", "q", "o", "a")])
    run.store.add_scores([(Score("1-00010", 4, 1, 0.25), {"a": (1, True), "b": (3, False)})])
    review_attempts(run, 1)
    assert get_texts(run) == []


def test_samples_that_are_always_solved_are_told(make_run: Any) -> None:
    run = make_run(attempts=4)
    fill(run, [("a", "a")] * 3, passed=4)
    review_attempts(run, 1)
    (text,) = get_texts(run)
    assert text.startswith(
        "all 3 samples were solved in each of 4 attempts, so the training can learn nothing from them"
    )
