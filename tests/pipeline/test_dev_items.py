from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dsrl.errors import DataError, SettingsError
from dsrl.pipeline.dev_items import MOST_REAL_ITEMS, check_eval_data, hold_out, load_real_items
from dsrl.pipeline.instructor import Definition
from dsrl.pipeline.run_tasks import RunTask
from dsrl.plugins.binding import Plugin, load
from dsrl.plugins.specs import hookimpl
from dsrl.settings import resolve
from dsrl.types import Example, PluginRef, Sample

MEDNLI = PluginRef("task", "mednli")


def make_samples(labels: list[str], is_rewritten: bool = False) -> list[Sample]:
    """Make a sample for each label; with ``is_rewritten``, also the one that was rewritten from it, with the same label."""
    samples = []
    for slot, label in enumerate(labels):
        samples.append(Sample(f"1-{slot:05d}", 1, slot, "initial", f"q{slot}", "o", label))
        if is_rewritten:
            parent = samples[-1].id
            samples.append(Sample(f"{parent}h", 1, slot, "harder", f"h{slot}", "o", label, parent=parent))
    return samples


@pytest.mark.parametrize(("scored", "held_out"), [(0, 0), (79, 0), (80, 8), (89, 8), (1000, 100)])
def test_a_tenth_is_held_out_and_none_of_fewer_than_80(scored: int, held_out: int) -> None:
    assert len(hold_out(make_samples(["yes"] * scored), 0)) == held_out


def test_the_same_samples_are_held_out_every_time_and_others_under_another_seed() -> None:
    samples = make_samples(["a", "b"] * 100)
    first = {sample.id for sample in hold_out(samples, 0)}
    assert {sample.id for sample in hold_out(samples[::-1], 0)} == first
    assert {sample.id for sample in hold_out(samples, 1)} != first


@pytest.mark.parametrize("seed", range(10))
def test_every_label_gives_its_tenth(seed: int) -> None:
    counts = Counter(sample.label for sample in hold_out(make_samples(["a"] * 60 + ["b"] * 120 + ["c"] * 20), seed))
    assert counts == {"a": 6, "b": 12, "c": 2}


def test_labels_that_do_not_repeat_are_drawn_at_random() -> None:
    held_out = hold_out(make_samples([str(number) for number in range(100)]), 0)
    assert len(held_out) == 10
    assert held_out != make_samples([str(number) for number in range(10)])


@pytest.mark.parametrize("seed", range(10))
def test_a_sample_and_the_one_that_was_rewritten_from_it_stay_together(seed: int) -> None:
    samples = make_samples(["a", "b", "c"] * 17, is_rewritten=True)
    held_out = {sample.id for sample in hold_out(samples, seed)}
    assert len(held_out) == 10
    assert {sample.parent for sample in samples if sample.parent and sample.id in held_out} <= held_out
    assert {f"{sample_id}h" for sample_id in held_out if not sample_id.endswith("h")} <= held_out


# --- real items ------------------------------------------------------------------------------------------------------


class Task:
    """A task with 300 training items, of which the first is also a test item."""

    @hookimpl
    def description(self) -> str:
        return "d"

    @hookimpl
    def output_instruction(self) -> str:
        return "o"

    @hookimpl
    def process_prediction(self, output: str) -> str:
        return output

    @hookimpl
    def load_dataset(self, path: str, split: str) -> list[Example]:
        if split == "test":
            return [Example("Question  0?", "a"), Example("other", "a")]
        return [Example(f"question {number}?", "a") for number in range(300)]


def as_run_task(task: Plugin[Any], path: str = "", demos: tuple[Example, ...] = ()) -> RunTask:
    return RunTask(task.name, task, Definition("d", "", "o", demos), dataset_path=path)


def test_items_of_the_train_split_are_drawn_without_test_items(bound: Any) -> None:
    task = as_run_task(bound("task", Task))
    for seed in range(5):
        items = load_real_items(task, seed)
        assert len({item.input for item in items}) == len(items) == MOST_REAL_ITEMS
        assert "question 0?" not in {item.input for item in items}
        assert load_real_items(task, seed) == items
        assert {item.sample for item in items} == {None}
    assert load_real_items(task, 0) != load_real_items(task, 1)


def test_a_demonstration_is_no_development_item(bound: Any) -> None:
    demos = tuple(Example(f"question {number}?", "a") for number in range(250))
    items = load_real_items(as_run_task(bound("task", Task), demos=demos), 0)
    assert len(items) == 50
    assert not {item.input for item in items} & {demo.input for demo in demos}


def test_a_file_without_splits_gives_only_test_items_and_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"input": "q", "output": "entailment"}))
    with pytest.raises(DataError, match=r"every item of the train split of .*data\.jsonl is also a test item"):
        load_real_items(as_run_task(load(MEDNLI, "task"), str(path)), 0)
    with pytest.raises(DataError, match=r"every item of the train split of the task 'mednli' is also a test item"):
        load_real_items(as_run_task(load(MEDNLI, "task")), 0)


def test_a_task_without_data_is_refused(bound: Any) -> None:
    class Bare(Task):
        @hookimpl
        def load_dataset(self) -> None:
            return None

    with pytest.raises(DataError, match="has no train split of its own; give one with --dataset-path"):
        load_real_items(as_run_task(bound("task", Bare)), 0)


def test_real_items_are_checked_before_anything_is_paid() -> None:
    task = {"": RunTask("mednli", load(MEDNLI, "task"), Definition("d", "", "o"))}
    check_eval_data(resolve({"task": "mednli", "eval_every": 5}), task, True)
    with pytest.raises(SettingsError, match="--eval-data train has no effect without --eval-every"):
        check_eval_data(resolve({"task": "mednli", "eval_data": "train"}), task, True)
    wanted = resolve({"task": "mednli", "eval_data": "train", "eval_every": 5})
    check_eval_data(wanted, task, False)
    with pytest.raises(DataError):
        check_eval_data(wanted, task, True)
