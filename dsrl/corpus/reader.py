"""Passage libraries: the one strict reader, for every retriever.

A library is JSON Lines in UTF-8, with or without a byte order mark, plain or packed with gzip or Zstandard. Every line is
an object: ``text``, a string that is not blank; ``title`` and ``id``, which may be left out. Blank lines are passed over.

What is wrong with a line is a *fault*: the line is left out, counted and named as ``file:line``. Reading stops

* at once where none of the first 20 lines of a file is a passage: it is another kind of file;
* at the fault that makes more than ``max_bad`` of the lines read so far unusable, of 1,000 lines where fewer were read.
  With the default of 1% that is the 11th fault in a small library, and 1% of a large one.

Ids are unique in a corpus. A passage without one gets ``file:line``; one whose id was met before, or could be taken for a
made one, gets ``id@file:line``. The record of met ids has a fixed size, so beyond some millions a few ids that are met for
the first time get the longer form too, the same ones every time.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from dsrl.errors import DataError, SettingsError
from dsrl.types import Passage

#: What a passage file of a folder ends with. A single file may also end with ``.json``, read line by line too.
SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json.gz", ".json.zst")
#: Longest line, in bytes: one line must not fill the memory.
MAX_LINE = 16 * 2**20
#: Shares of bad lines are of at least so many lines.
SMALL = 1_000
#: A file shows what it is in so many lines.
PROBE = 20
#: How many faults are kept with their names; the others are only counted.
NAMED = 10
#: Bytes of a Zstandard file that are unpacked at once. A block takes at least 4 of them and unpacks to at most 128 KiB,
#: so that one step gives at most 8 MiB, however the file was made.
_ZST_STEP = 256
#: Bytes of its own output that a Zstandard file may refer back to: what the program ``zstd`` accepts without ``--long``.
_MAX_WINDOW = 2**27
#: Files up to this size, in bytes, are fingerprinted by their content.
HASHED = 64 * 2**20


def embedded_library() -> Path:
    """Give the folder of the small library that comes with dsrl: medicine, everyday quantities, general knowledge."""
    return Path(__file__).parent / "library"


class _Fault(Exception):
    """What is wrong with a line."""


@dataclass(frozen=True, slots=True)
class _File:
    """A file, and its short name, which is part of ids and therefore the same on every machine."""

    path: Path
    name: str


class Corpus:
    """The passages of some files and folders, read one after the other in flat memory.

    Iterate to read; every iteration starts anew and counts anew, so one at a time.

    Args:
        paths: files (``.jsonl``, ``.jsonl.gz``, ``.jsonl.zst``, ``.json.gz``, ``.json.zst``) and folders, whose files of
            these kinds are read in sorted order, hidden ones left out. A file that is named twice is read once.
        max_bad: share of bad lines that is borne, 0 to 1; see the module.

    Attributes:
        paths: as given.
        good: passages that the last iteration has given so far.
        bad: lines that it has left out so far.
        faults: the first ten of these, ``file:line: what is wrong``.

    Raises:
        DataError: a path is missing or cannot be read, a folder holds no passage files; while reading: a damaged file,
            too many faults, no passage at all. Each names the path and what to do.
        SettingsError: ``max_bad`` is no share.
    """

    def __init__(self, paths: Sequence[Path], max_bad: float = 0.01) -> None:
        if not 0 <= max_bad <= 1:
            raise SettingsError(f"The share of bad lines that is borne (max_bad) must be 0 to 1, not {max_bad}.")
        self.paths = tuple(Path(path) for path in paths)
        self.max_bad = max_bad
        self.good = 0
        self.bad = 0
        self.faults: list[str] = []
        self._files = _find(self.paths)

    def __iter__(self) -> Iterator[Passage]:
        # All files are looked into before the first passage is given: the twentieth file of a large library should
        # not turn out to be another kind of file after an hour of indexing.
        for file in self._files:
            _probe(file)
        self.good = self.bad = 0
        self.faults = []
        seen = _Seen()
        endings = tuple(file.name for file in self._files)
        for file in self._files:
            for number, line in _lines(file.path):
                try:
                    id, title, text = _parse(line)
                except _Fault as fault:
                    self._count(file.path, number, str(fault))
                    continue
                place = f"{file.name}:{number}"
                if not id:
                    id = place
                elif seen.add(id) or _ends_with_place(id, endings):
                    id = f"{id}@{place}"
                self.good += 1
                yield Passage(id=id, text=text, title=title)
        if not self.good:
            raise DataError(
                f"There is no passage in {', '.join(map(_shown, self.paths))}: nothing but empty files. "
                'Give JSON Lines with a passage a line, {"text": "..."}.'
            )

    def _count(self, path: Path, number: int, reason: str) -> None:
        self.bad += 1
        fault = f"{_shown(path)}:{number}: {reason}"
        if len(self.faults) < NAMED:
            self.faults.append(fault)
        lines = self.good + self.bad
        if self.bad > self.max_bad * max(lines, SMALL):
            raise DataError(
                f"{fault}. This is fault {self.bad:,} in {lines:,} lines, and no more than {self.max_bad:.2%} "
                f"of them (of {SMALL:,} where there are fewer) may be unusable. "
                "Mend the lines, leave the file out, or raise the share of bad lines that is borne (--max-bad)."
                + _listed(self.faults)
            )

    def fingerprint(self) -> str:
        """Give 16 hexadecimal digits that change when a file is edited, added, left out, renamed or put elsewhere in order.

        They rest on the names and contents of the files, so that copies of a library have the same; on size and time of
        change instead of content for files above 64 MiB.

        Raises:
            DataError: a file has gone or cannot be read.
        """
        whole = blake2b(b"dsrl corpus 1", digest_size=8)
        for file in self._files:
            try:
                stat = file.path.stat()
                if stat.st_size <= HASHED:
                    content = blake2b(file.path.read_bytes(), digest_size=16).hexdigest()
                else:
                    content = str(stat.st_mtime_ns)
            except OSError as error:
                raise _unreadable(file.path, error) from error
            whole.update(json.dumps([file.name, stat.st_size, content]).encode())
        return whole.hexdigest()


class _Seen:
    """Tells whether an id may have been met before, in 16 MiB for any number of ids (a Bloom filter).

    It never misses one that was met; of 30 million new ones it takes 12% for met, of 3 million 1 in 20,000.
    """

    def __init__(self) -> None:
        self._bits = bytearray(2**24)

    def add(self, id: str) -> bool:
        digest = blake2b(id.encode(), digest_size=16).digest()
        met = True
        for at in range(0, 16, 4):
            number = int.from_bytes(digest[at : at + 4], "little") % 2**27
            byte, bit = number >> 3, 1 << (number & 7)
            if not self._bits[byte] & bit:
                met = False
                self._bits[byte] |= bit
        return met


def _ends_with_place(id: str, names: tuple[str, ...]) -> bool:
    head, colon, number = id.rpartition(":")
    return bool(colon) and number.isdigit() and head.endswith(names)


def _find(paths: Sequence[Path]) -> list[_File]:
    found: dict[Path, _File] = {}
    for path in paths:
        try:
            if path.is_dir():
                inside = _walk(path)
                if not inside:
                    raise DataError(
                        f"The folder {_shown(path)} holds no passage files. They end with {', '.join(SUFFIXES)}."
                    )
                top = path.resolve()
                for file in inside:
                    name = f"{top.name}/{file.relative_to(path).as_posix()}"
                    found.setdefault(file.resolve(), _File(file, _shown(name)))
            elif path.is_file():
                if not path.name.lower().endswith((*SUFFIXES, ".json")):
                    raise DataError(
                        f"{_shown(path)} is no passage file. Give JSON Lines, named so: {', '.join(SUFFIXES)}."
                    )
                found.setdefault(path.resolve(), _File(path, _shown(path.name)))
            elif path.exists():
                raise DataError(f"{_shown(path)} is neither a file nor a folder, so no passages can be read from it.")
            else:
                raise DataError(f"There is no passage library at {_shown(path)}. Check the path.")
        except OSError as error:
            raise _unreadable(path, error) from error
    if not found:
        raise DataError("No passage library was named. Give at least one file or folder.")
    return _named_apart(list(found.values()))


def _named_apart(files: list[_File]) -> list[_File]:
    # Two libraries can hold files of one name; then only the whole path tells their passages apart.
    times = Counter(file.name for file in files)
    return [
        file if times[file.name] == 1 else _File(file.path, _shown(file.path.resolve().as_posix())) for file in files
    ]


def _walk(folder: Path) -> list[Path]:
    def stop(error: OSError) -> None:
        raise error  # os.walk passes over folders that may not be read, unless it is told not to

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
    for number, line in _lines(file.path):
        try:
            _parse(line)
        except _Fault as fault:
            faults.append(f"{_shown(file.path)}:{number}: {fault}")
            if len(faults) == PROBE:
                break
        else:
            return
    if faults:
        raise DataError(
            f"{faults[0]}. None of the first {len(faults)} lines of this file is a passage. "
            'Leave the file out, or give JSON Lines with a passage a line, {"text": "..."}.' + _listed(faults[:NAMED])
        )


def _parse(line: bytes | None) -> tuple[str, str, str]:
    """Read ``(id, title, text)``, the first two empty where they are not given."""
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
    id = record.get("id")
    if isinstance(id, int) and not isinstance(id, bool):
        record["id"] = str(id)
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
    # Escaped and cut: a stranger's field names go to a terminal here.
    names = [ascii(key)[:40] for key in list(record)[:5]]
    return ", ".join(names) + (", ..." if len(record) > 5 else "") if names else "none"


def _lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Give number and bytes of every line that is not blank; None for a line above :data:`MAX_LINE`."""
    number = 0
    try:
        with _open(path) as stream:
            while line := stream.readline(MAX_LINE + 1):
                number += 1
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if len(line) > MAX_LINE and not line.endswith(b"\n"):
                    while (rest := stream.readline(2**20)) and not rest.endswith(b"\n"):
                        pass
                    yield number, None
                elif line.strip():
                    yield number, line
                else:
                    number += _skip_blank(stream)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{_shown(path)} is damaged after line {number:,} ({error}). Fetch or pack the file again."
        ) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _skip_blank(stream: io.BufferedReader | gzip.GzipFile) -> int:
    """Skip the blank lines that are in the stream's buffer, all at once: a packed file may hold millions. Count them."""
    ahead = bytes(stream.peek(1))
    end = ahead.rfind(b"\n", 0, len(ahead) - len(ahead.lstrip())) + 1
    stream.read(end)
    return ahead.count(b"\n", 0, end)


