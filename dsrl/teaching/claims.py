"""Claims on replies: if several processes want the same reply, one of them pays for it and the others wait.

A claim is a lock on one byte of a file beside the reply store (:mod:`dsrl.teaching.byte_locks`). The position of the byte
follows from the key and the number of the reply. A claim ends with its process, however the process ends, and never before.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from dsrl.storage.sqlite import get_lock_holder, store_errors
from dsrl.teaching.byte_locks import POSITIONS, try_lock, unlock

#: Seconds between two looks at what another process has claimed: the first pause, and the longest while few wait.
PAUSES = (0.05, 1.0)
#: Looks a second that all waiting requests make together, at most, once their pauses have grown.
_MAX_LOOKS_PER_SECOND = 1000
#: Seconds of waiting after which the user is informed.
_NOTE_AFTER = 30.0


class _ClaimFile:
    """The claim file of one process, open once: POSIX drops all locks of a process when it closes the file anywhere."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self.positions: set[int] = set()
        self.users = 0


_files: dict[tuple[int, int, int], _ClaimFile] = {}
_lock = threading.Lock()


class Claims:
    """The claims of one ledger.

    Args:
        path: the claim file. It is created if it does not exist; it stays there and stays empty.
        note: receives a text for the user when a wait for another process takes long.

    Raises:
        StoreError: the file cannot be opened.
    """

    def __init__(self, path: Path, note: Callable[[str], None] = lambda text: None) -> None:
        self._path, self._note = path, note
        self._own: set[int] = set()
        self._waiting = 0
        self._noted = False
        with _lock, store_errors(path):
            identity = _identify(path)
            if identity is None or identity not in _files:
                file = _ClaimFile(path)
                identity = _identify(path)
                assert identity is not None
                _files[identity] = file
            self._identity = identity
            self._file = _files[identity]
            self._file.users += 1

    def take(self, key: str, numbers: Iterable[int]) -> list[int]:
        """Claim replies to a request; return the numbers of those that nobody else has claimed.

        Some of them may have been stored since the caller looked. The caller must look again and request only the others.

        Args:
            key: the request's key (hexadecimal).
            numbers: of the replies.

        Raises:
            StoreError: the claim file cannot be locked.
        """
        taken = []
        with _lock, store_errors(self._path):
            for number in numbers:
                position = _locate(key, number)
                if position not in self._file.positions and try_lock(self._file.descriptor, position):
                    self._file.positions.add(position)
                    self._own.add(position)
                    taken.append(number)
        return taken

    def release(self, key: str, numbers: Iterable[int]) -> None:
        """Release claims: the replies are stored now, or could not be had.

        Raises:
            StoreError: the claim file cannot be unlocked.
        """
        self._release(_locate(key, number) for number in numbers)

    async def wait(self, waits: int) -> None:
        """Wait a moment for what another process has claimed, before the caller looks for it again.

        Args:
            waits: how often the caller has waited for it before.
        """
        self._waiting += 1
        try:
            longest = max(PAUSES[1], self._waiting / _MAX_LOOKS_PER_SECOND)
            if not self._noted and waits * PAUSES[1] > _NOTE_AFTER:
                self._noted = True
                self._note(
                    f"waiting for replies that {get_lock_holder(self._path)} has requested; they are paid for only once"
                )
            await asyncio.sleep(min(PAUSES[0] * 1.5 ** min(waits, 20), longest))
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Release all claims of this ledger, and close the file if no other ledger of the process uses it."""
        self._release(list(self._own))
        with _lock:
            self._file.users -= 1
            if not self._file.users:
                os.close(self._file.descriptor)
                del _files[self._identity]

    def _release(self, positions: Iterable[int]) -> None:
        with _lock, store_errors(self._path):
            for position in positions:
                if position in self._own:
                    unlock(self._file.descriptor, position)
                    self._file.positions.discard(position)
                    self._own.discard(position)


def _identify(path: Path) -> tuple[int, int, int] | None:
    """Identify a file and the process that has it open (a forked process has none of the locks); None if it is missing."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return os.getpid(), status.st_dev, status.st_ino


def _locate(key: str, number: int) -> int:
    """Return the byte that stands for a reply: 60 bits of the key (a SHA-256), plus the reply's number.

    Two replies that share a byte, which can happen on Windows with its 31 bits, only wait for each other.
    """
    return (int(key[:15], 16) + number) % POSITIONS
