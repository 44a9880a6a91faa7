"""Passage libraries: the one strict reader, for every retriever.

A library is JSON Lines in UTF-8, with or without a byte order mark, plain or compressed with gzip or Zstandard. Every line
is an object with ``text``, a string that is not blank, and optionally ``title`` and ``id``. Blank lines are skipped.

A line that is not a passage is a *bad line*, and what is wrong with it is a *fault*. The line is left out, counted, and
reported as ``file:line``. Reading stops

* at once if none of the first 20 lines of a file is a passage: it is another kind of file;
* when more than the share ``max_bad`` of the lines read so far are bad. Until 1,000 lines are read, the share is of 1,000
  lines. With the default of 1%, a small library stops at its 11th fault, and a large one when 1% of it is bad.

Ids are unique in a corpus. A passage without an id gets ``file:line``. A passage whose id was read before, or looks like
``file:line``, gets ``id@file:line``. The set of ids read so far has a fixed size. In a library of many millions, a few ids
that are read for the first time therefore get the longer form too; it is the same ones every time.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from dsrl.corpus.lines import MAX_LINE, make_read_error, printable_path, read_lines
from dsrl.errors import DataError, SettingsError
from dsrl.types import Passage

#: Suffixes of the passage files in a folder. A single file may also end with ``.json``; it is read line by line too.
SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json.gz", ".json.zst")
#: Least number of lines that the share of bad lines is taken of.
SMALL = 1_000
#: A file with no passage in this many lines is another kind of file.
PROBE = 20
#: Number of faults that are kept as text; the others are only counted.
FAULTS_KEPT = 10
#: Largest size in bytes of a file whose content goes into the fingerprint.
LARGEST_HASHED = 64 * 2**20


def embedded_library() -> Path:
    """Return the folder of the small library that comes with dsrl: medicine, everyday quantities, general knowledge."""
    return Path(__file__).parent / "library"


class _Fault(Exception):
    """A line is not a passage; the text says why."""


@dataclass(frozen=True, slots=True)
class _File:
    """A file and its short name. The name is part of ids, so it is the same on every machine."""

    path: Path
    name: str


class Corpus:
    """The passages of files and folders. They are read one after the other; memory does not grow with their number.

    Iterate over the corpus to read it. Every iteration starts at the beginning and resets the counts, so only one iteration
    may run at a time.

    Args:
        paths: files (``.jsonl``, ``.jsonl.gz``, ``.jsonl.zst``, ``.json.gz``, ``.json.zst``) and folders. The files of a
            folder are read in sorted order, without hidden files. A file that is named twice is read once.
        max_bad: largest share of bad lines, 0 to 1; see the module.

    Attributes:
        paths: the argument ``paths``.
        good: number of passages in the last iteration so far.
        bad: number of bad lines in it so far.
        faults: the first ten faults, as ``file:line: what is wrong``.

    Raises:
        DataError: a path is missing or cannot be read, or a folder holds no passage files; while reading: a file is
            damaged, there are too many bad lines, or no passage at all. The text names the path and says what to do.
        SettingsError: ``max_bad`` is not between 0 and 1.
    """

    def __init__(self, paths: Sequence[Path], max_bad: float = 0.01) -> None:
        if not 0 <= max_bad <= 1:
            raise SettingsError(f"The largest share of bad lines (max_bad) must be from 0 to 1, not {max_bad}.")
        self.paths = tuple(Path(path) for path in paths)
        self.max_bad = max_bad
        self.good = 0
        self.bad = 0
        self.faults: list[str] = []
        self._files = _find_files(self.paths)

    def __iter__(self) -> Iterator[Passage]:
        # Check the beginning of all files before the first passage: an hour of indexing should not end because the
        # twentieth file of a large library is another kind of file.
        for file in self._files:
            _probe(file)
        self.good = self.bad = 0
        self.faults = []
        seen = _IdFilter()
        endings = tuple(file.name for file in self._files)
        for file in self._files:
            for number, line in read_lines(file.path):
                try:
                    passage_id, title, text = _parse(line)
                except _Fault as fault:
                    self._count_bad(file.path, number, str(fault))
                    continue
                place = f"{file.name}:{number}"
                if not passage_id:
                    passage_id = place
                elif seen.add(passage_id) or _ends_with_place(passage_id, endings):
                    passage_id = f"{passage_id}@{place}"
                self.good += 1
                yield Passage(id=passage_id, text=text, title=title)
        if not self.good:
            raise DataError(
                f"There is no passage in {', '.join(map(printable_path, self.paths))}: all files are empty. "
                'Give JSON Lines with one passage in each line, {"text": "..."}.'
            )

    def _count_bad(self, path: Path, number: int, reason: str) -> None:
        self.bad += 1
        fault = f"{printable_path(path)}:{number}: {reason}"
        if len(self.faults) < FAULTS_KEPT:
            self.faults.append(fault)
        lines = self.good + self.bad
        if self.bad > self.max_bad * max(lines, SMALL):
            raise DataError(
                f"{fault}. This is fault {self.bad:,} in {lines:,} lines, and at most {self.max_bad:.2%} "
                f"of the lines (of {SMALL:,} lines if there are fewer) may be bad. "
                "Correct the lines, leave the file out, or allow a larger share of bad lines (--max-bad)."
                + _list_faults(self.faults)
            )

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change when a file is edited, added, removed, renamed or moved in the order.

        They are computed from the names and contents of the files, so that copies of a library have the same fingerprint.
        For files above 64 MiB, size and time of change replace the content.

        Raises:
            DataError: a file is missing or cannot be read.
        """
        digest = blake2b(b"dsrl corpus 1", digest_size=8)
        for file in self._files:
            try:
                stat = file.path.stat()
                if stat.st_size <= LARGEST_HASHED:
                    content = blake2b(file.path.read_bytes(), digest_size=16).hexdigest()
                else:
                    content = str(stat.st_mtime_ns)
            except OSError as error:
                raise make_read_error(file.path, error) from error
            digest.update(json.dumps([file.name, stat.st_size, content]).encode())
        return digest.hexdigest()


