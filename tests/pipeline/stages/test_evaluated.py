from __future__ import annotations

import asyncio
import math
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_contexts import edit_tasks

from dsrl.errors import DataError, DsrlError, PluginError
from dsrl.pipeline.judging import JudgeCounts
from dsrl.pipeline.runtime import OpenRun
from dsrl.pipeline.stages.evaluated import _store_items, compute_gain, evaluate, load_items
from dsrl.pipeline.stages.evaluated import _warn_of_one_answer as warn_of_one_answer
from dsrl.plugins.binding import Plugin
from dsrl.storage.attempts import DevItem
from dsrl.storage.evaluations import EvalItem, Evaluation
from dsrl.testing import SmallTask
from dsrl.types import UNREADABLE, Example, Sample

# --- test items ------------------------------------------------------------------------------------------------------


def test_items_are_inputs_with_canonical_labels(bound: Any) -> None:
    task = bound(
        "task",
        SmallTask(items=[Example("A?", "Yes"), Example("B?", "<answer>no</answer>"), Example("C?", "yes")]),
    )
    assert load_items(task, "", 0) == [EvalItem("A?", "yes"), EvalItem("B?", "no"), EvalItem("C?", "yes")]
    assert load_items(task, "", 2) == [EvalItem("A?", "yes"), EvalItem("B?", "no")]
    assert len(load_items(task, "", 9)) == 3


def test_no_more_items_are_read_than_requested(bound: Any) -> None:
    task = bound("task", SmallTask(items=(Example(str(number), "yes") for number in count())))
    assert len(load_items(task, "", 5)) == 5


def test_a_task_without_data_needs_a_path(task: Plugin[Any], tmp_path: Path) -> None:
    assert load_items(task, "", 0) == []
    (tmp_path / "items.jsonl").write_text('{"input": "A?", "output": "YES"}\n', encoding="utf-8")
    assert load_items(task, str(tmp_path / "items.jsonl"), 0) == [EvalItem("A?", "yes")]


def test_an_empty_test_set_is_refused(bound: Any) -> None:
    with pytest.raises(DataError, match=r"the test set of the task 'task0' is empty"):
        load_items(bound("task", SmallTask(items=[])), "", 0)


@pytest.mark.parametrize("items", [[("A?", "yes")], [{"input": "A?"}], ["A?"], 5, (1 / 0 for _ in "x")])
def test_a_task_whose_items_are_no_examples_is_named(bound: Any, items: Any) -> None:
    with pytest.raises(DsrlError, match="task0"):
        load_items(bound("task", SmallTask(items=items)), "", 0)


def test_items_can_be_stored_whatever_they_hold(bound: Any) -> None:
    task = bound("task", SmallTask(choices=(), items=[Example("\ud800?", "\ud800")]))
    (item,) = load_items(task, "", 0)
    assert item.input.encode()
    assert item.label.encode()


# --- answers ---------------------------------------------------------------------------------------------------------


def test_each_item_is_answered_once(model: Any) -> None:
    outputs = {"A?": "<answer>yes</answer>", "B?": "<answer>yes</answer>", "C?": "?"}
    items = [(3, EvalItem("A?", "yes")), (4, EvalItem("B?", "no")), (7, EvalItem("C?", "no"))]
    answering = model(lambda prompt, number: outputs[prompt.removesuffix(" In <answer> tags.")])
    assert asyncio.run(evaluate(answering, "base", items)) == [
        Evaluation("base", 3, outputs["A?"], "yes", True),
        Evaluation("base", 4, outputs["B?"], "yes", False),
        Evaluation("base", 7, "?", UNREADABLE, False),
    ]


def test_a_sampler_that_returns_no_text_is_named(model: Any) -> None:
    with pytest.raises(PluginError, match="sampler"):
        asyncio.run(evaluate(model(lambda *_: "x", fewer=1), "base", [(0, EvalItem("A?", "yes"))]))


# --- the paired gain -------------------------------------------------------------------------------------------------


def outcomes(both: int, won: int, lost: int, neither: int) -> tuple[dict[int, bool], dict[int, bool]]:
    """Return the items that both models got right, only the trained one, only the base model, none."""
    pairs = [(True, True)] * both + [(False, True)] * won + [(True, False)] * lost + [(False, False)] * neither
    return {i: base for i, (base, _) in enumerate(pairs)}, {i: trained for i, (_, trained) in enumerate(pairs)}


def test_the_gain_of_a_case_worked_by_hand() -> None:
    """100 items, 30 won, 10 lost: p12 = 31/102, p21 = 11/102, interval by Bonett and Price (2012)."""
    gain, (low, high) = compute_gain(*outcomes(40, 30, 10, 20))
    assert gain == pytest.approx(0.2)
    middle = 20 / 102
    half = 1.959964 * math.sqrt((42 / 102 - middle**2) / 102)
    assert (low, high) == (pytest.approx(middle - half), pytest.approx(middle + half))
    assert (low, high) == (pytest.approx(0.0776, abs=1e-3), pytest.approx(0.3146, abs=1e-3))


