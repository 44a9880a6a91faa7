"""The passage files of a library: which files of a folder are read, in which order, and what kind each is."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from dsrl.corpus.documents import SUFFIXES as DOCUMENT_SUFFIXES
from dsrl.corpus.lines import make_read_error, printable_path
from dsrl.errors import DataError

#: ``lines``: JSON Lines; ``text``: plain text or Markdown; ``table``: Parquet, Arrow, CSV or TSV; ``archive``: tar;
#: ``document``: PDF, Word, HTML and the like.
Kind = Literal["lines", "text", "table", "archive", "document"]

#: What passage files end with, for errors.
SUFFIXES = ".jsonl, .json.gz, .jsonl.zst, .parquet, .csv, .txt, .md, .pdf, .docx, .html, .tar.gz"
_MARKDOWN = (".md", ".markdown")
#: A text of this name is about the files beside it.
_ABOUT = re.compile(
    r"(read[-_]?me|licen[cs]e|copying|notice|changelog|authors|citation|contributing|dataset[-_]?card)([-_.][a-z]{2})?(\.\w+)+",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class PassageFile:
    """A passage file.

    Attributes:
        path: where it is.
        name: its short name. It is part of ids, so it is the same on every machine.
        kind: how it is read.
        is_named: whether the user named the file itself, and not its folder.
    """

    path: Path
    name: str
    kind: Kind
    is_named: bool = False


def find_kind(name: str, is_named: bool = False) -> Kind | None:
    """Return the kind of a file by its name; None if it is no passage file.

    Args:
        name: the name of the file.
        is_named: whether the user named this file. In folders, ``.json`` files are mostly something else; C4's ``.json.gz``
            are passages.
    """
    name = name.lower()
    stem = name.removesuffix(".gz").removesuffix(".zst")
    if stem.endswith((".tar", ".tgz", ".tzst")):
        return "archive"
    if stem.endswith((".jsonl", ".ndjson")) or (stem.endswith(".json") and (is_named or stem != name)):
        return "lines"
    if stem.endswith((".txt", *_MARKDOWN)):
        return "text"
    if name.endswith(DOCUMENT_SUFFIXES):
        return "document"
    return "table" if name.endswith((".parquet", ".arrow", ".csv", ".tsv")) else None


def is_markdown(name: str) -> bool:
    """Return whether a file is Markdown by its name."""
    return name.lower().removesuffix(".gz").removesuffix(".zst").endswith(_MARKDOWN)


def is_about(name: str) -> bool:
    """Return whether a text is about the files beside it (a readme, a licence) by its name."""
    return bool(_ABOUT.fullmatch(name.rpartition("/")[2]))


def find_files(paths: Sequence[Path]) -> tuple[list[PassageFile], list[str]]:
    """Find the passage files of files and folders. The files of a folder are sorted; a file that is named twice counts once.

    Returns:
        The files, and what was passed over, as ``file: why``.

    Raises:
        DataError: a path is missing, cannot be read, or holds no passage files.
    """
    files: dict[Path, PassageFile] = {}
    passed_over: list[str] = []
    for path in paths:
        try:
            for file in _find_inside(path, passed_over):
                files.setdefault(file.path.resolve(), file)
        except OSError as error:
            raise make_read_error(path, error) from error
    if not files:
        raise DataError("No passage library was named. Give at least one file or folder.")
    return _make_names_unique(list(files.values())), passed_over


def _find_inside(path: Path, passed_over: list[str]) -> list[PassageFile]:
    if path.is_dir():
        files = _walk(path)
        if any(file.kind != "text" for file in files):
            about = [file for file in files if file.kind == "text" and is_about(file.path.name)]
            passed_over += [f"{printable_path(file.path)}: a text about the library" for file in about]
            files = [file for file in files if file not in about]
        if not files:
            raise DataError(f"The folder {printable_path(path)} holds no passage files. They end with {SUFFIXES}.")
        return files
    if path.is_file():
        kind = find_kind(path.name, is_named=True)
        if kind is None:
            raise DataError(
                f"{printable_path(path)} is not a passage file. Give JSON Lines, a table, plain text, Markdown, a "
                f"document or a tar archive; they end with {SUFFIXES}."
            )
        return [PassageFile(path, printable_path(path.name), kind, is_named=True)]
    if path.exists():
        raise DataError(f"{printable_path(path)} is neither a file nor a folder, so no passages can be read from it.")
    raise DataError(f"There is no passage library at {printable_path(path)}. Check the path.")


def _walk(folder: Path) -> list[PassageFile]:
    def stop(error: OSError) -> None:
        raise error  # without this, os.walk skips folders that cannot be read

    files = []
    top = folder.resolve().name
    for here, folders, names in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        data_set = _list_data_set(Path(here)) if "state.json" in names else None
        for name in names:
            path, kind = Path(here, name), find_kind(name)
            if name.startswith(".") or kind is None or not path.is_file():
                continue
            # Beside the files of a data set lie Arrow files that are caches.
            if name.lower().endswith(".arrow") and (name.startswith("cache-") or name not in (data_set or names)):
                continue
            files.append(PassageFile(path, printable_path(f"{top}/{path.relative_to(folder).as_posix()}"), kind))
    return sorted(files, key=lambda file: os.fsencode(file.path))


def _list_data_set(folder: Path) -> list[str] | None:
    """Return the files of a Hugging Face data set in a folder; None if it holds none."""
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        names = [str(file["filename"]) for file in state["_data_files"]]
    except (ValueError, KeyError, TypeError):
        return None
    for name in names:
        if not (folder / name).is_file():
            raise DataError(
                f"The data set {printable_path(folder)} is incomplete: its file {name} is missing. Copy it again."
            )
    return names


def _make_names_unique(files: list[PassageFile]) -> list[PassageFile]:
    # Two libraries can hold files with the same name; then only the whole path makes their passages distinct.
    times = Counter(file.name for file in files)
    return [
        file if times[file.name] == 1 else replace(file, name=printable_path(file.path.resolve().as_posix()))
        for file in files
    ]
