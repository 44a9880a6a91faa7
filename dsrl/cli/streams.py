"""The standard streams: only results go to stdout, and a stream that is closed or breaks never ends a run.

stdout: plugins and the libraries that they use may print anything. Therefore, when the program starts, file descriptor 1 is
copied to another number and then redirected to stderr. Only :func:`get_result_stream` returns the real stdout.

stderr: a failure to print progress or notes is no reason to end a run. Text that cannot be written (the reader has exited,
the terminal was closed, the disk is full) is dropped.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TextIO

_result_stream: TextIO | None = None


class _Stream(io.TextIOWrapper):
    """A text stream that drops its output without an error once nobody can read it.

    Args:
        fd: the descriptor to write to.
        like: the stream whose encoding is used; None if it was closed.
        tolerant: ignore every error, also a full disk; otherwise, ignore only that the reader has exited.
        others: descriptors that lead to the same place.
    """

    def __init__(self, fd: int, like: TextIO | None, tolerant: bool, others: tuple[int, ...] = ()) -> None:
        encoding = getattr(like, "encoding", None) or "utf-8"
        errors = "backslashreplace" if tolerant else getattr(like, "errors", None)
        raw = io.FileIO(fd, "w", closefd=False)
        super().__init__(io.BufferedWriter(raw), encoding=encoding, errors=errors, line_buffering=True)
        self._fds, self._tolerant = (fd, *others), tolerant

    def write(self, text: str) -> int:
        with self._drop_if_broken():
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with self._drop_if_broken():
            super().flush()

    @contextmanager
    def _drop_if_broken(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            null = os.open(os.devnull, os.O_WRONLY)
            for fd in self._fds:
                os.dup2(null, fd)
            os.close(null)
            with suppress(OSError):
                super().flush()  # empty the buffer, so that the error is raised once only
            if not self._tolerant and not isinstance(error, BrokenPipeError):
                raise


def prepare_streams() -> None:
    """Make the streams of this process safe when the program starts. Streams that somebody has replaced stay as they are."""
    if not all(stream is own for stream, own in ((sys.stdout, sys.__stdout__), (sys.stderr, sys.__stderr__))):
        return  # a test, or a program that calls this one, uses streams of its own
    _open_closed_descriptors()
    out = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = _Stream(out, sys.stdout, tolerant=False)
    sys.stderr = sys.__stderr__ = _Stream(2, sys.stderr, tolerant=True, others=(1,))  # type: ignore[misc]
    sys.__stdout__ = sys.stderr  # type: ignore[misc]


def _open_closed_descriptors() -> None:
    """Open closed standard descriptors on the null device: otherwise the next file, say a database, gets the number."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is used


@contextmanager
def reserve_stdout() -> Iterator[None]:
    """While a command runs, send to stderr what others print; :func:`get_result_stream` returns the real stdout."""
    global _result_stream
    if _result_stream is not None:
        yield
        return
    _result_stream = sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _result_stream = None


def get_result_stream() -> TextIO:
    """Return the stream for a command's result."""
    return _result_stream or sys.stdout