class _IdFilter:
    """A Bloom filter: remembers any number of ids in 16 MiB.

    It knows every id that was added. It takes some new ids for known ones: 12% of 30 million ids, 1 in 20,000 of 3 million.
    """

    def __init__(self) -> None:
        self._bits = bytearray(2**24)

    def add(self, passage_id: str) -> bool:
        """Add an id, and return whether it was probably added before."""
        digest = blake2b(passage_id.encode(), digest_size=16).digest()
        is_known = True
        for at in range(0, 16, 4):
            number = int.from_bytes(digest[at : at + 4], "little") % 2**27
            byte, bit = number >> 3, 1 << (number & 7)
            if not self._bits[byte] & bit:
                is_known = False
                self._bits[byte] |= bit
        return is_known


def _ends_with_place(passage_id: str, names: tuple[str, ...]) -> bool:
    head, colon, number = passage_id.rpartition(":")
    return bool(colon) and number.isdigit() and head.endswith(names)


def _find_files(paths: Sequence[Path]) -> list[_File]:
    files: dict[Path, _File] = {}
    for path in paths:
        try:
            if path.is_dir():
                paths_inside = _walk(path)
                if not paths_inside:
                    raise DataError(
                        f"The folder {printable_path(path)} holds no passage files. They end with {', '.join(SUFFIXES)}."
                    )
                top = path.resolve()
                for file in paths_inside:
                    name = f"{top.name}/{file.relative_to(path).as_posix()}"
                    files.setdefault(file.resolve(), _File(file, printable_path(name)))
            elif path.is_file():
                if not path.name.lower().endswith((*SUFFIXES, ".json")):
                    raise DataError(
                        f"{printable_path(path)} is not a passage file. Give JSON Lines, with the suffix "
                        f"{', '.join(SUFFIXES)}."
                    )
                files.setdefault(path.resolve(), _File(path, printable_path(path.name)))
            elif path.exists():
                raise DataError(
                    f"{printable_path(path)} is neither a file nor a folder, so no passages can be read from it."
                )
            else:
                raise DataError(f"There is no passage library at {printable_path(path)}. Check the path.")
        except OSError as error:
            raise make_read_error(path, error) from error
    if not files:
        raise DataError("No passage library was named. Give at least one file or folder.")
    return _make_names_unique(list(files.values()))


def _make_names_unique(files: list[_File]) -> list[_File]:
    # Two libraries can hold files with the same name; then only the whole path makes their passages distinct.
    times = Counter(file.name for file in files)
    return [
        file if times[file.name] == 1 else _File(file.path, printable_path(file.path.resolve().as_posix()))
        for file in files
    ]


def _walk(folder: Path) -> list[Path]:
    def stop(error: OSError) -> None:
        raise error  # without this, os.walk skips folders that cannot be read

    files = []
    for here, folders, names in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [
            Path(here, name)
            for name in names
            if name.lower().endswith(SUFFIXES) and not name.startswith(".") and Path(here, name).is_file()
        ]
    return sorted(files, key=lambda file: os.fsencode(file))


def _probe(file: _File) -> None:
    faults = []
    for number, line in read_lines(file.path):
        try:
            _parse(line)
        except _Fault as fault:
            faults.append(f"{printable_path(file.path)}:{number}: {fault}")
            if len(faults) == PROBE:
                break
        else:
            return
    if faults:
        raise DataError(
            f"{faults[0]}. None of the first {len(faults)} lines of this file is a passage. "
            'Leave the file out, or give JSON Lines with one passage in each line, {"text": "..."}.'
            + _list_faults(faults[:FAULTS_KEPT])
        )


def _parse(line: bytes | None) -> tuple[str, str, str]:
    """Return ``(id, title, text)`` of a line; the first two are empty if the line does not have them."""
    if line is None:
        raise _Fault(f"longer than {MAX_LINE // 2**20} MiB")
    try:
        record: Any = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _Fault(f"not UTF-8 at byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        raise _Fault(f"not JSON: {error.msg} at column {error.colno}") from None
    except ValueError:
        raise _Fault("not usable JSON: a number with thousands of digits") from None
    except RecursionError:
        raise _Fault("not usable JSON: nested too deeply") from None
    if not isinstance(record, dict):
        raise _Fault(f"not an object but {_kind(record)}")
    if "text" not in record:
        raise _Fault(f"no field 'text'; the fields are {_keys(record)}")
    text = _string(record, "text")
    if not text:
        raise _Fault("'text' is empty")
    number = record.get("id")
    if isinstance(number, int) and not isinstance(number, bool):
        record["id"] = str(number)
    return _string(record, "id"), _string(record, "title"), text


def _string(record: dict[str, Any], field: str) -> str:
    value = record.get(field)
    if value is None and field != "text":
        return ""
    if not isinstance(value, str):
        raise _Fault(f"'{field}' is not a string but {_kind(value)}")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise _Fault(f"'{field}' holds half a surrogate pair at character {error.start + 1}") from None
    return value.strip()


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _keys(record: dict[str, Any]) -> str:
    # Escaped and shortened: these names come from a file and are printed on a terminal.
    names = [ascii(key)[:40] for key in list(record)[:5]]
    return ", ".join(names) + (", ..." if len(record) > 5 else "") if names else "none"


def _list_faults(faults: Iterable[str]) -> str:
    return " The first faults:" + "".join(f"\n  {fault}" for fault in faults)
