"""What becomes of samples that copy test items, from the writing to the evaluation."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from dsrl.pipeline.contamination import compare_training
from dsrl.pipeline.instructor import Definition
from dsrl.pipeline.progress import SilentProgress
from dsrl.pipeline.runtime import OpenRun
from dsrl.pipeline.slots import make_samples
from dsrl.pipeline.stages.selected import select_samples
from dsrl.pipeline.summary import load_notes
from dsrl.pipeline.task_results import compute_accuracies
from dsrl.plugins.specs import hookimpl
from dsrl.storage.evaluations import EvalItem, Evaluation
from dsrl.storage.lineage import lineage
from dsrl.types import Completion, Reply, Request, Sample, Score

ITEM = "A train leaves the old station at noon with forty people. How many of them are still there in the evening?"
COPY = ITEM.upper().replace("?", " ...")


class CopyingTeacher:
    """Writes a copy of the test item as its second sample; every request for a sample gets another text."""

    numbers = itertools.count()

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        if request.purpose == "solve":
            return Completion((Reply("<answer>entailment</answer>"),) * request.n)
        number = next(self.numbers)
        text = COPY if number == 1 else f"Question {number}?"
        reply = json.dumps({"input": text, "output": "<answer>entailment</answer>"})
        return Completion((Reply(reply),) * request.n)

    @hookimpl
    def price(self) -> Any:
        from dsrl.types import Price

        return Price(0, 0)


@pytest.fixture
def prepared(make_run: Any) -> Any:
    """Return a function that makes a run that knows one test item and has stored its keywords, passages and pattern."""

    def prepare(stop_after: str = "evaluated", **settings: Any) -> Any:
        CopyingTeacher.numbers = itertools.count()
        run = make_run(stop_after, {"teacher": CopyingTeacher}, samples=4, votes=2, concurrency=1, **settings)
        set_items(run, ITEM)
        run.store.add_keywords(1, {"": {"medicine": ["medicine"]}})
        run.store.add_passages(1, {"": {"medicine": []}})
        run.store.add_patterns(1, {("", ""): ""})
        return run

    return prepare


def set_items(run: Any, *items: str | EvalItem) -> None:
    texts = [EvalItem(item, "yes") if isinstance(item, str) else item for item in items]
    object.__setattr__(run.context, "test_items", texts)
    run.__dict__.pop("test_items", None)


def add_scored(run: Any, *texts: str | tuple[str, str]) -> None:
    """Add scored samples: their texts, or their task and text."""
    for slot, text in enumerate(texts):
        task, text = ("", text) if isinstance(text, str) else text
        sample = Sample(f"1-{slot}", 1, slot, "initial", text, "o", "yes", task=task)
        run.store.add_samples([sample])
        run.store.add_verdicts([(sample, ["yes"])])
        run.store.add_scores([(Score(sample.id, 4, 2, 0.5), {"yes": (2, True), "no": (2, False)})])


def test_a_copy_is_dropped_before_it_is_voted_on(prepared: Any) -> None:
    run = prepared("verified")
    make_samples(run, 1)
    (copy,) = [sample for sample in run.store.samples(1) if sample.dropped]
    assert (copy.input, copy.dropped) == (COPY, "contaminated")
    history = lineage(run.store, copy.id)
    assert history["votes"] == {}, "nobody has paid for votes"
    (match,) = history["matches"]
    assert (match["item"], match["item_input"], match["rule"], match["span"]) == (0, ITEM, "exact", COPY)
    assert run.store.count_samples()["contaminated"] == 1
    assert run.store.count_samples()["verified"] == 3


def test_nothing_is_compared_without_decontamination(prepared: Any) -> None:
    run = prepared("verified", decontaminate=False)
    make_samples(run, 1, 2)
    assert run.store.list_matches() == []
    assert run.test_items == {}


def test_the_selection_sets_aside_copies_of_items_and_of_samples(prepared: Any) -> None:
    run = prepared(select=4)
    add_scored(run, "One?", COPY, "Two?", "one")
    select_samples(run, 1)
    assert set(run.store.selected(1)) == {"1-0", "1-2"}
    assert [(m.sample, m.meaning, m.other) for m in run.store.list_matches()] == [
        ("1-1", "contaminated", None),
        ("1-3", "duplicate", "1-0"),
    ]
    counts = run.store.count_samples()
    assert (counts["scored"], counts["contaminated"], counts["duplicates"], counts["selected"]) == (4, 1, 1, 2)
    (warning,) = [text for _, level, text in run.store.events() if level == "warning"]
    assert warning.startswith("1 of 4 samples copy a test item and were set aside.")
    select_samples(run, 1)
    assert len(run.store.list_matches()) == 2


def test_a_selection_that_is_made_again_sets_aside_again(prepared: Any) -> None:
    run = prepared(select=4)
    add_scored(run, "One?", "one", "Two?")
    select_samples(run, 1)
    run.store.forget_training(1)
    select_samples(run, 1)
    assert [m.sample for m in run.store.list_matches()] == ["1-1"]


def test_all_samples_can_be_selected_without_decontamination(prepared: Any) -> None:
    run = prepared(select=4, decontaminate=False)
    add_scored(run, "One?", COPY, "one")
    select_samples(run, 1)
    assert len(run.store.selected(1)) == 3


def test_items_that_are_given_later_are_compared_with_the_training(prepared: Any) -> None:
    run = prepared(select=4)
    set_items(run, "another item")
    add_scored(run, "One?", COPY, "Two?")
    select_samples(run, 1)
    items = [EvalItem(text, "yes") for text in ("another item", ITEM, "a third", ITEM)]
    run.store.replace_items(items)
    set_items(run, *(item.input for item in items))
    compare_training(run)
    matches = [(m.sample, m.meaning, m.item) for m in run.store.list_matches()]
    assert matches == [("1-1", "trained", 1), ("1-1", "trained", 3)]
    note = load_notes(run.store, run.context.workspace)[-1]
    assert note.startswith("1 training samples copy 2 of the 4 test items")
    run.store.add_evaluations([Evaluation("base", n, "o", "a", n != 0) for n in range(4)])
    copied = run.store.list_trained_items()
    assert compute_accuracies(run.store, ["mednli"]).base == 0.75
    assert compute_accuracies(run.store, ["mednli"], copied).base == 0.5
    assert compute_accuracies(run.store, ["mednli"], copied).trained is None
    assert compute_accuracies(run.store, ["mednli"], {0, 1, 2, 3}).base is None


def test_the_training_is_compared_once_for_the_same_items(prepared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = prepared(select=4)
    add_scored(run, "One?")
    select_samples(run, 1)
    run.store.replace_items([EvalItem(ITEM, "yes")])
    compare_training(run)
    state = run.store.compared_training
    run.__dict__["test_items"] = "it would fail if it were used"
    compare_training(run)
    assert run.store.compared_training == state is not None


# --- two tasks in one run --------------------------------------------------------------------------------------------

OTHER = (
    "A cook buys nine brown eggs and breaks two of them on the way home. How many whole eggs are in the kitchen now?"
)
#: The test items of both tasks in turn, and which task each belongs to.
TWO_TASKS_ITEMS = [
    EvalItem("Nothing like it?", "yes", "second"),
    EvalItem(ITEM, "yes", "first"),
    EvalItem("What else is there?", "yes", "first"),
    EvalItem(OTHER, "yes", "second"),
]


class TwoTasksTeacher(CopyingTeacher):
    """Writes the test item of each task once among the samples of either task; the prompt names the task."""

    written: Counter[str]

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        if request.purpose == "solve":
            return Completion((Reply("<answer>entailment</answer>"),) * request.n)
        task = "first" if "task number first" in request.messages[0].content else "second"
        number = self.written[task]
        self.written[task] += 1
        text = {0: COPY, 1: OTHER.lower()}.get(number, f"Question {task} {number}?")
        return Completion((Reply(json.dumps({"input": text, "output": "<answer>entailment</answer>"})),) * request.n)


@pytest.fixture
def two_tasks(make_context: Any, open_store: Any) -> Any:
    """Return a function that makes a run over the tasks ``first`` and ``second``, with their items."""

    def prepare(stop_after: str = "evaluated", **settings: Any) -> OpenRun:
        TwoTasksTeacher.written = Counter()
        settings = {"samples": 6, "votes": 2, "concurrency": 1, **settings}
        context = make_context(stop_after, {"teacher": TwoTasksTeacher}, **settings)
        (task,) = context.tasks.values()
        names = ("first", "second")
        tasks = {
            name: replace(task, name=name, definition=Definition(f"This is task number {name}.", "", "o"))
            for name in names
        }
        run = OpenRun(replace(context, tasks=tasks, test_items=TWO_TASKS_ITEMS), open_store, SilentProgress())
        run.store.add_keywords(1, {name: {"medicine": ["medicine"]} for name in names})
        run.store.add_passages(1, {name: {"medicine": []} for name in names})
        run.store.add_patterns(1, {(name, ""): "" for name in names})
        return run

    return prepare


def test_a_copy_of_a_test_item_of_any_task_is_set_aside(two_tasks: Any) -> None:
    run = two_tasks("verified")
    make_samples(run, 1)
    samples = {sample.id: sample for sample in run.store.samples(1)}
    assert Counter(sample.task for sample in samples.values()) == {"first": 3, "second": 3}
    dropped = {(sample.task, sample.input) for sample in samples.values() if sample.dropped == "contaminated"}
    assert dropped == {(task, text) for task in ("first", "second") for text in (COPY, OTHER.lower())}
    matches = {(samples[m.sample].task, m.item, m.item_input, m.rule) for m in run.store.list_matches()}
    assert matches == {
        (task, number, text, "exact") for task in ("first", "second") for number, text in ((1, ITEM), (3, OTHER))
    }


def test_the_clearest_copy_is_shown_whatever_its_task(two_tasks: Any) -> None:
    run = two_tasks(select=8)
    items = [EvalItem(f"{ITEM} Say why they wait.", "yes", "first"), EvalItem(ITEM, "yes", "second")]
    set_items(run, *items, EvalItem(OTHER, "yes", "second"), EvalItem(OTHER, "yes", "first"))
    add_scored(run, ("first", ITEM), ("first", OTHER), ("second", OTHER), ("first", "One?"))
    select_samples(run, 1)
    # The second text is an item of both tasks: that of its own task is shown.
    assert [(m.sample, m.item, m.rule) for m in run.store.list_matches()] == [
        ("1-0", 1, "exact"),
        ("1-1", 3, "exact"),
        ("1-2", 2, "exact"),
    ]


def test_the_selection_looks_for_copies_and_duplicates_in_all_tasks(two_tasks: Any) -> None:
    run = two_tasks(select=8)
    texts = (
        ("first", "One?"),
        ("second", "ONE"),
        ("first", OTHER),
        ("second", OTHER),
        ("first", ITEM),
        ("second", "Two?"),
    )
    add_scored(run, *texts)
    select_samples(run, 1)
    assert set(run.store.selected(1)) == {"1-0", "1-5"}
    assert {(m.sample, m.meaning, m.item, m.other) for m in run.store.list_matches()} == {
        ("1-2", "contaminated", 3, None),
        ("1-3", "contaminated", 3, None),
        ("1-4", "contaminated", 1, None),
        ("1-1", "duplicate", None, "1-0"),
    }


def test_items_of_two_tasks_that_are_given_later_are_compared_with_the_training_of_both(two_tasks: Any) -> None:
    run = two_tasks(select=8)
    set_items(run, TWO_TASKS_ITEMS[0])
    add_scored(run, ("first", ITEM), ("second", "Two?"), ("first", OTHER))
    select_samples(run, 1)
    set_items(run, *TWO_TASKS_ITEMS)
    run.store.replace_items(TWO_TASKS_ITEMS)
    compare_training(run)
    assert set(run.store.selected(1)) == {"1-0", "1-1", "1-2"}
    assert [(m.sample, m.meaning, m.item) for m in run.store.list_matches()] == [
        ("1-0", "trained", 1),
        ("1-2", "trained", 3),
    ]
