"""Archives (``.tar``, ``.tar.gz``, ``.tar.zst``), read in place. Nothing is unpacked to the disk: no path can lead out."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

from dsrl.corpus.lines import DAMAGE, make_read_error
from dsrl.errors import DataError

#: Largest header in bytes. The module tarfile reads a header in one step, and an archive may promise one of any size.
_MAX_HEADER = 2**20


def read_members(stream: io.BufferedReader, name: str) -> Iterator[tuple[str, io.BufferedReader]]:
    """Yield path and content of every regular file in an archive. A content can be read until the next one is yielded.

    Links, devices and folders are not files. In a path, ``..`` and a leading ``/`` are left out.

    Args:
        stream: the bytes of the archive, decompressed.
        name: the archive, for errors.

    Raises:
        DataError: the archive is damaged or cut off.
    """
    source = _ForwardFile(stream)
    try:
        archive: Any = tarfile.TarFile(fileobj=cast(Any, source), mode="r")
        times: Counter[str] = Counter()
        while member := archive.next():
            archive.members = []  # otherwise the memory grows with the number of files
            if member.isreg() and not member.issparse():
                content = archive.extractfile(member)
                path = "/".join(part for part in member.name.split("/") if part not in ("", ".", ".."))
                times[path] += 1
                if times[path] > 1:  # an archive may hold several files of one name
                    path = f"{times[path]}/{path}"
                yield path, content
        # tarfile takes a header that it cannot read for the end; at the true end, it has read a block of zeros.
        if not source.last or source.last.strip(b"\0"):
            raise tarfile.ReadError("it has no end mark, or a file in it has no valid header")
        source.read_rest()
    except (*DAMAGE, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{name} is damaged ({error}). Download or pack the archive again.") from error
    except OSError as error:
        raise make_read_error(name, error) from error


class _ForwardFile:
    """A stream as the file that tarfile wants; it is only read forwards.

    Attributes:
        last: what was read last.
    """

    def __init__(self, stream: io.BufferedReader) -> None:
        self.last = b""
        self._stream = stream
        self._at = 0

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True

    def seek(self, position: int) -> int:
        if position < self._at:
            raise tarfile.ReadError("its parts are not in order")
        while self._at < position and (part := self._stream.read(min(position - self._at, 2**20))):
            self._at += len(part)
        return self._at

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_HEADER:
            raise tarfile.ReadError("a header is too large")
        self.last = self._stream.read(size)
        self._at += len(self.last)
        return self.last

    def read_rest(self) -> None:
        """Read to the end, where the checksum of a compressed file is."""
        while self._stream.read(2**20):
            pass
