"""Gold items, and outputs that are written for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from task_sources import STRICT

from dsrl.plugins.specs import hookimpl
from dsrl.plugins.task_checks.gold import Answers, CheckedTask, collect_gold
from dsrl.testing import SmallTask
from dsrl.types import Example


def test_gold_comes_from_everywhere(bound: Any) -> None:
    class Procedural(SmallTask):
        @hookimpl
        def domains(self) -> list[str]:
            return ["cats"]

        @hookimpl
        def demos(self, domain: str) -> list[Example]:
            return [Example(f"A {domain or 'dog'}?", "yes")]

        @hookimpl
        def procedural_sample(self, seed: int, difficulty: int) -> Example:
            return Example(f"{seed} {difficulty}", "no")

    task = CheckedTask(bound("task", Procedural(items=[Example("A?", "yes"), Example("B?", "no")])))
    gold = collect_gold(task, "", 1)
    assert [item.place for item in gold.demos] == ["demonstration 1", "demonstration 1 of the domain cats"]
    assert [(item.place, item.input) for item in gold.test_items] == [("test set, item 1", "A?")]
    assert gold.samples[4].place == "procedural sample with seed 4 and difficulty 2"
    assert gold.items == [*gold.demos, *gold.test_items, *gold.samples]
    assert collect_gold(task, None, 1).test_items == []


def test_choices_serve_if_there_is_nothing_else(bound: Any) -> None:
    gold = collect_gold(CheckedTask(bound("task", SmallTask())), "", 9)
    assert [item.output for item in gold.items] == ["yes", "no"]
    assert "--dataset-path" in gold.no_test_set


def test_a_file_that_is_not_there_is_a_fault_and_no_test_set_is_none(bound: Any, tmp_path: Path) -> None:
    task = CheckedTask(bound("task", SmallTask()))
    (tmp_path / "empty.jsonl").touch()
    (fault,) = collect_gold(task, str(tmp_path / "empty.jsonl"), 9).faults
    assert "empty.jsonl" in fault.message
    assert collect_gold(task, "", 9).faults == []


def test_each_call_is_reported_before_it_is_made(bound: Any) -> None:
    words: list[str] = []
    task = CheckedTask(bound("task", STRICT), lambda call, seconds: words.append(call))
    task.compute_reward("<answer>yes</answer>", "yes", "Is it?")
    task.is_right("a" * 1000, "yes", "Is it?")
    assert words[0] == "reward on '<answer>yes</answer>'"
    assert words[1].startswith("process_prediction and eval on 'aaa")
    assert words[1].endswith("(1,000 characters)")


PARSERS = {
    "the last word": "output.split()[-1] if output.split() else UNREADABLE",
    "after ####": "output.rpartition('####')[2].strip() if '####' in output else UNREADABLE",
    "in a box": "output.rpartition('boxed{')[2].partition('}')[0] if 'boxed{' in output else UNREADABLE",
    "a form of its own": "output.rpartition('[[')[2].partition(']]')[0] if '[[' in output else UNREADABLE",
}


@pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS.keys())
def test_the_form_of_an_answer_is_found(bound: Any, parser: str) -> None:
    gold_output = "7 [[yes]]." if "[[" in parser else "yes"
    source = f"""
from dsrl import UNREADABLE, Example, hookimpl

@hookimpl
def description(): return "d"

@hookimpl
def output_instruction(): return "o"

@hookimpl
def process_label(output): return output.replace("7 [[", "").replace("]].", "")

@hookimpl
def process_prediction(output): return ({parser}) or UNREADABLE

@hookimpl
def demos(): return [Example("A?", {gold_output!r}), Example("B?", {gold_output.replace("yes", "no")!r})]
"""
    task = CheckedTask(bound("task", source))
    answers = Answers(task, collect_gold(task, None, 0))
    assert [(item.label, task.is_right(item.right, item.label, item.input)) for item in answers.items] == [
        ("yes", True),
        ("no", True),
    ]
    assert task.is_right(answers.write("maybe"), "maybe", "")
    assert answers.list_wrong(answers.items[0]) == ["no"]


def test_open_answers_are_no_choices(bound: Any) -> None:
    items = [Example(f"{n}?", str(n)) for n in range(30)]
    task = CheckedTask(bound("task", SmallTask(choices=(), items=items)))
    answers = Answers(task, collect_gold(task, "", 30))
    assert answers.choices == ()
    assert answers.list_wrong(answers.items[3]) == ["4", "5", "6", "7"]
    closed = CheckedTask(bound("task", SmallTask(items=items)))
    assert Answers(closed, collect_gold(closed, "", 30)).choices == ("yes", "no")
