"""Parquet files and Hugging Face data sets, read through a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dsrl.corpus.reader import Corpus
from dsrl.corpus.tables import read_rows
from dsrl.errors import DataError
from dsrl.types import Passage


def write(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_columns_are_fields(tmp_path: Path) -> None:
    columns = {"id": [7, None, 9], "title": ["T", None, ""], "text": [" one ", "two", "three"], "url": ["u", "v", "w"]}
    corpus = Corpus([write(tmp_path / "a.parquet", columns)])
    assert list(corpus) == [Passage("7", "one", "T"), Passage("a.parquet:2", "two"), Passage("9", "three")]
    assert corpus.bytes_read == corpus.bytes_total


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_texts_of_every_kind(tmp_path: Path, kind: Any) -> None:
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file:
        table = pa.table({"text": pa.array(["ä", "b"] * 500, kind)})
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    assert [passage.text for passage in Corpus([tmp_path])] == ["ä", "b"] * 500


def test_a_bad_row_is_a_fault_with_its_number(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"\xff\xfe", b"also good"], pa.binary()).view(pa.string())
    path = write(tmp_path / "a.parquet", {"text": raw})
    corpus = Corpus([path])
    assert [passage.text for passage in corpus] == ["good", "also good"]
    assert corpus.faults == [f"{path}:2: 'text' is not UTF-8 at byte 1"]
    path = write(tmp_path / "a.parquet", {"text": ["a", None, " ", "b"]})
    corpus = Corpus([path])
    assert len(list(corpus)) == 2
    assert corpus.faults == [f"{path}:2: 'text' is not a string but null", f"{path}:3: 'text' is empty"]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [({"question": ["q"]}, "no field 'text'; the fields are 'question'"), ({"text": [5]}, "not a string but a number")],
)
def test_another_kind_of_table(tmp_path: Path, columns: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=rf"a\.parquet:1: .*{reason}"):
        list(Corpus([write(tmp_path / "a.parquet", columns)]))


def test_a_table_without_texts_in_a_folder_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"question": ["q"]})
    write(tmp_path / "b.parquet", {"text": ["t"]})
    corpus = Corpus([tmp_path])
    assert [passage.text for passage in corpus] == ["t"]
    assert corpus.passed_over == [f"{tmp_path / 'a.parquet'}: no field 'text'; the fields are 'question'"]
    assert corpus.bytes_read == corpus.bytes_total


@pytest.mark.parametrize("harm", ["cut", "empty", "text"])
@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
def test_a_damaged_table(tmp_path: Path, harm: str, ending: str) -> None:
    path = write(tmp_path / f"a{ending}", {"text": ["one", "two"] * 100})
    data = path.read_bytes()
    path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "text": b"no table"}[harm])
    with pytest.raises(DataError, match=rf"a\{ending} (is damaged after row 0|cannot be read)"):
        list(Corpus([path]))


def test_a_data_set_on_disk(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    train = datasets.Dataset.from_dict({"text": [f"text {i}" for i in range(50)], "label": list(range(50))})
    test = datasets.Dataset.from_dict({"text": ["last"]})
    datasets.DatasetDict({"train": train.select(range(10, 30)), "test": test}).save_to_disk(tmp_path / "set")
    loaded = datasets.load_from_disk(tmp_path / "set")["train"]
    loaded.map(lambda row: {"text": row["text"] * 2})  # leaves a cache file beside the data
    corpus = Corpus([tmp_path / "set"])
    assert [passage.text for passage in corpus] == ["last", *(f"text {i}" for i in range(10, 30))]
    assert corpus.passed_over == []


def test_a_data_set_with_a_missing_file(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(tmp_path / "set", num_shards=2)
    next((tmp_path / "set").glob("data-00001*")).unlink()
    with pytest.raises(DataError, match=r"data set .* is incomplete: its file data-00001-of-00002\.arrow is missing"):
        Corpus([tmp_path / "set"])


def test_rows_of_csv_are_read_and_a_bad_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "faq.csv"
    path.write_bytes(b'Title,Text\r\nReturns,"Send it back,\r\nwithin a month."\r\nBad,\xff\r\nBilling,Ask us.\r\n')
    rows = list(read_rows(path, "faq.csv"))
    assert rows[0] == (3, {"text": b"Send it back,\r\nwithin a month.", "title": b"Returns"})
    assert rows[1] == (4, {"text": b"\xff", "title": b"Bad"}), "the reader names the row, and loses no other"
    corpus = Corpus([path])
    assert [passage.title for passage in corpus] == ["Returns", "Billing"]
    assert corpus.faults[0].startswith(f"{path}:4: ")


def test_a_csv_without_a_column_of_texts_is_another_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a passage"}\n')
    (tmp_path / "prices.csv").write_text("item,price\nlamp,3\n")
    corpus = Corpus([tmp_path])
    assert [passage.text for passage in corpus] == ["a passage"]
    assert "prices.csv" in corpus.passed_over[0]
