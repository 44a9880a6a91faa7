"""``calls.db``: every call to a teacher with its replies and cost, and what is out: money held, batches.

Shared by the runs of a working folder; a call is booked on the run that made it, once. What is written here is on the disk
before anybody acts on it. Writes that arrive while one transaction goes to the disk share the next.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from dsrl.errors import StoreError
from dsrl.storage.sqlite import CannotWrite, connect, connect_to_read, exists, store_errors, touch, transaction
from dsrl.teaching.schema import SCHEMA
from dsrl.types import Reply, Usage

T = TypeVar("T")
_Write = Callable[[sqlite3.Connection], Any]

#: Seconds that a file which cannot be written is waited for, before what waits to be written is given up.
PATIENCE = 600.0
#: Seconds between two tries to write it.
_PAUSE = 1.0

#: Whether the bill of a row of ``calls`` is not known.
_UNKNOWN = "cost_usd IS NULL AND prompt_tokens = 0 AND completion_tokens = 0"


@dataclass(frozen=True, slots=True)
class Call:
    """One call, as it is booked.

    Attributes:
        purpose, teacher, model: what it was for, and who was asked.
        usage: what it was billed for; zeros where the bill is not known.
        cost: dollars; None where the price or the bill is not known.
        seconds: the call alone, without waiting.
        batch: the provider's id of the batch that it came with.
    """

    purpose: str
    teacher: str
    model: str
    usage: Usage
    cost: float | None
    seconds: float
    batch: str | None = None


@dataclass(frozen=True, slots=True)
class SpendingLine:
    """The calls of a run for one purpose to one model.

    ``cost_usd`` is None where a price or a bill is not known; ``known_usd`` is the part that is known. ``unknown_bills`` are
    calls whose bill is not known, ``unpriced`` those whose bill is known and whose price is not.
    """

    purpose: str
    teacher: str
    model: str
    calls: int
    replies: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost_usd: float | None
    known_usd: float = 0.0
    unknown_bills: int = 0
    unpriced: int = 0


@dataclass(frozen=True, slots=True)
class Spending:
    """What a run has asked of its teachers, all sittings.

    Attributes:
        calls: calls that were billed, or may have been.
        cost_usd: dollars of the calls whose cost is known.
        priced: whether that is every call.
        uncertain_usd: on top of it at most, where the price is known: calls under way, or whose bill is not known.
        lines: the same by purpose, teacher and model.
        unknown_bills: calls whose bill is not known.
        unpriced: calls whose bill is known and whose price is not.
    """

    calls: int
    cost_usd: float
    priced: bool
    uncertain_usd: float = 0.0
    lines: tuple[SpendingLine, ...] = ()
    unknown_bills: int = 0
    unpriced: int = 0


@dataclass(frozen=True, slots=True)
class CallStatistics:
    """What a call and a reply of one kind took on average, by what is booked.

    Attributes:
        calls, replies: how many were looked at.
        prompt_tokens: a call.
        completion_tokens: a reply.
        deviation: standard deviation of the completion tokens of a reply, estimated from calls.
        seconds: a call outside a batch.
    """

    calls: int
    replies: int
    prompt_tokens: float
    completion_tokens: float
    deviation: float
    seconds: float


@dataclass(frozen=True, slots=True)
class PaidCalls:
    """What a run itself remembers of the calls that it has paid for, so that a reply store that was lost is noticed.

    Attributes:
        count: how many there were at least.
        keep: is called with the number when it is higher.
    """

    count: int = 0
    keep: Callable[[int], None] = lambda count: None


@dataclass(slots=True)
class _Writing:
    """Something to be written, and who waits for it; ``replies``: how many it stores that were paid for just now."""

    write: _Write
    done: asyncio.Future[Any]
    replies: int


class ReplyStore:
    """``calls.db`` open for one run.

    Args:
        path: made if it is not there.
        run: id of the run that calls are booked on.
        note: is told what the user should know.
        remembered: what the run remembers of its calls that cost something, or whose price is not known.

    Raises:
        StoreError: it cannot be opened, is empty, damaged or locked, of a format that cannot be migrated, or not the file
            that the run has paid for.
    """

    def __init__(
        self,
        path: Path,
        run: str,
        note: Callable[[str], None] = lambda text: None,
        remembered: PaidCalls = PaidCalls(),
    ) -> None:
        self.path, self.run, self._note, self._remembered = path, run, note, remembered
        if remembered.count and not exists(path):
            raise StoreError(_lost_calls(path, "is missing", 0, remembered.count))
        self._reader = connect(path, SCHEMA, durable=True)
        self._writer = connect(path, SCHEMA, durable=True)
        self._waiting: list[_Writing] = []
        self._committing: asyncio.Task[None] | None = None
        # Since when the file cannot be written, how long that is waited for, and whatever ends a pause before its time.
        self._failing: float | None = None
        self._patience = PATIENCE
        self._hurried = asyncio.Event()
        self._lost = 0
        with store_errors(path):
            self._spent = _total(self._reader, run)
        self._paid_calls = self._paid_before = _paid(self._reader, run)
        if self._paid_calls < remembered.count:
            self._reader.close()
            self._writer.close()
            raise StoreError(_lost_calls(path, "is not the file that it was", self._paid_calls, remembered.count))
        if self._paid_calls > remembered.count:
            remembered.keep(self._paid_calls)

    def replies(self, key: str, numbers: range) -> dict[int, Reply]:
        """Give what is stored of the replies ``numbers`` to a request."""
        with store_errors(self.path):
            rows = self._reader.execute(
                "SELECT number, text, finish_reason FROM replies WHERE key = ? AND number BETWEEN ? AND ?",
                (key, numbers.start, numbers.stop - 1),
            )
            return {number: Reply(text, reason) for number, text, reason in rows}

    async def book(self, call: Call, key: str, first: int, replies: Sequence[Reply], held: float = 0.0) -> bool:
        """Store a call with its replies ``first, first + 1, ..``, all or nothing.

        Args:
            held: dollars that are put on hold for good, because the call's bill is not known.

        Returns:
            Whether what is stored are these replies: another process may have stored its own to the same before.
        """

        def write(database: sqlite3.Connection) -> bool:
            if held:
                database.execute("INSERT INTO holds (run, usd) VALUES (?, ?)", (self.run, held))
            return book(database, self.run, call, key, first, replies)

        own = await self.write(write, len(replies))
        self.booked(call)
        return own

    def booked(self, call: Call) -> None:
        """Count a call that :func:`book` has written."""
        spent = self._spent
        unknown = call.cost is None and call.usage == Usage()
        self._spent = Spending(
            spent.calls + 1,
            spent.cost_usd + (call.cost or 0.0),
            spent.priced and call.cost is not None,
            unknown_bills=spent.unknown_bills + unknown,
            unpriced=spent.unpriced + (call.cost is None and not unknown),
        )
        if call.cost is None or call.cost > 0:
            self._paid_calls += 1
            if self._paid_calls == self._paid_before + 1:
                self._remembered.keep(self._paid_calls)

    async def change_hold(self, hold: int | None, usd: float) -> int | None:
        """Write down what calls may cost at most, before they are made; None is a hold of 0. Give its id."""
        if hold is None and not usd:
            return None

        def change(database: sqlite3.Connection) -> int | None:
            if hold is None:
                return database.execute("INSERT INTO holds (run, usd) VALUES (?, ?)", (self.run, usd)).lastrowid
            if not usd:
                database.execute("DELETE FROM holds WHERE id = ?", (hold,))
                return None
            database.execute("UPDATE holds SET usd = ? WHERE id = ?", (usd, hold))
            return hold

        return await self.write(change)

    def spending(self) -> Spending:
        """What the run has spent so far, without lines; costs no query."""
        return self._spent

    def read(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Give the rows of a query."""
        with store_errors(self.path):
            return self._reader.execute(sql, values).fetchall()

    async def write(self, write: Callable[[sqlite3.Connection], T], replies: int = 0) -> T:
        """Run ``write`` in a transaction, perhaps with others; come back when it is on the disk.

        A cancelled writer does not stop the writing. Where the file cannot be written (the disk is full, say), it waits in
        memory until it can, and may be run again then.

        Args:
            replies: how many replies it stores that were paid for just now.

        Raises:
            StoreError: it could not be written for :data:`PATIENCE` seconds, or the file is damaged.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Writing(write, done, replies))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        return await asyncio.shield(done)

    @property
    def failing(self) -> bool:
        """Whether the last write failed: nothing should be asked for that could not be stored."""
        return self._failing is not None

    async def ready(self) -> None:
        """Come back when the file can be written.

        Raises:
            StoreError: as :meth:`write`.
        """
        if self.failing:
            await self.write(touch)

    def hurry(self) -> None:
        """Wait no longer for a file that cannot be written: one more try, then what waits is given up."""
        if self.failing:
            self._patience = 0.0
            self._hurried.set()

    async def close(self) -> None:
        """Write what is under way and let go of the file."""
        if self._committing is not None:
            await self._committing
        self._reader.close()
        self._writer.close()
        if self._lost:
            self._note(f"{self._lost} replies that were paid for could not be written to {self.path} and are lost")

    async def _commit(self) -> None:
        try:
            while self._waiting:
                together, self._waiting = self._waiting, []
                await self._write_down(together)
        finally:
            self._committing = None

    async def _write_down(self, together: list[_Writing]) -> None:
        try:
            results = await self._transaction(together)
        except CannotWrite as error:
            if await self._may_try_again(error):
                self._waiting = together + self._waiting
                return
            self._lost += sum(writing.replies for writing in together)
            _fail(together, error)
        except Exception as error:  # noqa: BLE001 - whoever waits must learn of it
            if len(together) > 1:  # one of them is at fault, and the others must not be lost with it
                for writing in together:
                    await self._write_down([writing])
                return
            _fail(together, error)
        else:
            if self._failing is not None:
                self._failing = None
                self._note(f"{self.path} is written again; the run goes on")
            for writing, result in zip(together, results, strict=True):
                if not writing.done.done():
                    writing.done.set_result(result)

    async def _transaction(self, together: Sequence[_Writing]) -> list[Any]:
        loop = asyncio.get_running_loop()
        # Waiting for another process and for the disk is a thread's work. The statements are not: each would wait
        # for the interpreter's lock, which a busy event loop gives away seldom.
        changing = transaction(self._writer, self.path)
        await loop.run_in_executor(None, changing.__enter__)
        try:
            results = [writing.write(self._writer) for writing in together]
        except BaseException as error:
            await loop.run_in_executor(None, changing.__exit__, type(error), error, error.__traceback__)
            raise
        await loop.run_in_executor(None, changing.__exit__, None, None, None)
        return results

    async def _may_try_again(self, error: CannotWrite) -> bool:
        """Wait a moment after a write failed; say no where it was waited for long enough."""
        now = time.monotonic()
        if self._failing is None:
            self._failing = now
            if self._patience:
                self._note(
                    f"{error.cause}; {error.remedy}. Replies that are paid for wait in memory, and no more are asked for, "
                    f"for up to {_minutes(self._patience)}; Ctrl-C ends that, and what waits is lost"
                )
        left = self._failing + self._patience - now
        if left <= 0:
            return False
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurried.wait(), min(_PAUSE, left))
        return True


def _fail(together: Sequence[_Writing], error: Exception) -> None:
    for writing in together:
        if not writing.done.done():
            writing.done.set_exception(error)
            writing.done.exception()  # it may have been cancelled, and then nobody looks


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"


def book(
    database: sqlite3.Connection,
    run: str,
    call: Call,
    key: str,
    first: int,
    replies: Sequence[Reply],
    hold: int | None = None,
) -> bool:
    """Book a call in a transaction of :meth:`ReplyStore.write`, take back its hold; say whether its replies are stored."""
    usage = call.usage
    row = database.execute(
        "INSERT INTO calls VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            run,
            call.purpose,
            call.teacher,
            call.model,
            len(replies),
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.cached_tokens,
            usage.cache_write_tokens,
            call.cost,
            call.seconds,
            call.batch,
            time.time(),
        ),
    ).lastrowid
    # Another process may have stored its own replies to the same: those count, for both.
    stored = database.executemany(
        "INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?)",
        [(key, number, row, reply.text, reply.finish_reason) for number, reply in enumerate(replies, first)],
    ).rowcount
    if hold is not None:
        database.execute("DELETE FROM holds WHERE id = ?", (hold,))
    return stored == len(replies)


def open_reply_store(path: Path) -> sqlite3.Connection:
    """Open the file to look at it.

    Raises:
        StoreError: as :class:`ReplyStore`.
    """
    return connect_to_read(path, SCHEMA)


def spending_of(path: Path, run: str) -> Spending:
    """What a run has spent, with lines, without a ledger at hand; nothing where there is no reply store."""
    if not exists(path):
        return Spending(0, 0.0, True)
    database = open_reply_store(path)
    try:
        with store_errors(path):
            total = _total(database, run)
            rows = database.execute(
                "SELECT purpose, teacher, model, count(*), sum(replies), sum(prompt_tokens), sum(completion_tokens), "
                "sum(cached_tokens), CASE WHEN count(*) = count(cost_usd) THEN sum(cost_usd) END, "
                f"total(cost_usd), sum({_UNKNOWN}), count(*) - count(cost_usd) - sum({_UNKNOWN}) FROM calls WHERE run = ? "
                "GROUP BY purpose, teacher, model ORDER BY min(id)",
                (run,),
            )
            lines = tuple(SpendingLine(*row) for row in rows)
            return replace(total, uncertain_usd=_held(database, run), lines=lines)
    finally:
        database.close()


def statistics_of(path: Path, purpose: str, teacher: str, model: str, run: str | None = None) -> CallStatistics | None:
    """What calls of one kind took so far, in any run or in one; None where there are none."""
    if not exists(path):
        return None
    database = open_reply_store(path)
    try:
        with store_errors(path):
            row = database.execute(
                "SELECT count(*), sum(replies), avg(prompt_tokens), sum(completion_tokens) * 1.0 / sum(replies), "
                "avg(completion_tokens * completion_tokens * 1.0 / replies), avg(replies), "
                "avg(completion_tokens * 1.0), avg(CASE WHEN batch IS NULL THEN seconds END) FROM calls "
                f"WHERE replies > 0 AND NOT ({_UNKNOWN}) AND purpose = ? AND teacher = ? AND model = ? "
                "AND (?4 IS NULL OR run = ?4)",
                (purpose, teacher, model, run),
            ).fetchone()
    finally:
        database.close()
    count, replies, prompt, mean, squares, per_call, _, seconds = row
    if not count:
        return None
    # The mean of c replies has the variance of one divided by c.
    variance = max(squares - mean * mean * per_call, 0.0) if count > 1 else 0.0
    return CallStatistics(count, replies, prompt, mean, variance**0.5, seconds or 0.0)


def _paid(database: sqlite3.Connection, run: str) -> int:
    """Count the calls of a run that cost something, or whose price is not known."""
    sql = "SELECT count(*) FROM calls WHERE run = ? AND (cost_usd IS NULL OR cost_usd > 0)"
    (count,) = database.execute(sql, (run,)).fetchone()
    return int(count)


def _lost_calls(path: Path, what: str, found: int, paid: int) -> str:
    return (
        f"{path} {what}: this run has paid for {paid} calls or more, and {found} of them are there. Its budget would begin "
        "anew, and its replies be paid for again. Put the file back (--cache-dir says where it is), or give another --name "
        "to begin a new run"
    )


def _total(database: sqlite3.Connection, run: str) -> Spending:
    row = database.execute(
        f"SELECT count(*), total(cost_usd), count(cost_usd), total({_UNKNOWN}) FROM calls WHERE run = ?", (run,)
    ).fetchone()
    calls, usd, costs, unknown = row[0], row[1], row[2], int(row[3])
    return Spending(calls, usd, calls == costs, unknown_bills=unknown, unpriced=calls - costs - unknown)


def _held(database: sqlite3.Connection, run: str) -> float:
    (usd,) = database.execute("SELECT total(usd) FROM holds WHERE run = ?", (run,)).fetchone()
    return float(usd)
