"""The task cfa. The rows are made up."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from dsrl_tasks import cfa

from dsrl.errors import DataError
from dsrl.testing import TaskContract
from dsrl.types import UNREADABLE, Example

TEXT = "Q:A bond of 100 pays 3, not 2 or 4. What is its rate?,CHOICES: A: 2, or less.,B: 3, exactly.,C: 4"
ROW = {
    "query": f"Read this and choose.\n{TEXT}",
    "answer": "B",
    "text": TEXT,
    "choices": ["A", "B", "C"],
    "gold": 1,
}
ITEM = Example("A bond of 100 pays 3, not 2 or 4. What is its rate?\nA: 2, or less.\nB: 3, exactly.\nC: 4", "B")


class TestCFA(TaskContract):
    examples = (
        ("<think> A or B </think> <answer> B </answer>", "B"),
        ("<answer>C</answer>", "C"),
        ("<answer>D</answer>", UNREADABLE),
    )

    @pytest.fixture
    def plugin(self) -> ModuleType:
        return cfa


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".csv"])
@pytest.mark.parametrize("left_out", ["", "text", "query", "answer", "gold"])
def test_each_form_of_the_data_set_is_read(bound: Any, write_rows: Any, suffix: str, left_out: str) -> None:
    path = write_rows([{name: value for name, value in ROW.items() if name != left_out}], suffix)
    assert bound("task", cfa).hook.load_dataset(path=path, split="test") == [ITEM]


def test_a_question_in_another_form_is_kept_whole(bound: Any, write_rows: Any) -> None:
    for text in ("Q:Why?,CHOICES: B: x,A: y", "Q:Why? A) x B) y C) z"):
        (item,) = bound("task", cfa).hook.load_dataset(path=write_rows([{**ROW, "text": text}]), split="test")
        assert item.input == text.removeprefix("Q:")


@pytest.mark.parametrize(
    ("change", "words"),
    [({"answer": "D"}, "the label 'D' is not one of A, B, C"), ({"text": None}, "cannot be read as an item")],
)
def test_a_faulty_row_is_named(bound: Any, write_rows: Any, change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=rf"items\.jsonl:2: .*{words}"):
        bound("task", cfa).hook.load_dataset(path=write_rows([ROW, {**ROW, **change}]), split="test")
    with pytest.raises(DataError, match="no column 'query'; the columns are answer"):
        bound("task", cfa).hook.load_dataset(path=write_rows([{"answer": "A"}]), split="test")
