"""Which files of a library are read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dsrl.corpus import files
from dsrl.corpus.files import find_files, find_kind, is_about, is_markdown
from dsrl.errors import DataError


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((f"A.JSONL{packed}", "lines") for packed in ("", ".gz", ".zst")),
        *((f"a.json{packed}", "lines") for packed in (".gz", ".zst")),
        *((f"a.{end}", "text") for end in ("txt", "md", "markdown", "txt.gz", "md.zst")),
        *((f"a.{end}", "table") for end in ("parquet", "arrow")),
        *((f"a.{end}", "archive") for end in ("tar", "tar.gz", "tgz", "tar.zst")),
        *((name, None) for name in ("a.json", "a.parquet.gz", "a.zip", "a.pdf.gz", "a", "jsonl")),
    ],
)
def test_kinds(name: str, kind: str | None) -> None:
    assert find_kind(name) == kind


def test_a_json_file_is_read_if_the_user_names_it() -> None:
    assert find_kind("a.json", is_named=True) == "lines"


def test_markdown_and_readmes() -> None:
    assert is_markdown("a.md.gz")
    assert not is_markdown("a.txt")
    assert all(map(is_about, ("README.md", "x/readme_en.txt", "LICENSE.txt", "licence.md", "dataset_card.md")))
    assert not any(map(is_about, ("reading.md", "notice-of-rent.txt", "licensed.md", "README")))


def test_the_original_projects_folders(tmp_path: Path) -> None:
    for kind in ("wiki", "wikihow", "stackexchange"):
        (tmp_path / "passages" / kind).mkdir(parents=True)
        (tmp_path / "passages" / kind / "part.jsonl").touch()
    found, passed_over = find_files([tmp_path / "passages"])
    assert [file.name for file in found] == [
        f"passages/{kind}/part.jsonl" for kind in ("stackexchange", "wiki", "wikihow")
    ]
    assert passed_over == []


def test_a_readme_beside_passages_is_passed_over_and_among_texts_it_is_one(tmp_path: Path) -> None:
    for name in ("README.md", "LICENSE.txt", "notes.txt"):
        (tmp_path / name).touch()
    assert len(find_files([tmp_path])[0]) == 3
    (tmp_path / "a.jsonl").touch()
    found, passed_over = find_files([tmp_path])
    assert [file.path.name for file in found] == ["a.jsonl", "notes.txt"]
    assert sorted(text.rpartition("/")[2] for text in passed_over) == [
        "LICENSE.txt: a text about the library",
        "README.md: a text about the library",
    ]


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Permissions do not hold back a superuser, who may run these tests.
    (tmp_path / "inner").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("inner"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(files.os, "scandir", refuse)
    with pytest.raises(DataError, match=r"inner cannot be read: Permission denied\. Check the path"):
        find_files([tmp_path])
