"""The task medqa. The rows are made up."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from dsrl_tasks import medqa

from dsrl.errors import DataError
from dsrl.testing import TaskContract
from dsrl.types import UNREADABLE, Example

OPTIONS = {"A": "gout", "B": "a cold", "C": "scurvy", "D": "rickets"}
ROW = {
    "question": "A man of 30 sneezes. What is it?",
    "answer": "a cold",
    "options": OPTIONS,
    "meta_info": "step1",
    "answer_idx": "B",
    "metamap_phrases": ["man"],
}
ITEM = Example("A man of 30 sneezes. What is it?\nA: gout\nB: a cold\nC: scurvy\nD: rickets", "B")


class TestMedQA(TaskContract):
    examples = (
        ("<think> It is not A. </think> <answer> C </answer>", "C"),
        ("<answer>B</answer>", "B"),
        ("It is B.", UNREADABLE),
    )

    @pytest.fixture
    def plugin(self) -> ModuleType:
        return medqa


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".csv"])
@pytest.mark.parametrize("options", [OPTIONS, [{"key": key, "value": value} for key, value in OPTIONS.items()]])
def test_each_form_of_the_data_set_is_read(bound: Any, write_rows: Any, suffix: str, options: Any) -> None:
    path = write_rows([{**ROW, "options": options}], suffix)
    assert bound("task", medqa).hook.load_dataset(path=path, split="test") == [ITEM]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"answer_idx": "E"}, r"items\.jsonl:2: cannot be read as an item \(the label 'E' is not one of A, B, C, D"),
        ({"options": {**OPTIONS, "E": "mumps"}}, r"the options have the letters A, B, C, D, E, not A, B, C, D"),
    ],
)
def test_a_faulty_row_is_named(bound: Any, write_rows: Any, change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        bound("task", medqa).hook.load_dataset(path=write_rows([ROW, {**ROW, **change}]), split="test")