def _open(path: Path) -> io.BufferedReader | gzip.GzipFile:
    name = path.name.lower()
    if name.endswith(".gz"):
        return gzip.open(path, "rb")
    if name.endswith(".zst"):
        return io.BufferedReader(_Zst(path), 2**18)
    return path.open("rb")


class _Zst(io.RawIOBase):
    """A Zstandard file as a stream. It says when the file is cut off, which ``zstandard``'s own stream does not."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            import zstandard
        except ImportError as error:
            raise DataError(
                f"Reading {_shown(path)} needs the package zstandard: pip install zstandard. Or unpack the file."
            ) from error
        self._broken = zstandard.ZstdError
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        self._frame: Any = None
        self._source = path.open("rb")
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            packed = self._source.read(_ZST_STEP)
            if not packed:
                if self._frame is not None:
                    raise EOFError("the file is cut off")
                return 0
            self._ready = memoryview(self._unpack(packed))
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _unpack(self, packed: bytes) -> bytes:
        parts = []
        try:
            while packed:
                self._frame = self._frame or self._decompressor.decompressobj()
                parts.append(self._frame.decompress(packed))
                if not self._frame.eof:
                    break
                packed, self._frame = self._frame.unused_data, None  # another frame may follow
        except self._broken as error:
            if "too much memory" in str(error):
                raise DataError(
                    f"{_shown(self._path)} cannot be unpacked in less than {_MAX_WINDOW // 2**20} MiB of memory: it was "
                    "packed with --long. Unpack it with: zstd -d --long=31 FILE"
                ) from error
            raise EOFError(str(error)) from error
        return b"".join(parts)

    def close(self) -> None:
        self._source.close()
        super().close()


def _unreadable(path: Path, error: OSError) -> DataError:
    reason = error.strerror or type(error).__name__
    return DataError(f"{_shown(error.filename or path)} cannot be read: {reason}. Check the path and its permissions.")


def _listed(faults: Iterable[str]) -> str:
    return " The first faults:" + "".join(f"\n  {fault}" for fault in faults)


def _shown(path: Path | str | bytes) -> str:
    # File names are bytes: what is not UTF-8 in them can be neither printed nor stored as it is.
    return os.fsencode(path).decode("utf-8", "backslashreplace")
