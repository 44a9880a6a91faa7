"""``calls.db`` open for work: queries, and writes that share transactions.

What was written is on the disk before the writer goes on. Writes that arrive while a transaction goes to the disk share the
next one. While the file cannot be written (the disk is full, for example), writes wait in memory.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dsrl.storage.sqlite import CannotWrite, connect, store_errors, touch, transaction
from dsrl.teaching.schema import SCHEMA

T = TypeVar("T")

#: Seconds that writes wait for a file that cannot be written, before they are given up.
WRITE_TIMEOUT = 600.0
#: Seconds between two tries to write the file.
_RETRY_PAUSE = 1.0


@dataclass(slots=True)
class _Write:
    """A write that waits for its transaction. ``replies``: how many paid replies are lost if it fails."""

    run: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]
    replies: int


class CallDatabase:
    """``calls.db``, open for the tables' owners.

    Args:
        path: the file. It is created if it does not exist, and migrated if its format is an earlier one.
        note: receives texts for the user.

    Raises:
        StoreError: the file cannot be opened, is empty, damaged or locked, or has a format that cannot be migrated.
    """

    def __init__(self, path: Path, note: Callable[[str], None]) -> None:
        self.path, self._note = path, note
        self._reader = connect(path, SCHEMA, durable=True)
        self._writer = connect(path, SCHEMA, durable=True)
        self._waiting: list[_Write] = []
        self._committing: asyncio.Task[None] | None = None
        self._failing_since: float | None = None  # monotonic seconds; None: the last write succeeded
        self._timeout = WRITE_TIMEOUT
        self._hurry = asyncio.Event()  # ends a pause between two tries
        self._lost_replies = 0

    def read(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query.

        Raises:
            StoreError: the file cannot be read.
        """
        with store_errors(self.path):
            return self._reader.execute(sql, values).fetchall()

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection for queries outside a transaction."""
        return self._reader

    async def write(self, write: Callable[[sqlite3.Connection], T], replies: int = 0) -> T:
        """Run ``write`` in a transaction, perhaps together with others; return its result when it is on the disk.

        Cancelling the caller does not cancel the write. If the file cannot be written, the write waits in memory and may be
        run again.

        Args:
            write: executes statements on the connection that it is given.
            replies: how many paid replies it stores.

        Raises:
            StoreError: the file could not be written for :data:`WRITE_TIMEOUT` seconds, or is damaged.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Write(write, done, replies))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        return await asyncio.shield(done)

    async def wait_until_writable(self) -> None:
        """Wait while the file cannot be written: nothing should be requested that could not be stored.

        Raises:
            StoreError: as :meth:`write`.
        """
        if self._failing_since is not None:
            await self.write(touch)

    def hurry(self) -> None:
        """Stop waiting for a file that cannot be written: try once more, then give up the writes that wait."""
        if self._failing_since is not None:
            self._timeout = 0.0
            self._hurry.set()

    async def close(self) -> None:
        """Finish the writes that wait, and close the file."""
        if self._committing is not None:
            await self._committing
        self.disconnect()
        if self._lost_replies:
            self._note(f"{self._lost_replies} paid replies could not be written to {self.path} and are lost")

    def disconnect(self) -> None:
        """Close the file; nothing may wait to be written."""
        self._reader.close()
        self._writer.close()

    async def _commit(self) -> None:
        try:
            while self._waiting:
                writes, self._waiting = self._waiting, []
                await self._write_together(writes)
        finally:
            self._committing = None

    async def _write_together(self, writes: list[_Write]) -> None:
        try:
            results = await self._run_transaction(writes)
        except CannotWrite as error:
            if await self._may_try_again(error):
                self._waiting = writes + self._waiting
                return
            self._lost_replies += sum(write.replies for write in writes)
            _fail(writes, error)
        except Exception as error:  # noqa: BLE001 - those who wait must receive it
            if len(writes) > 1:  # one of them is at fault, and must not take the others with it
                for write in writes:
                    await self._write_together([write])
                return
            _fail(writes, error)
        else:
            if self._failing_since is not None:
                self._failing_since = None
                self._note(f"{self.path} can be written again; the run continues")
            for write, result in zip(writes, results, strict=True):
                if not write.done.done():
                    write.done.set_result(result)

    async def _run_transaction(self, writes: Sequence[_Write]) -> list[Any]:
        loop = asyncio.get_running_loop()
        # A thread waits for other processes and for the disk. The statements run here: in a thread, each would wait
        # for the interpreter's lock, which a busy event loop seldom releases.
        changing = transaction(self._writer, self.path)
        await loop.run_in_executor(None, changing.__enter__)
        try:
            results = [write.run(self._writer) for write in writes]
        except BaseException as error:
            await loop.run_in_executor(None, changing.__exit__, type(error), error, error.__traceback__)
            raise
        await loop.run_in_executor(None, changing.__exit__, None, None, None)
        return results

    async def _may_try_again(self, error: CannotWrite) -> bool:
        """Pause after a failed write; return False if the file could not be written for too long."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
            if self._timeout:
                self._note(
                    f"{error.cause}; {error.remedy}. Paid replies wait in memory, and dsrl requests no more, for up to "
                    f"{_format_duration(self._timeout)}. Ctrl-C ends the wait, and the replies in memory are lost"
                )
        remaining = self._failing_since + self._timeout - now
        if remaining <= 0:
            return False
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), min(_RETRY_PAUSE, remaining))
        return True


def _fail(writes: Sequence[_Write], error: Exception) -> None:
    for write in writes:
        if not write.done.done():
            write.done.set_exception(error)
            write.done.exception()  # the caller may have been cancelled, and then nobody retrieves it


def _format_duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
