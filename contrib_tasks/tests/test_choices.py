"""What the tasks with lettered options share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dsrl_tasks.choices import (
    LETTERS,
    find_letter,
    read_items,
    read_letter,
    read_options,
    shuffle_options,
    write_input,
)
from hypothesis import given
from hypothesis import strategies as st

from dsrl.errors import DataError
from dsrl.types import DatasetInfo, Example

INFO = DatasetInfo("who/what", "MIT", "Body 2020", "https://example.org", {"test": 1}, config="main")


def test_an_input_has_one_line_for_each_option() -> None:
    assert (
        write_input(" Which gas? ", ["oxygen", "nitrogen\n or argon"]) == "Which gas?\nA: oxygen\nB: nitrogen or argon"
    )
    assert write_input("Why?", ["x"], "Cold air.") == "Context: Cold air.\nQuestion: Why?\nA: x"


@pytest.mark.parametrize(
    "value",
    [
        ["wet", " dry "],
        ("wet", "dry"),
        {"B": "dry", "A": "wet"},
        [{"key": "A", "value": "wet"}, {"key": "B", "value": "dry"}],
        '["wet", "dry"]',
        '{"A": "wet", "B": "dry"}',
    ],
)
def test_options_are_read_in_the_forms_of_the_data_sets(value: Any) -> None:
    assert read_options(value, 2) == ["wet", "dry"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (["wet"], "there are 1 options, not 2"),
        (["wet", ""], "not a list of texts"),
        (["wet", None], "not a list of texts"),
        (7, "not a list of texts"),
        ("wet, dry", "neither a list nor JSON"),
        ("[" * 100_000, "neither a list nor JSON"),
        ({"A": "wet", "C": "dry"}, "the letters A, C, not A, B"),
        ([{"text": "wet"}, {"text": "dry"}], "no key or no value"),
    ],
)
def test_other_options_are_refused(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_options(value, 2)


@pytest.mark.parametrize(("label", "letter"), [("C", "C"), ("c", "C"), ("c.", "C"), (" C ", "C"), (2, "C"), ("2", "C")])
def test_a_label_is_a_letter_or_an_index(label: Any, letter: str) -> None:
    assert read_letter(label, 4) == letter


@pytest.mark.parametrize("label", ["E", "", 4, -1, "AB", None, True, 1.0, "A. because", "\N{SUPERSCRIPT TWO}"])
def test_a_label_outside_the_options_is_refused(label: Any) -> None:
    with pytest.raises(ValueError, match=r"is not one of A, B, C, D, and no index 0 to 3"):
        read_letter(label, 4)


def test_only_a_bare_index_is_read_as_a_letter() -> None:
    assert [
        find_letter(text, 3) for text in ("0", " 2\n", "3", "", "A", "-1", "2.0", "02", "\N{FULLWIDTH DIGIT ONE}")
    ] == [
        "A",
        "C",
        *[None] * 7,
    ]


@given(st.lists(st.text(), min_size=2, max_size=6), st.integers(), st.text(), st.data())
def test_the_label_follows_the_shuffled_options(options: list[str], seed: int, row: str, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, len(options) - 1))
    shuffled, letter = shuffle_options(options, right, seed, row)
    assert sorted(shuffled) == sorted(options)
    assert shuffled[LETTERS.index(letter)] == options[right]
    assert (shuffled, letter) == shuffle_options(options, right, seed, row)


def test_the_order_depends_on_seed_and_row_and_has_no_favourite() -> None:
    options = ["right", "b", "c", "d"]
    letters = [shuffle_options(options, 0, 0, f"row {i}")[1] for i in range(2000)]
    assert all(abs(letters.count(letter) / 2000 - 0.25) < 0.04 for letter in "ABCD")
    assert letters != [shuffle_options(options, 0, 1, f"row {i}")[1] for i in range(2000)]


# --- data sets of the hub --------------------------------------------------------------------------------------------


def read_row(row: Any) -> Example:
    return Example(row["question"], row["answer"])


def test_the_usual_data_set_is_read_with_its_files_and_the_names_of_its_splits(write_rows: Any, tmp_path: Path) -> None:
    """A folder with the layout of a repository stands for the hub, which the library reads in the same way."""
    for split, question in (("train", "a"), ("test", "b")):
        write_rows([{"question": question, "answer": "x"}], ".parquet", f"hub/main/{split}/0000")
    info = replace(INFO, id=str(tmp_path / "hub"))
    files = {"train": ("train", "main/train/*.parquet"), "test": ("test", "main/test/*.parquet")}
    assert read_items("", "test", read_row, info, files) == [Example("b", "x")]
    assert read_items(info.id, "train", read_row, info, files) == [Example("a", "x")]
    swapped = {"test": ("train", "main/train/*.parquet")}
    assert read_items("", "test", read_row, info, swapped) == [Example("a", "x")]
    with pytest.raises(DataError, match="no items for the split 'train': all of them are for evaluation"):
        read_items("", "train", read_row, info, swapped)


def test_a_gated_data_set_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def fake_load_dataset(*arguments: Any, **more: Any) -> None:
        calls.append((*arguments, more))
        raise RuntimeError("Dataset 'who/what' is a gated dataset on the Hub.")

    monkeypatch.setattr("datasets.load_dataset", fake_load_dataset)
    with pytest.raises(DataError, match=r"gated dataset.*HF_TOKEN.*local file.*--dataset-path FILE"):
        read_items("", "test", read_row, INFO, {"test": ("train", "")})
    assert calls == [("who/what", "main", {"revision": None, "data_files": None})]


def test_another_data_set_is_read_as_it_is(write_rows: Any) -> None:
    path = write_rows([{"question": "a", "answer": "x"}])
    assert read_items(path, "train", read_row, INFO, {}) == [Example("a", "x")]
    path = write_rows([{"Input": "a", "OUTPUT": "x"}])
    assert read_items(path, "test", read_row, INFO, {}) == [Example("a", "x")]
    path = write_rows([{"question": "a", "label": "x"}], ".csv")
    with pytest.raises(DataError, match=r"items\.csv:2: no column 'answer'; the columns are question, label"):
        read_items(path, "test", read_row, INFO, {})
