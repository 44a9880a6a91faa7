from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from dsrl.datasets import PARQUET_REVISION, Columns, read_dataset, read_demos
from dsrl.errors import DataError
from dsrl.types import Example

ITEMS = [Example("1 + 1", "2"), Example("2 + 2", "4")]


def saved(folder: Path, **splits: Mapping[str, list[Any]]) -> str:
    """Write a DatasetDict as the library writes it."""
    made = datasets.DatasetDict({name: datasets.Dataset.from_dict(dict(columns)) for name, columns in splits.items()})
    made.save_to_disk(str(folder / "saved"))
    return str(folder / "saved")


def written(folder: Path, text: str | bytes, name: str = "items.jsonl") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.fixture(autouse=True)
def no_progress_bars() -> Any:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


# --- a DatasetDict on disk -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("Input", "Output"), ("input", "output"), ("INPUT", "Output")])
def test_a_split_of_a_dataset_dict_is_read(tmp_path: Path, names: tuple[str, str]) -> None:
    test = {names[0]: [item.input for item in ITEMS], names[1]: [item.output for item in ITEMS], "id": [1, 2]}
    path = saved(tmp_path, train={names[0]: ["a"], names[1]: ["b"], "id": [0]}, test=test)
    assert read_dataset(path, "test") == ITEMS
    assert read_dataset(path, "train") == [Example("a", "b")]


def test_missing_columns_are_reported_with_those_that_are_there(tmp_path: Path) -> None:
    path = saved(tmp_path, test={"Input": ["a"], "Answer": ["b"]})
    with pytest.raises(DataError) as caught:
        read_dataset(path, "test")
    assert f"{path}, test row 0: no column 'Output'; the columns are Input, Answer" in str(caught.value)


def test_a_missing_split_is_reported_with_those_that_are_there(tmp_path: Path) -> None:
    path = saved(tmp_path, train={"Input": ["a"], "Output": ["b"]}, validation={"Input": ["a"], "Output": ["b"]})
    with pytest.raises(
        DataError, match=r"its splits are train, validation\. Save the items that are to be evaluated on as"
    ):
        read_dataset(path, "test")


def test_an_empty_split_is_reported(tmp_path: Path) -> None:
    path = saved(tmp_path, test={"Input": [], "Output": []})
    with pytest.raises(DataError, match=r"holds no items in the split 'test'|cannot be loaded"):
        read_dataset(path, "test")


def test_a_data_set_without_splits_is_reported(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"Input": ["a"], "Output": ["b"]}).save_to_disk(str(tmp_path / "flat"))
    with pytest.raises(DataError, match="has no splits; save it as a DatasetDict"):
        read_dataset(str(tmp_path / "flat"), "test")


def test_columns_of_another_type_are_reported_with_the_row(tmp_path: Path) -> None:
    path = saved(tmp_path, test={"Input": ["a", "b"], "Output": [1, 2]})
    with pytest.raises(DataError, match="test row 0: input and output must be text"):
        read_dataset(path, "test")


