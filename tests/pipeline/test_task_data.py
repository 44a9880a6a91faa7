from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dsrl import hookimpl
from dsrl.datasets import Columns
from dsrl.errors import DataError
from dsrl.pipeline.task_data import choose_demos, label_items, load_examples
from dsrl.plugins.binding import load
from dsrl.testing import SmallTask
from dsrl.types import Example, PluginRef

COLUMNS = Columns(("text",), "team")


class Splits(SmallTask):
    """A task of the choices yes and no with a train split: one item in ten is a yes, and the first two are test items."""

    @hookimpl
    def load_dataset(self, path: str, split: str) -> list[Example]:  # type: ignore[override]
        train = [Example(f"question {number}?", "no" if number % 10 else "yes") for number in range(100)]
        return train if split == "train" else train[:2]


def test_the_columns_of_the_user_are_read_whatever_the_task_reads(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("Text,Team\nwhere?,neutral\n")
    task = load(PluginRef("task", "mednli"), "task")
    assert list(load_examples(task, str(path), "test", COLUMNS) or ()) == [Example("where?", "neutral")]
    with pytest.raises(DataError, match="no column"):
        list(load_examples(task, str(path), "test") or ())
    assert load_examples(load(PluginRef("task", "words:tag:a,b"), "task"), "", "test", COLUMNS) is None


def test_demonstrations_of_the_train_split_have_all_labels_and_are_no_test_items(bound: Any) -> None:
    task = bound("task", Splits())
    for seed in range(5):
        demos = choose_demos(task, "", 4, seed)
        assert sorted(demo.output for demo in demos) == ["no", "no", "yes", "yes"]
        assert not {demo.input for demo in demos} & {"question 0?", "question 1?"}
        assert choose_demos(task, "", 4, seed) == demos
    assert choose_demos(task, "", 4, 0) != choose_demos(task, "", 4, 1)
    assert len(choose_demos(task, "", 1000, 0)) == 98


def test_demonstrations_need_a_train_split(bound: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--demos-from-train: the task 'task0' has no train split of its own"):
        choose_demos(bound("task", SmallTask()), "", 3, 0)
    path = tmp_path / "items.jsonl"
    path.write_text('{"input": "a", "output": "yes"}\n')
    with pytest.raises(DataError, match=r"every item of the train split of .* is also a test item"):
        choose_demos(bound("task", SmallTask()), str(path), 3, 0)


def test_labels_outside_the_choices_are_counted_and_shown(bound: Any) -> None:
    outputs = ["yes", "perhaps", "no", "\x1b[31mred", "perhaps"]
    items = [Example(str(number), output) for number, output in enumerate(outputs)]
    with pytest.raises(DataError) as caught:
        list(label_items(bound("task", SmallTask()), items, "the test set f.csv"))
    text = str(caught.value)
    assert "3 of the 5 items of the test set f.csv, the first of them item 2: 'perhaps' (2), " in text
    assert "the choices of the task are yes, no" in text
    assert "\x1b" not in text
