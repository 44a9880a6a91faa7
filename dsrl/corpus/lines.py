"""The lines of a file, plain or compressed with gzip or Zstandard, read in little memory however the file was made."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dsrl.errors import DataError

#: Longest line in bytes, so that one line cannot fill the memory.
MAX_LINE = 16 * 2**20
#: Bytes of a Zstandard file that are decompressed at once. A block has at least 4 bytes and decompresses to at most
#: 128 KiB, so one step gives at most 8 MiB, however the file was made.
_ZST_STEP = 256
#: Largest window of a Zstandard file in bytes; the program ``zstd`` accepts the same without ``--long``.
_MAX_WINDOW = 2**27


def read_lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Yield number and bytes of every line that is not blank; None as bytes for a line longer than :data:`MAX_LINE`.

    Args:
        path: a file; its suffix ``.gz`` or ``.zst`` says that it is compressed.

    Raises:
        DataError: the file cannot be read or is damaged.
    """
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
            f"{printable_path(path)} is damaged after line {number:,} ({error}). Download or compress the file again."
        ) from error
    except OSError as error:
        raise make_read_error(path, error) from error


def _skip_blank(stream: io.BufferedReader | gzip.GzipFile) -> int:
    """Skip all blank lines in the stream's buffer at once, and return their number. A compressed file may hold millions."""
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
    """A Zstandard file as a stream that raises if the file is cut off; the stream of ``zstandard`` does not."""

    def __init__(self, path: Path) -> None:
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
        self._source = path.open("rb")
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

    def close(self) -> None:
        self._source.close()
        super().close()


def make_read_error(path: Path, error: OSError) -> DataError:
    """Return the error for a file or folder that cannot be read."""
    reason = error.strerror or type(error).__name__
    return DataError(
        f"{printable_path(error.filename or path)} cannot be read: {reason}. Check the path and its permissions."
    )


def printable_path(path: Path | str | bytes) -> str:
    """Return a path as text that can be printed and stored."""
    # File names are bytes; bytes that are not UTF-8 can be neither printed nor stored, so they are escaped.
    return os.fsencode(path).decode("utf-8", "backslashreplace")
