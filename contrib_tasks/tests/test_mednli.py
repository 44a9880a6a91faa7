"""The loader of the task mednli. The rows are made up."""

from __future__ import annotations

from typing import Any

import pytest
from dsrl_tasks import mednli

from dsrl.errors import DataError

ROW = {"pairID": "1", "sentence1": "She has a cold. ", "sentence2": "She is ill.", "gold_label": "entailment"}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".csv"])
def test_each_form_of_the_data_set_is_read(bound: Any, write_rows: Any, suffix: str) -> None:
    rows = [ROW, {**ROW, "gold_label": "Neutral"}]
    items = list(bound("task", mednli).hook.load_dataset(path=write_rows(rows, suffix), split="test"))
    assert all(item.input.endswith("Premise: She has a cold. Hypothesis: She is ill.") for item in items)
    assert [item.output for item in items] == ["entailment", "Neutral"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gold_label": "-"}, "the label '-' is not one of entailment, neutral, contradiction"),
        ({"sentence2": None}, "cannot be read as an item"),
    ],
)
def test_a_faulty_row_is_named(bound: Any, write_rows: Any, change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=rf"items\.jsonl:2: .*{words}"):
        bound("task", mednli).hook.load_dataset(path=write_rows([ROW, {**ROW, **change}]), split="test")
    with pytest.raises(DataError, match="no column 'sentence1'; the columns are gold_label"):
        bound("task", mednli).hook.load_dataset(path=write_rows([{"gold_label": "neutral"}]), split="test")


def test_without_a_path_there_are_procedural_items(bound: Any) -> None:
    assert len(list(bound("task", mednli).hook.load_dataset(path="", split="test"))) == mednli.TEST_ITEMS
