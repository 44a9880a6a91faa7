"""The task gpqa. Its authors ask that no item be published: the rows here are made up."""

from __future__ import annotations

from typing import Any

import pytest
from dsrl_tasks.gpqa import GPQA, OPTIONS

from dsrl.errors import DataError, SettingsError
from dsrl.testing import TaskContract
from dsrl.types import UNREADABLE

ROWS = [
    {"Question": f"Which number is {n} + 1?\n", OPTIONS[0]: str(n + 1), **dict(zip(OPTIONS[1:], "xyz", strict=True))}
    for n in range(40)
]


class TestGPQA(TaskContract):
    examples = (
        ("<think> Not A. </think> <answer> B </answer>", "B"),
        ("<answer>d</answer>", "D"),
        ("<answer>A</answer>", "A"),
        ("C", UNREADABLE),
    )

    @pytest.fixture
    def plugin(self) -> type:
        return GPQA


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_label_follows_the_right_answer(bound: Any, write_rows: Any, suffix: str) -> None:
    items = bound("task", GPQA).hook.load_dataset(path=write_rows(ROWS, suffix), split="test")
    for n, item in enumerate(items):
        assert item.input.startswith(f"Which number is {n} + 1?\nA: ")
        assert f"\n{item.output}: {n + 1}" in item.input
    assert {item.output for item in items} == set("ABCD")


def test_the_order_follows_from_the_row_and_the_seed(bound: Any, write_rows: Any) -> None:
    path, reverse = write_rows(ROWS), write_rows(ROWS[::-1], name="reverse")
    task = bound("task", GPQA)
    assert list(task.hook.load_dataset(path=reverse, split="test"))[::-1] == task.hook.load_dataset(
        path=path, split="test"
    )
    other = bound("task", GPQA, shuffle_seed=1).hook.load_dataset(path=path, split="test")
    assert other != task.hook.load_dataset(path=path, split="test")
    with pytest.raises(SettingsError, match=r"shuffle_seed='x' must be a whole number"):
        bound("task", GPQA, shuffle_seed="x")


def test_a_missing_column_is_named(bound: Any, write_rows: Any) -> None:
    rows = [{name: value for name, value in row.items() if name != "Incorrect Answer 3"} for row in ROWS]
    with pytest.raises(DataError, match=r"items\.csv:3: no column 'Incorrect Answer 3'; the columns are Question, "):
        list(bound("task", GPQA).hook.load_dataset(path=write_rows(rows, ".csv"), split="test"))


def test_all_items_are_for_evaluation(bound: Any) -> None:
    with pytest.raises(DataError, match="has no items for the split 'train'"):
        bound("task", GPQA).hook.load_dataset(path="", split="train")
