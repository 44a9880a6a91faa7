"""The three standard streams: results alone go to stdout, and a stream that is closed or breaks ends nothing.

stdout: plugins and the libraries below them print what they like. So file descriptor 1 is moved away when the program
starts, descriptor 1 then leads to stderr, and only :func:`results` writes to the real stdout.

stderr: progress and notes are not worth a run. What cannot be written (the reader has gone, the terminal was closed, the
disk is full) is dropped.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TextIO

_results: TextIO | None = None


class _Stream(io.TextIOWrapper):
    """A text stream that goes on silently when nobody can read it any more.

    Args:
        fd: descriptor to write to.
        like: stream whose encoding is taken; None where the stream was closed.
        tolerant: go on after any fault, also a full disk; otherwise only when the reader has gone.
        others: descriptors that lead to the same place.
    """

    def __init__(self, fd: int, like: TextIO | None, tolerant: bool, others: tuple[int, ...] = ()) -> None:
        encoding = getattr(like, "encoding", None) or "utf-8"
        errors = "backslashreplace" if tolerant else getattr(like, "errors", None)
        raw = io.FileIO(fd, "w", closefd=False)
        super().__init__(io.BufferedWriter(raw), encoding=encoding, errors=errors, line_buffering=True)
        self._fds, self._tolerant = (fd, *others), tolerant

    def write(self, text: str) -> int:
        with self._dropped_when_broken():
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with self._dropped_when_broken():
            super().flush()

    @contextmanager
    def _dropped_when_broken(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for fd in self._fds:
                os.dup2(nowhere, fd)
            os.close(nowhere)
            with suppress(OSError):
                super().flush()  # what is still in the buffer goes there, too: the fault is raised once
            if not self._tolerant and not isinstance(error, BrokenPipeError):
                raise


def prepare() -> None:
    """Make the streams of this process safe, once, when the program starts; does nothing where they were replaced."""
    if not all(stream is own for stream, own in ((sys.stdout, sys.__stdout__), (sys.stderr, sys.__stderr__))):
        return  # a test or a program around this one has put its own there
    _open_closed()
    out = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = _Stream(out, sys.stdout, tolerant=False)
    sys.stderr = sys.__stderr__ = _Stream(2, sys.stderr, tolerant=True, others=(1,))  # type: ignore[misc]
    sys.__stdout__ = sys.stderr  # type: ignore[misc]


def _open_closed() -> None:
    """Open a closed standard descriptor on nothing: else the next file (a database, say) gets its number."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


@contextmanager
def reserved_stdout() -> Iterator[None]:
    """While a command works, what others print goes to stderr; :func:`results` is stdout."""
    global _results
    if _results is not None:
        yield
        return
    _results = sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _results = None


def results() -> TextIO:
    """Give the stream that a command's results are printed on."""
    return _results or sys.stdout
