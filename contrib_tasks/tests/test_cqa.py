"""The task cqa. The rows are made up."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from dsrl_tasks import cqa

from dsrl.errors import DataError
from dsrl.testing import TaskContract
from dsrl.types import UNREADABLE, Example

ROW = {"index": 0, "contract": "You may leave.\nWe may not.", "question": "May we leave? ", "answer": "No"}


class TestCQA(TaskContract):
    examples = (
        ("<think> Yes, perhaps. </think> <answer> no </answer>", "No"),
        ("<answer>Yes.</answer>", "Yes"),
        ("Yes", UNREADABLE),
    )

    @pytest.fixture
    def plugin(self) -> ModuleType:
        return cqa


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl", ".parquet"])
def test_each_form_of_the_data_set_is_read(bound: Any, write_rows: Any, suffix: str) -> None:
    item = Example("Contract: You may leave.\nWe may not.\nQuestion: May we leave?", "No")
    assert bound("task", cqa).hook.load_dataset(path=write_rows([ROW], suffix), split="test") == [item]


def test_another_answer_is_refused_with_its_row(bound: Any, write_rows: Any) -> None:
    path = write_rows([ROW, {**ROW, "answer": "Relevant"}])
    with pytest.raises(DataError, match=r"items\.jsonl:2: .*the answer 'Relevant' is neither Yes nor No"):
        bound("task", cqa).hook.load_dataset(path=path, split="test")


def test_the_hubs_copy_as_parquet_is_read(monkeypatch: pytest.MonkeyPatch, bound: Any) -> None:
    calls: list[Any] = []

    def fake_load_dataset(*arguments: Any, **more: Any) -> dict[str, Any]:
        calls.append((*arguments, more))
        return {"test": [ROW]}

    monkeypatch.setattr("datasets.load_dataset", fake_load_dataset)
    assert len(bound("task", cqa).hook.load_dataset(path="", split="test")) == 1
    files = {"test": "consumer_contracts_qa/test/*.parquet"}
    assert calls == [("nguha/legalbench", None, {"revision": "refs/convert/parquet", "data_files": files})]
