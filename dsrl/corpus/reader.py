"""Passage libraries: the one strict reader, for every retriever.

A library is a set of files and folders:

* JSON Lines in UTF-8 (``.jsonl``, ``.json.gz``, ``.jsonl.zst``): every line is an object with ``text``, a string that is not
  blank, and optionally ``title`` and ``id``. Blank lines are skipped;
* tables with these columns: Parquet, CSV, TSV, and Hugging Face data sets on disk;
* plain texts and Markdown (``.txt``, ``.md``), which are cut into passages at sentence ends;
* documents (``.pdf``, ``.docx``, ``.html`` and others, with the extra ``documents``), which are cut in the same way;
* archives of such files (``.tar``, ``.tar.gz``, ``.tar.zst``), read in place; tables and documents in them are passed over.

A line or row that is not a passage is a *bad line*, and what is wrong with it is a *fault*. The line is left out, counted,
and reported as ``file:line``. Reading stops

* at once if none of the first 20 lines of a file is a passage: it is another kind of file. If the file is one of a folder
  or an archive, and its lines are well-formed records without ``text``, it is passed over instead, and reported;
* when more than the share ``max_bad`` of the lines read so far are bad. Until 1,000 lines are read, the share is of 1,000
  lines. With the default of 1%, a small library stops at its 11th fault, and a large one when 1% of it is bad.

Ids are unique in a corpus. A passage without an id gets ``file:line``. A passage whose id was read before, or looks like one
that is made here, gets ``id@file:line``. The parts of a document that was cut get ``id#1``, ``id#2`` and so on. The set of
ids read so far has a fixed size. In a library of many millions, a few ids that are read for the first time therefore get the
longer form too; it is the same ones every time.
"""

from __future__ import annotations

import io
import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path

from dsrl.corpus.archives import read_members
from dsrl.corpus.documents import read_document
from dsrl.corpus.files import PassageFile, find_files, find_kind, is_about, is_markdown
from dsrl.corpus.lines import OnRead, ignore_bytes, make_read_error, open_stream, printable_path, read_lines
from dsrl.corpus.records import TEXT_LENGTH, Fault, Line, Record, read_json_lines, read_table, read_text
from dsrl.corpus.tables import read_rows
from dsrl.errors import DataError, SettingsError
from dsrl.types import Passage

#: Least number of lines that the share of bad lines is taken of.
SMALL = 1_000
#: A file with no passage in this many lines is another kind of file.
PROBE = 20
#: Number of faults that are kept as text; the others are only counted.
FAULTS_KEPT = 10
#: Largest size in bytes of a file whose content goes into the fingerprint.
LARGEST_HASHED = 64 * 2**20
#: Least length of a passage that long documents are cut into.
LEAST_LENGTH = 100

Records = Iterator[Record | Fault]


