from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dsrl.errors import DataError, SettingsError
from dsrl.pipeline.run_export import export_samples
from dsrl.storage.run_store import RunStore
from dsrl.types import Sample


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    store = RunStore(tmp_path / "runs" / "trial")
    store.keep_settings({"task": {"task": "mednli"}})
    definition = {"output_instruction": "Say yes or no.", "system_prompt": "Be brief.", "is_chat": True, "demos": []}
    store.keep_inputs({}, definition)
    names = ("1-00000", "1-00001")
    samples = [Sample(name, 1, n, "initial", f"q{n}", f"o{n}", label="yes") for n, name in enumerate(names)]
    store.add_samples(samples)
    store.add_verdicts([(samples[0], ["yes", "yes"]), (samples[1], ["no", "yes", "yes"])])
    yield store
    store.close()


def test_an_output_with_another_answer_than_the_label_is_not_imitated(store: RunStore, tmp_path: Path) -> None:
    exported = export_samples(store, "sft", tmp_path / "a.jsonl", is_whole=True)
    assert (exported.rows, exported.left_out) == (1, 1)
    (line,) = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    assert line["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "q0 Say yes or no."},
        {"role": "assistant", "content": "o0"},
    ]


@pytest.mark.parametrize(("rubric", "style"), [({}, "rule"), ({"rubric": "It rhymes."}, "model")])
def test_the_rows_for_verl_say_who_rewards_them(
    store: RunStore, tmp_path: Path, rubric: dict[str, str], style: str
) -> None:
    store.keep_inputs({}, {"output_instruction": "Say yes or no.", "demos": [], **rubric})
    export_samples(store, "verl", tmp_path / "a.parquet", is_whole=True)
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [row["reward_model"]["style"] for row in rows] == [style] * 2


def test_what_cannot_be_exported(store: RunStore, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no format 'xml'; the formats are sft, trl, verl, csv, hf"):
        export_samples(store, "xml", tmp_path / "a")
    with pytest.raises(DataError, match="has no training set yet"):
        export_samples(store, "csv", tmp_path / "a")
    (tmp_path / "a").touch()
    with pytest.raises(DataError, match="exists; name another file"):
        export_samples(store, "csv", tmp_path / "a", is_whole=True)
