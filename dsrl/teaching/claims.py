"""Which replies are being asked for: of the processes that want the same one, one pays, and the others wait for it.

A claim is a lock of the operating system on one byte of a file beside the reply store; the byte's place is the reply's key
and number. It costs a system call and writes nothing. The system takes it back in the moment in which its process ends,
however that comes: no claim outlives a ``kill -9``, and none is lost while its process lives.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from dsrl.storage.sqlite import get_lock_holder, store_errors

#: Seconds between two looks at what another process has claimed: the first, and the longest while few wait.
PAUSES = (0.05, 1.0)
#: Looks a second that all who wait take together at most, once their pauses are as long.
_LOOKS = 1000
#: Seconds of waiting after which the user is told.
_QUIET = 30.0


class _File:
    """A file of claims, once for each process: the system takes all locks of a process where it closes the file once."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self.claimed: set[int] = set()
        self.users = 0


_files: dict[tuple[int, int, int], _File] = {}
_lock = threading.Lock()


class Claims:
    """The claims of one ledger.

    Args:
        path: made if it is not there; it stays, and stays empty.
        note: is told when another process is waited for that takes long.

    Raises:
        StoreError: the file cannot be opened.
    """

    def __init__(self, path: Path, note: Callable[[str], None] = lambda text: None) -> None:
        self._path, self._note = path, note
        self._own: set[int] = set()
        self._waiting = 0
        self._noted = False
        with _lock, store_errors(path):
            place = _place(path)
            if place is None or place not in _files:
                file = _File(path)
                place = _place(path)
                assert place is not None
                _files[place] = file
            self._at = place
            self._file = _files[place]
            self._file.users += 1

    def take(self, key: str, numbers: Iterable[int]) -> list[int]:
        """Claim replies to a request; give the numbers of those that nobody else has claimed.

        What has been stored since the caller looked may be among them: look again, and ask for the others.
        """
        taken = []
        with _lock, store_errors(self._path):
            for number in numbers:
                byte = _byte(key, number)
                if byte in self._file.claimed:
                    continue
                try:
                    fcntl.lockf(self._file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
                except (BlockingIOError, PermissionError):
                    continue
                self._file.claimed.add(byte)
                self._own.add(byte)
                taken.append(number)
        return taken

    def release(self, key: str, numbers: Iterable[int]) -> None:
        """Let go of replies: they are stored, or could not be had."""
        self._release(_byte(key, number) for number in numbers)

    async def wait(self, looked: int) -> None:
        """Wait for what another process has claimed, before the caller looks for it again.

        Args:
            looked: how often the caller has waited for it already.
        """
        self._waiting += 1
        try:
            longest = max(PAUSES[1], self._waiting / _LOOKS)
            if not self._noted and looked * PAUSES[1] > _QUIET:
                self._noted = True
                self._note(
                    f"waits for replies that {get_lock_holder(self._path)} is asking for; they are paid for once"
                )
            await asyncio.sleep(min(PAUSES[0] * 1.5 ** min(looked, 20), longest))
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Let go of everything."""
        self._release(list(self._own))
        with _lock:
            self._file.users -= 1
            if not self._file.users:
                os.close(self._file.descriptor)
                del _files[self._at]

    def _release(self, bytes: Iterable[int]) -> None:
        with _lock, store_errors(self._path):
            for byte in bytes:
                if byte in self._own:
                    fcntl.lockf(self._file.descriptor, fcntl.LOCK_UN, 1, byte)
                    self._file.claimed.discard(byte)
                    self._own.discard(byte)


def _place(path: Path) -> tuple[int, int, int] | None:
    """Name a file and the process that it is open in (a forked one has none of the locks); None where it is not there."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return os.getpid(), status.st_dev, status.st_ino


def _byte(key: str, number: int) -> int:
    """Give the place of a reply in the file: 60 bits of the key, a SHA-256, and the numbers one after the other."""
    return int(key[:15], 16) + number