def test_a_folder_that_holds_no_data_set_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="folder holds no Hugging Face data set"):
        read_dataset(str(tmp_path), "test")
    (tmp_path / "dataset_dict.json").write_text("{broken", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be loaded"):
        read_dataset(str(tmp_path), "test")


@pytest.mark.parametrize(
    "path", ["nowhere.csv", "data/nowhere.JSONL", "./nowhere", "/no/where", "a/b/c", "..\\nowhere"]
)
def test_a_file_that_is_not_there_is_not_asked_of_the_hub(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: pytest.fail("the hub was asked"))
    with pytest.raises(DataError, match="there is no such file or folder"):
        read_dataset(path, "test")


def test_a_hub_id_without_a_network_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(DataError) as caught:
        read_dataset("nobody/has-this-data-set", "test")
    assert "data set nobody/has-this-data-set" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace the library's reader of the hub; the list gets its calls. The data set has the configuration ``main``."""
    calls: list[Any] = []

    def load_dataset(path: str, name: str | None = None, **options: Any) -> Any:
        calls.append((path, name, options))
        if name not in ("main", None):
            raise ValueError(f"BuilderConfig '{name}' not found. Available: ['main']")
        if path.startswith("gated/"):
            raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{path}' is a gated dataset on the Hub.")
        return {"test": [{"input": item.input, "output": item.output} for item in ITEMS]}

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    return calls


def test_configuration_revision_and_files_of_a_hub_id_are_used(hub: list[Any]) -> None:
    files = {"test": "main/test/*.parquet"}
    assert read_dataset("a/b", "test", config="main", revision=PARQUET_REVISION, data_files=files) == ITEMS
    assert hub == [("a/b", "main", {"revision": "refs/convert/parquet", "data_files": files})]


def test_a_configuration_that_the_data_set_has_not_is_left_out(hub: list[Any]) -> None:
    assert read_dataset("a/b", "test", config="other") == ITEMS
    assert [name for _, name, _ in hub] == ["other", None]


def test_a_data_set_that_needs_a_token_is_reported_with_a_way_out(hub: list[Any]) -> None:
    with pytest.raises(DataError, match=r"gated dataset.*set HF_TOKEN, or give a local file .*--dataset-path FILE"):
        read_dataset("gated/b", "test")


def test_a_copy_of_a_data_set_of_the_hub_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "copy"
    folder.mkdir()
    for split in ("train", "test"):
        written(folder, "".join(f'{{"input": "{i.input}", "output": "{i.output}"}}\n' for i in ITEMS), f"{split}.jsonl")
    assert read_dataset(str(folder), "test") == ITEMS


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_file_has_no_splits(tmp_path: Path) -> None:
    path = written(tmp_path, '{"input": "1 + 1", "output": "2"}\n\n{"Input": "2 + 2", "Output": "4", "more": null}')
    assert read_dataset(str(path), "test") == read_dataset(str(path), "train") == ITEMS


def test_a_json_list_is_read(tmp_path: Path) -> None:
    path = written(
        tmp_path, '\n [{"input": "1 + 1", "output": "2"},\n {"input": "2 + 2", "output": "4"}]', "items.json"
    )
    assert read_dataset(str(path), "test") == ITEMS


def test_byte_order_mark_windows_line_ends_and_line_separators_in_strings_are_no_fault(tmp_path: Path) -> None:
    text = '\ufeff{"input": "a\u2028b\x85c", "output": "2"}\r\n{"input": "x", "output": "y"}\r\n'
    assert read_dataset(str(written(tmp_path, text)), "test") == [Example("a\u2028b\x85c", "2"), Example("x", "y")]


def test_csv_and_tsv_are_read(tmp_path: Path) -> None:
    text = 'Input,Output\r\n"a, ""b""\nc",2\r\n'
    assert read_dataset(str(written(tmp_path, text, "items.csv")), "test") == [Example('a, "b"\nc', "2")]
    assert read_dataset(str(written(tmp_path, "input\toutput\na\tb\n", "items.tsv")), "test") == [Example("a", "b")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("question,answer\na,b\n", ":2: no column 'Input'; the columns are question, answer"),
        ("input,output\na\n", ":2: the row has not the 2 fields of the header"),
        ("input,output\na,b\na,b,c\n", ":3: the row has not the 2 fields of the header"),
        ('input,output\n"a', ":2: not CSV"),
        ("input,output\n" + "9" * 200_000, ":2: not CSV (field larger"),
        ("", "holds no items"),
    ],
)
def test_a_broken_csv_is_reported_by_file_and_line(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path, text, "items.csv")
    with pytest.raises(DataError) as caught:
        read_dataset(str(path), "test")
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_parquet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    rows = {"Input": [item.input for item in ITEMS], "output": [item.output for item in ITEMS]}
    pyarrow.parquet.write_table(pyarrow.table(rows), path)
    assert read_dataset(str(path), "test") == ITEMS
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match=r"items\.parquet is not a Parquet file"):
        read_dataset(str(path), "test")


