"""LogiQA's own text files. The items are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dsrl_tasks import logiqa
from dsrl_tasks.logiqa.text_files import find_file, read_text_file

from dsrl.errors import DataError
from dsrl.types import Example

ONE = "\nc\nRain fell. It stopped.\nWhat follows?\nA.All are wet.\nB. None is wet.\nC.A dog is wet.\nD.It is dry.\n"
TWO = "\nA\nSnow fell.\nWhat may follow?\nA man froze.\nB.Nothing.\nC.All.\nD.D. is wet.\n"
ITEMS = [
    Example(
        "Context: Rain fell. It stopped.\nQuestion: What follows?\n"
        "A: All are wet.\nB: None is wet.\nC: A dog is wet.\nD: It is dry.",
        "C",
    ),
    Example(
        "Context: Snow fell.\nQuestion: What may follow?\nA: A man froze.\nB: Nothing.\nC: All.\nD: D. is wet.", "A"
    ),
]


@pytest.mark.parametrize("text", [ONE + TWO, (ONE + TWO).rstrip(), ONE + TWO + "\n\n", "\ufeff" + ONE + TWO])
def test_items_of_eight_lines_are_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "Test.txt"
    path.write_text(text, encoding="utf-8")
    assert read_text_file(path) == ITEMS
    path.write_bytes(text.encode().replace(b"\n", b"\r\n"))
    assert read_text_file(path) == ITEMS


def test_a_folder_means_the_file_of_the_split(tmp_path: Path, bound: Any) -> None:
    (tmp_path / "Test.txt").write_text(ONE, encoding="utf-8")
    (tmp_path / "Train.txt").write_text(TWO, encoding="utf-8")
    hook = bound("task", logiqa).hook
    assert hook.load_dataset(path=str(tmp_path), split="test") == ITEMS[:1]
    assert hook.load_dataset(path=str(tmp_path), split="train") == ITEMS[1:]
    assert hook.load_dataset(path=str(tmp_path / "Train.txt"), split="test") == ITEMS[1:]
    assert find_file(tmp_path / "items.jsonl", "test") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ONE + TWO.replace("\nA\n", "\nE\n"), ":10: the label 'E' is not one of A, B, C, D"),
        (ONE + TWO.replace("C.All.\n", ""), ":9: an item has eight lines"),
        (ONE.lstrip("\n"), ":1: an item has eight lines"),
        (ONE.replace("What follows?", ""), ":1: an item has eight lines"),
        ("", ":1: an item has eight lines"),
    ],
)
def test_a_faulty_item_is_named_by_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "Test.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_text_file(path)
    assert f"{path}{words}" in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "Test.txt"
    path.write_bytes(b"\n\xe9")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_text_file(path)