def test_two_models_that_agree_have_no_gain_and_still_an_interval() -> None:
    gain, (low, high) = compute_gain(*outcomes(5, 0, 0, 5))
    assert gain == 0
    assert low == pytest.approx(-high)
    assert 0 < high < 0.5


counts = st.tuples(*[st.integers(0, 60)] * 4).filter(any)


@given(counts)
def test_the_gain_of_the_turned_pair_is_turned(case: tuple[int, int, int, int]) -> None:
    base, trained = outcomes(*case)
    gain, (low, high) = compute_gain(base, trained)
    turned, (turned_low, turned_high) = compute_gain(trained, base)
    assert turned == pytest.approx(-gain)
    assert (turned_low, turned_high) == (pytest.approx(-high), pytest.approx(-low))


@given(counts)
def test_the_interval_holds_the_gain_and_is_possible(case: tuple[int, int, int, int]) -> None:
    base, trained = outcomes(*case)
    gain, (low, high) = compute_gain(base, trained)
    assert -1 <= low <= gain + 1e-9
    assert gain - 1e-9 <= high <= 1
    assert gain == pytest.approx((sum(trained.values()) - sum(base.values())) / len(base))


@given(counts)
def test_where_both_agree_does_not_matter(case: tuple[int, int, int, int]) -> None:
    both, won, lost, neither = case
    assert compute_gain(*outcomes(both + neither, won, lost, 0)) == compute_gain(*outcomes(*case))


def test_models_on_different_items_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="the same items"):
        compute_gain({0: True}, {1: True})
    with pytest.raises(ValueError, match="the same items"):
        compute_gain({}, {})


def test_test_items_that_chose_the_best_model_are_told(make_run: Any) -> None:
    run = make_run()
    dev_items = [DevItem(None, "Is  it?", "a"), DevItem(None, "other", "a"), DevItem("1-0", "Is that?", "a")]
    run.store.add_samples([Sample("1-0", 1, 0, "initial", "q", "o")])
    run.store.add_selected(1, [], 1, dev_items)
    object.__setattr__(run.context, "test_items", [EvalItem("new", "a"), EvalItem("Is that?", "a")])
    _store_items(run)
    assert run.store.events() == []
    object.__setattr__(run.context, "test_items", [EvalItem("new", "a"), EvalItem("is it?", "a")])
    _store_items(run)
    text = [text for _, level, text in run.store.events() if level == "warning"]
    assert text[0].startswith("1 of the 2 test items were development items of the training (--eval-data train)")


@pytest.mark.parametrize(
    ("answers", "is_told"),
    [
        (["yes"] * 20, True),
        (["yes"] * 18 + ["no"] * 2, True),
        (["yes"] * 12 + ["no"] * 8, False),
        (["yes"] * 10 + [UNREADABLE] * 10, False),
    ],
)
def test_a_model_that_gives_one_answer_is_told(make_run: Any, answers: list[Any], is_told: bool) -> None:
    run: OpenRun = make_run()
    run.store.replace_items([EvalItem(f"{n}?", "yes" if n < 8 else "no") for n in range(20)])
    run.store.add_evaluations(
        [
            Evaluation("trained", n, "t", answer, answer == ("yes" if n < 8 else "no"))
            for n, answer in enumerate(answers)
        ]
    )
    warn_of_one_answer(run)
    warnings = [text for _, level, text in run.store.events() if level == "warning"]
    assert [f"answers 'yes' to {answers.count('yes')} of the 20" in text for text in warnings] == [True] * is_told


def test_answers_to_items_of_a_judged_task_are_judged(judged_model: Any, points_judge: Any) -> None:
    items = [(3, EvalItem("A?", "gold")), (4, EvalItem("B?", "gold"))]
    answering = judged_model(lambda prompt, number: "good" if prompt.startswith("A") else "bad")
    assert asyncio.run(evaluate(answering, "base", items)) == [
        Evaluation("base", 3, "good", "good", True),
        Evaluation("base", 4, "bad", "bad", False),
    ]
    assert [(each.input, each.reference) for each in points_judge.judged] == [("A?", "gold"), ("B?", "gold")]


def test_the_ledger_is_opened_for_judged_tasks_only(make_run: Any) -> None:
    run = make_run()

    async def open_judges(run: Any) -> list[str]:
        async with run.open_judges(JudgeCounts()) as judges:
            return list(judges)

    assert asyncio.run(open_judges(run)) == []
    assert not run.context.workspace.reply_store.exists()
    judged = OpenRun(edit_tasks(run.context, rubric="Good."), run.store, run.progress)
    assert asyncio.run(open_judges(judged)) == [""]
    assert run.context.workspace.reply_store.exists()


def test_answers_that_no_judgement_could_be_read_for_are_told(make_run: Any) -> None:
    run = make_run()
    run.warn_of_judgements("evaluated", 0, JudgeCounts(judged=9))
    assert run.store.events() == []
    run.warn_of_judgements("evaluated", 0, JudgeCounts(judged=40, unreadable=1))
    ((_, level, text),) = run.store.events()
    assert level == "warning"
    assert text.startswith("the judge, in the stage 'evaluated': for 1 of 40 answers (2.5%) no judgement could be read")
