"""GSM8K: its data set, and the answers in it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from dsrl import UNREADABLE, Example
from dsrl.errors import DataError
from dsrl.plugins.binding import load
from dsrl.types import PluginRef

DATA = Path(__file__).parents[3] / "shared/data"
ROW = {"question": "Ann has 3 cards and buys 4 more. How many?", "answer": "3 + 4 = <<3+4=7>>7\n#### 7"}
ITEM = Example(ROW["question"], ROW["answer"])


@pytest.fixture(scope="module")
def hook() -> Any:
    return load(PluginRef("task", "gsm8k"), "task").hook


def test_every_real_training_answer_is_read(hook: Any) -> None:
    path = DATA / "gsm8k/train.jsonl"
    if not path.exists():
        pytest.skip(f"the real data gsm8k/train.jsonl is not there (looked for it in {DATA})")
    items = list(hook.load_dataset(path=str(path), split="train"))
    assert len(items) == 7473
    for item in items:
        gold = item.output.rpartition("#### ")[2]
        label = hook.process_label(output=item.output, input=item.input)
        assert label is not UNREADABLE, gold
        assert float(label) == float(gold.replace(",", "")), gold
        # The label is read back from the form that the instruction demands, and from the bare answer.
        assert hook.process_prediction(output=f"so #### {label}", input=item.input) == label
        assert hook.process_label(output=gold, input=item.input) == label


def test_its_own_form_is_read_from_jsonl_and_parquet(hook: Any, tmp_path: Path) -> None:
    jsonl, parquet = tmp_path / "test.jsonl", tmp_path / "test.parquet"
    jsonl.write_text(json.dumps(ROW), encoding="utf-8")
    pyarrow.parquet.write_table(pyarrow.table({name: [value] for name, value in ROW.items()}), parquet)
    for path in (jsonl, parquet):
        assert list(hook.load_dataset(path=str(path), split="test")) == [ITEM]


def test_the_data_set_of_the_hub_is_read_in_its_configuration(hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def load_dataset(path: str, name: str | None = None, **options: Any) -> Any:
        calls.append((path, name))
        return {"train": [], "test": [ROW]}

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    assert list(hook.load_dataset(path="openai/gsm8k", split="test")) == [ITEM]
    assert calls == [("openai/gsm8k", "main")]


def test_missing_columns_are_reported(hook: Any, tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text('{"question": "a", "gold": "7"}', encoding="utf-8")
    with pytest.raises(DataError, match=re.escape("items.jsonl:1: no column 'answer'; the columns are question, gold")):
        list(hook.load_dataset(path=str(path), split="test"))
