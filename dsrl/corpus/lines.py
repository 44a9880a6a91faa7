"""The lines of a file, plain or compressed with gzip or Zstandard, read in little memory however the file was made."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dsrl.errors import DataError

#: Longest line in bytes, so that one line cannot fill the memory.
MAX_LINE = 16 * 2**20
#: A file that unpacks to more than this many times its size, and to more than ``FREE_SIZE`` bytes, is no text: texts
#: unpack to 3 to 20 times their size. Without this limit, a file of a few megabytes could fill a disk.
MAX_RATIO = 200
FREE_SIZE = 2**30
#: Bytes of a Zstandard file that are decompressed at once. A block has at least 4 bytes and decompresses to at most
#: 128 KiB, so one step gives at most 8 MiB, however the file was made.
_ZST_STEP = 256
#: Largest window of a Zstandard file in bytes; the program ``zstd`` accepts the same without ``--long``.
_MAX_WINDOW = 2**27
_BUFFER = 2**18
#: What the modules for compressed files and archives raise if a file is damaged.
DAMAGE = (gzip.BadGzipFile, EOFError, zlib.error, tarfile.TarError)

#: Is called with the number of bytes that were read from the disk.
OnRead = Callable[[int], None]


def ignore_bytes(size: int) -> None:
    """Do nothing; for callers that do not count what is read."""


def open_stream(path: Path, on_read: OnRead = ignore_bytes) -> io.BufferedReader:
    """Open a file for reading; decompress it if it ends with ``.gz``, ``.tgz``, ``.zst`` or ``.tzst``.

    Args:
        path: the file.
        on_read: is called with the number of bytes that were read from the disk, whenever some were.

    Raises:
        OSError: the file cannot be opened.
        DataError: it needs the package ``zstandard``, which is not installed. While reading: it unpacks to far more than
            a text does.
    """
    source = _Source(path, on_read)
    name = path.name.lower()
    try:
        if name.endswith((".gz", ".tgz")):
            unpacked: Any = gzip.GzipFile(fileobj=io.BufferedReader(source, _BUFFER))
        elif name.endswith((".zst", ".tzst")):
            unpacked = _Zst(path, io.BufferedReader(source, _BUFFER))
        else:
            return io.BufferedReader(source, _BUFFER)
    except BaseException:
        source.close()
        raise
    return io.BufferedReader(_Unpacked(path, source, unpacked), _BUFFER)


def read_lines(stream: io.BufferedReader, name: str) -> Iterator[tuple[int, bytes | None]]:
    """Yield number and bytes of every line that is not blank; None as bytes for a line longer than :data:`MAX_LINE`.

    A byte order mark at the start of a line is removed: files that were joined have one in the middle.

    Args:
        stream: the bytes of a file, or of a file in an archive.
        name: the file, for errors.

    Raises:
        DataError: the file cannot be read or is damaged.
    """
    number = 0
    try:
        while line := stream.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE and not line.endswith(b"\n"):
                while (rest := stream.readline(2**20)) and not rest.endswith(b"\n"):
                    pass
                yield number, None
            elif (line := line.removeprefix(b"\xef\xbb\xbf")).strip():
                yield number, line
            else:
                number += _skip_blank(stream)
    except DAMAGE as error:
        raise DataError(
            f"{name} is damaged after line {number:,} ({error}). Download or compress the file again."
        ) from error
    except OSError as error:
        raise make_read_error(name, error) from error


def _skip_blank(stream: io.BufferedReader) -> int:
    """Skip all blank lines in the stream's buffer at once, and return their number. A compressed file may hold millions."""
    ahead = bytes(stream.peek(1))
    end = ahead.rfind(b"\n", 0, len(ahead) - len(ahead.lstrip())) + 1
    stream.read(end)
    return ahead.count(b"\n", 0, end)


class _Source(io.FileIO):
    """A file that counts the bytes that are read from it."""

    def __init__(self, path: Path, on_read: OnRead) -> None:
        super().__init__(path, "rb")
        self.consumed = 0
        self._on_read = on_read

    def readinto(self, buffer: Any) -> int | None:
        size = super().readinto(buffer)
        self.consumed += size or 0
        self._on_read(size or 0)
        return size


class _Unpacked(io.RawIOBase):
    """The content of a compressed file, as long as its size is possible for a text."""

    def __init__(self, path: Path, source: _Source, unpacked: Any) -> None:
        self._path, self._source, self._unpacked = path, source, unpacked
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = int(self._unpacked.readinto(buffer))
        self._size += size
        if self._size > FREE_SIZE and self._size > MAX_RATIO * self._source.consumed:
            raise DataError(
                f"{printable_path(self._path)} unpacks to more than {MAX_RATIO} times its size, which no text does. Leave "
                "the file out, or decompress it yourself if its content is right."
            )
        return size

    def close(self) -> None:
        self._unpacked.close()
        self._source.close()
        super().close()


class _Zst(io.RawIOBase):
    """A Zstandard file as a stream that raises if the file is cut off; the stream of ``zstandard`` does not."""

    def __init__(self, path: Path, source: io.BufferedReader) -> None:
        self._path = path
        try:
            import zstandard
        except ImportError as error:
            raise DataError(
                f"Reading {printable_path(path)} needs the package zstandard: pip install zstandard. Or decompress the file."
            ) from error
        self._error = zstandard.ZstdError
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        self._frame: Any = None
        self._source = source
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            compressed = self._source.read(_ZST_STEP)
            if not compressed:
                if self._frame is not None:
                    raise EOFError("the file is cut off")
                return 0
            self._ready = memoryview(self._decompress(compressed))
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _decompress(self, compressed: bytes) -> bytes:
        parts = []
        try:
            while compressed:
                self._frame = self._frame or self._decompressor.decompressobj()
                parts.append(self._frame.decompress(compressed))
                if not self._frame.eof:
                    break
                compressed, self._frame = self._frame.unused_data, None  # another frame may follow
        except self._error as error:
            if "too much memory" in str(error):
                raise DataError(
                    f"{printable_path(self._path)} cannot be decompressed in less than {_MAX_WINDOW // 2**20} MiB of "
                    "memory: it was compressed with --long. Decompress it with: zstd -d --long=31 FILE"
                ) from error
            raise EOFError(str(error)) from error
        return b"".join(parts)


def make_read_error(path: Path | str, error: OSError) -> DataError:
    """Return the error for a file or folder that cannot be read."""
    reason = error.strerror or type(error).__name__
    return DataError(
        f"{printable_path(error.filename or path)} cannot be read: {reason}. Check the path and its permissions."
    )


def printable_path(path: Path | str | bytes) -> str:
    """Return a path as text that can be printed and stored."""
    # File names are bytes; bytes that are not UTF-8 can be neither printed nor stored, so they are escaped.
    return os.fsencode(path).decode("utf-8", "backslashreplace")