class Corpus:
    """The passages of files and folders. They are read one after the other; memory does not grow with their number.

    Iterate over the corpus to read it. Every iteration starts at the beginning and resets the counts, so only one iteration
    may run at a time.

    Args:
        paths: files and folders; see the module. The files of a folder and of its folders are read in sorted order, without
            hidden files. A file that is named twice is read once.
        max_bad: largest share of bad lines, 0 to 1; see the module.
        passage_length: documents with more characters are cut into passages at sentence ends; 0: only plain texts and
            Markdown are cut.

    Attributes:
        paths, max_bad, passage_length: the arguments.
        good: number of passages in the last iteration so far.
        bad: number of bad lines in it so far.
        faults: the first ten faults, as ``file:line: what is wrong``.
        passed_over: the files that hold something else, as ``file: what``.
        bytes_read, bytes_total: how much of the files was read in the last iteration, and their size; an estimate for
            tables.

    Raises:
        DataError: a path is missing or cannot be read, or a folder holds no passage files; while reading: a file is
            damaged, there are too many bad lines, or no passage at all. The text names the path and says what to do.
        SettingsError: ``max_bad`` is not between 0 and 1, or ``passage_length`` is below 100.
    """

    def __init__(self, paths: Sequence[Path], max_bad: float = 0.01, passage_length: int = 0) -> None:
        if not 0 <= max_bad <= 1:
            raise SettingsError(f"The largest share of bad lines (max_bad) must be from 0 to 1, not {max_bad}.")
        if passage_length and passage_length < LEAST_LENGTH:
            raise SettingsError(
                f"The length of a passage (passage_length) must be at least {LEAST_LENGTH} characters, or 0 to cut only "
                f"plain texts and Markdown, not {passage_length}."
            )
        self.paths = tuple(Path(path) for path in paths)
        self.max_bad = max_bad
        self.passage_length = passage_length
        self.good = 0
        self.bad = 0
        self.faults: list[str] = []
        self.bytes_read = self.bytes_total = 0
        self._files, self._not_read = find_files(self.paths)
        self.passed_over = list(self._not_read)

    def __iter__(self) -> Iterator[Passage]:
        self.good = self.bad = self.bytes_read = 0
        self.faults = []
        self.passed_over = list(self._not_read)
        self.bytes_total = sum(_measure(file.path) for file in self._files)
        # Check the beginning of all files before the first passage: an hour of indexing should not end because the
        # twentieth file of a large library is another kind of file.
        others = {file for file in self._files if not self._holds_passages(file)}
        ids = _Ids(self._files, self.passage_length > 0)
        for file in self._files:
            if file in others:
                self._count_bytes(_measure(file.path))
            elif file.kind == "document":
                records = self._begin(self._open(file), printable_path(file.path), file.is_named)
                if records is not None:
                    yield from self._number(records, file.name, printable_path(file.path), ids)
                self._count_bytes(_measure(file.path))
            elif file.kind == "archive":
                with closing(_open_stream(file.path, self._count_bytes)) as stream:
                    for name, content in read_members(stream, printable_path(file.path)):
                        yield from self._read_member(file, printable_path(name), content, ids)
            else:
                with closing(self._open(file, self._count_bytes)) as records:
                    yield from self._number(records, file.name, printable_path(file.path), ids)
        if not self.good:
            raise DataError(
                f"There is no passage in {', '.join(map(printable_path, self.paths))}: "
                + ("what is there holds no passages." if self.passed_over or self.faults else "all files are empty.")
                + ' Give JSON Lines with one passage in each line, {"text": "..."}.'
                + _list_faults([*self.faults, *self.passed_over][:FAULTS_KEPT])
            )

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change when a file is edited, added, removed, renamed or moved in the order.

        They are computed from the names and contents of the files, so that copies of a library have the same fingerprint,
        and from ``passage_length``. For files above 64 MiB, size and time of change replace the content.

        Raises:
            DataError: a file is missing or cannot be read.
        """
        digest = blake2b(b"dsrl corpus 2", digest_size=8)
        if self.passage_length:
            digest.update(str(self.passage_length).encode())
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

    def _count_bytes(self, size: int) -> None:
        self.bytes_read += size

    def _holds_passages(self, file: PassageFile) -> bool:
        if file.kind in ("archive", "document"):
            return True  # they take long to open, and are checked when they are read
        with closing(self._open(file)) as records:
            return self._begin(records, printable_path(file.path), file.is_named) is not None

    def _read_member(self, file: PassageFile, name: str, content: io.BufferedReader, ids: _Ids) -> Iterator[Passage]:
        """Yield the passages of a file in an archive."""
        kind = find_kind(name)
        if kind is None or any(part.startswith(".") for part in name.split("/")):
            return
        shown = f"{printable_path(file.path)}/{name}"
        if kind in ("table", "archive", "document"):
            self.passed_over.append(f"{shown}: a {kind} in an archive is not read; unpack it")
        elif kind == "text" and is_about(name):
            self.passed_over.append(f"{shown}: a text about the library")
        else:
            lines = read_lines(content, shown)
            records = self._begin(self._read_lines(name, kind, lines), shown, is_named=False)
            if records is not None:
                yield from self._number(records, f"{file.name}/{name}", shown, ids)

    def _open(self, file: PassageFile, on_read: OnRead = ignore_bytes) -> Generator[Record | Fault, None, None]:
        """Yield what is in a file that is no archive."""
        shown = printable_path(file.path)
        if file.kind == "table":
            yield from read_table(read_rows(file.path, shown, on_read), self.passage_length)
            return
        if file.kind == "document":
            lines = read_document(file.path)
            if isinstance(lines, Fault):
                yield lines
            else:
                title = printable_path(file.path.name.partition(".")[0])
                yield from read_text(lines, title, self.passage_length or TEXT_LENGTH, is_markdown=True)
            return
        with closing(_open_stream(file.path, on_read)) as stream:
            yield from self._read_lines(file.path.name, file.kind, read_lines(stream, shown))

    def _read_lines(self, name: str, kind: str, lines: Iterator[Line]) -> Records:
        if kind == "lines":
            return read_json_lines(lines, self.passage_length)
        title = printable_path(Path(name).name.partition(".")[0])
        return read_text(lines, title, self.passage_length or TEXT_LENGTH, is_markdown(name))

    def _begin(self, records: Records, shown: str, is_named: bool) -> Records | None:
        """Return the records of a file, if it holds passages at its beginning; None if it is passed over.

        Raises:
            DataError: it is another kind of file and cannot be passed over.
        """
        faults: list[Fault] = []
        for record in islice(records, PROBE):
            if isinstance(record, Record):
                return chain(faults, (record,), records)
            faults.append(record)
        if not faults:
            return iter(())
        if not is_named and all(fault.is_foreign for fault in faults):
            self.passed_over.append(f"{shown}: {faults[0].reason}")
            return None
        texts = [f"{shown}:{fault.number}: {fault.reason}" for fault in faults]
        raise DataError(
            f"{texts[0]}. None of the first {len(faults)} lines of this file is a passage. "
            'Leave the file out, or give JSON Lines with one passage in each line, {"text": "..."}.'
            + _list_faults(texts[:FAULTS_KEPT])
        )

    def _number(self, records: Records, name: str, shown: str, ids: _Ids) -> Iterator[Passage]:
        """Yield the records of a file as passages with ids, and count the faults."""
        for record in records:
            if isinstance(record, Fault):
                self._count_bad(f"{shown}:{record.number}: {record.reason}")
            else:
                self.good += 1
                yield Passage(id=ids.make(record, name), text=record.text, title=record.title)

    def _count_bad(self, fault: str) -> None:
        self.bad += 1
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


class _Ids:
    """Makes the ids of passages.

    Args:
        files: all files; their names are in the ids that are made.
        is_cutting: whether documents are cut.
    """

    def __init__(self, files: Sequence[PassageFile], is_cutting: bool) -> None:
        self._names = tuple(file.name for file in files)
        self._archives = tuple(f"{file.name}/" for file in files if file.kind == "archive")
        self._is_cutting = is_cutting
        self._seen = _IdFilter()
        self._document = ""

    def make(self, record: Record, name: str) -> str:
        """Return the id of a record; the parts of a document come one after the other."""
        if record.part <= 1 or not record.id:
            place = f"{name}:{record.number}"
            if not record.id:
                self._document = place
            elif self._seen.add(record.id) or self._looks_made(record.id):
                self._document = f"{record.id}@{place}"
            else:
                self._document = record.id
        return f"{self._document}#{record.part}" if record.part else self._document

    def _looks_made(self, passage_id: str) -> bool:
        if not passage_id[-1].isdigit():
            return False
        head, mark, number = passage_id.rpartition("#")
        if mark and number.isdigit():
            if self._is_cutting:
                return True
            passage_id = head
        head, colon, number = passage_id.rpartition(":")
        if not colon or not number.isdigit():
            return False
        return head.endswith(self._names) or any(name in head for name in self._archives)


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


def _open_stream(path: Path, on_read: OnRead) -> io.BufferedReader:
    try:
        return open_stream(path, on_read)
    except OSError as error:
        raise make_read_error(path, error) from error


def _measure(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise make_read_error(path, error) from error


def _list_faults(faults: Iterable[str]) -> str:
    texts = [f"\n  {fault}" for fault in faults]
    return " The first faults:" + "".join(texts) if texts else ""