GOOD_LINE = '{"input": "a", "output": "b"}\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD_LINE + "\n{broken\n", ":3: not JSON"),
        (GOOD_LINE + '{"input": "a", "output": "b"', ":2: not JSON"),
        (GOOD_LINE + "5\n", ":2: not an object but int"),
        (GOOD_LINE + '["a", "b"]\n', ":2: not an object but list"),
        (GOOD_LINE + '{"input": "a"}\n', ":2: no column 'Output'; the columns are input"),
        ("{}\n", ":1: no column 'Input'; the columns are none"),
        (GOOD_LINE + '{"input": "a", "output": 5}\n', ":2: input and output must be text"),
        ('[\n{"input": "a", "output": "b"},\n{]', ":3: not JSON"),
        ('[{"input": "a", "output": "b"}, 5]', ", item 2: not an object but int"),
        ('{"input": ' + "[" * 100_000, ":1: "),
        ("[" * 100_000, ":1: "),
        ('{"input": ' + "9" * 5000 + "}", ":1: "),
        ("", "holds no items"),
        ("\n \n", "holds no items"),
        (b'{"input": "\xe9"}', "is not UTF-8 text"),
    ],
)
def test_a_broken_file_is_reported_by_file_and_line(tmp_path: Path, text: str | bytes, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read_dataset(str(path), "test")
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_a_tasks_own_conversion_may_leave_rows_out_and_name_columns(tmp_path: Path) -> None:
    def convert(row: Mapping[str, Any]) -> Example | None:
        return None if row["gold"] == "-" else Example(row["question"].strip(), row["gold"])

    text = '{"question": " a ", "gold": "yes"}\n{"question": "b", "gold": "-"}\n'
    assert read_dataset(str(written(tmp_path, text)), "test", convert) == [Example("a", "yes")]
    with pytest.raises(DataError, match=r"items\.jsonl:1: no column 'gold'; the columns are input, output"):
        read_dataset(str(written(tmp_path, GOOD_LINE)), "test", convert)


def test_a_row_that_a_task_cannot_convert_is_the_files_fault(tmp_path: Path) -> None:
    """A null where text belongs is told with the line, not as a fault of the task."""
    path = written(tmp_path, '{"question": "a"}\n{"question": null}\n')
    with pytest.raises(DataError, match=r"items\.jsonl:2: "):
        read_dataset(str(path), "test", lambda row: Example(row["question"].strip(), "x"))


# --- demonstrations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 10, 100])
@pytest.mark.parametrize("shape", ["[%s]", "%s"], ids=["json", "jsonl"])
def test_any_number_of_demonstrations_is_read(tmp_path: Path, count: int, shape: str) -> None:
    lines = [f'{{"input": "{number}", "output": "x"}}' for number in range(count)]
    path = written(tmp_path, shape % (",\n" if shape.startswith("[") else "\n").join(lines))
    assert list(read_demos(path)) == [Example(str(number), "x") for number in range(count)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '{"input": "a"}',
            ":1: a demonstration has the columns input and output; the columns here are input. Name yours",
        ),
        ('{"question": "a", "answer": "b"}', "the columns here are question, answer"),
        ('{\n"demos": [{"input": "a", "output": "b"}]\n}', "items.jsonl: a demonstration has the columns"),
        ('[{"input": "a", "output": ["b"]}]', ", item 1: the column output is neither a text nor a number"),
        ('["a"]', ", item 1: not an object but str"),
        (GOOD_LINE + "oops", ":2: not JSON"),
        ('{"input": [["a"]], "output": "b"}', ":1: the column input is neither"),
        ("{}", "the columns here are none"),
    ],
)
def test_demonstrations_of_another_shape_are_reported(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read_demos(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_demonstrations_come_in_tables_with_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "demos.csv"
    path.write_text("Subject,Body,Team,Domain\nBill, twice ,billing,shop\n")
    columns = Columns(("subject", "body"), "TEAM")
    assert list(read_demos(path, columns)) == [Example("subject: Bill\nbody: twice", "billing", "shop")]
    assert list(read_demos(written(tmp_path, GOOD_LINE), columns)) == [Example("a", "b")], (
        "the usual columns are read too"
    )
    path = tmp_path / "demos.json"
    path.write_text('{\n  "INPUT": "6 * 7",\n  "Output": 42\n}\n')
    assert list(read_demos(path)) == [Example("6 * 7", "42")], "one object is one demonstration"


def test_a_missing_demonstrations_file_is_reported(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(DataError, match="is not there"):
            read_demos(path)


def test_demonstrations_can_be_sent_to_a_teacher(tmp_path: Path) -> None:
    """JSON may hold half of a surrogate pair, which no HTTP body can."""
    (demo,) = read_demos(written(tmp_path, '{"input": "\\ud800 a", "output": "b"}'))
    assert demo.input.encode("utf-8")
