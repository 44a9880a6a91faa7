from __future__ import annotations

import pytest

from dsrl.storage.attempts import Attempt
from dsrl.storage.evaluations import EvalItem, Evaluation
from dsrl.storage.run_store import RunStore
from dsrl.types import UNREADABLE, Sample, Score


def test_a_sample_row_has_everything_that_became_of_a_sample(store: RunStore) -> None:
    first = Sample("1-00000", 1, 0, "initial", "q", "o", task="t", domain="d")
    second = Sample("1-00001", 1, 1, "initial", "r", "p")
    store.add_samples([first, second])
    store.add_verdicts([(Sample("1-00000", 1, 0, "initial", "q", "o", label="yes"), ["no", "yes", "yes"])])
    store.add_greedy_attempts([Attempt("1-00000", "text", "yes", True)])
    store.add_scores([(Score("1-00000", 8, 2, 0.25), {"yes": (2, True), UNREADABLE: (6, False)})])
    store.add_selected(1, ["1-00000"])
    one, two = store.list_sample_rows()
    assert (one.id, one.task, one.domain, one.label, one.own_answer) == ("1-00000", "t", "d", "yes", "no")
    assert (one.is_solved, one.passed, one.attempts, one.score, one.place) == (True, 2, 8, 0.25, 1)
    assert one.agreement == pytest.approx(2 / 3)
    assert (two.label, two.dropped, two.is_solved, two.score, two.place, two.own_answer, two.agreement) == (None,) * 7


def test_a_sample_without_votes_has_no_agreement(store: RunStore) -> None:
    """A judged task: the judge accepts the text, and the row has the answer that was read in it."""
    store.add_samples([Sample("1-00000", 1, 0, "initial", "q", "o")])
    store.add_verdicts([(Sample("1-00000", 1, 0, "initial", "q", "o", label="the whole text"), ["text"])])
    assert [row.agreement for row in store.list_sample_rows()] == [None]


def test_an_item_row_has_the_answers_of_both_models(store: RunStore) -> None:
    store.replace_items([EvalItem("q", "yes", "t", "d"), EvalItem("r", "no")])
    store.add_evaluations(
        [Evaluation("base", 0, "out", UNREADABLE, False), Evaluation("trained", 0, "in", "yes", True)]
    )
    one, two = store.list_item_rows()
    assert (one.input, one.label, one.task, one.domain) == ("q", "yes", "t", "d")
    assert (one.base_output, one.base_answer, one.base_correct) == ("out", None, False)
    assert (one.trained_output, one.trained_answer, one.trained_correct) == ("in", "yes", True)
    assert (two.base_correct, two.trained_correct) == (None, None)
