"""Garbage and shortcuts that are tried with a task."""

from __future__ import annotations

from typing import Any

import pytest
from task_sources import STRICT

from dsrl.plugins.task_checks.gold import Answers, CheckedTask, collect_gold
from dsrl.plugins.task_checks.probes import find_best_constant, list_garbage, list_shortcuts
from dsrl.testing import SmallTask
from dsrl.types import Example


@pytest.fixture
def task(bound: Any) -> CheckedTask:
    return CheckedTask(bound("task", STRICT))


def make_outputs(task: CheckedTask, place: int = 1) -> dict[str, str | None]:
    answers = Answers(task, collect_gold(task, "", 20))
    items = answers.items
    return {shortcut.name: shortcut.make(items[place]) for shortcut in list_shortcuts(task, answers, items)}


def test_garbage_has_the_stated_length(task: CheckedTask) -> None:
    answers = Answers(task, collect_gold(task, "", 20))
    texts = list(list_garbage(answers, 10_000_000))
    assert max(map(len, texts)) == 10_000_000
    assert sum(len(text) > 9_999_900 for text in texts) > 15
    assert "" in texts


def test_shortcuts_are_written_in_the_form_of_the_task(task: CheckedTask) -> None:
    outputs = make_outputs(task)
    form = "<think> </think> <answer> {} </answer>"
    assert outputs["always the most frequent label"] == form.format("yes")
    assert outputs["the input copied"] == "Is 0 even? (yes or no)"
    assert outputs["the input copied as the answer"] == form.format("Is 0 even? (yes or no)")
    assert outputs["the output instruction copied"] == "Write yes or no into <answer> </answer>."
    assert outputs["the output of demonstration 1 copied"] == "yes"
    assert outputs["every label in one answer"] == form.format("yes, no")
    assert outputs["two answers in one (RIGHT or WRONG)"] == form.format("yes or no")
    assert outputs["two answers in one (WRONG or RIGHT)"] == form.format("no or yes")
    assert outputs["a denial (not RIGHT)"] == form.format("not yes")
    assert outputs["a larger expression (RIGHT/7)"] is None
    assert outputs["the options of the input copied"] is None


def test_options_and_numbers_of_the_input_are_used(bound: Any) -> None:
    text = "Which one?\nA. one\nB. two"
    items = [Example(text, str(n)) for n in range(3)]
    outputs = make_outputs(CheckedTask(bound("task", SmallTask(choices=(), items=items))), 2)
    form = "<think> </think> <answer> {} </answer>"
    assert outputs["the options of the input copied"] == form.format("A. one\nB. two")
    assert outputs["a larger expression (RIGHT/7)"] == form.format("2/7")
    assert outputs["every label in one answer"] == form.format("0, 2, 1")
    one = make_outputs(CheckedTask(bound("task", SmallTask(choices=(), items=items))), 1)
    assert one["a larger expression (RIGHT^7)"] is None, "1 to the power of 7 is 1"


def test_chance_is_the_share_of_the_best_label(task: CheckedTask) -> None:
    items = Answers(task, collect_gold(task, "", 20)).items
    assert find_best_constant(items, task) == ("yes", 11 / 21)
