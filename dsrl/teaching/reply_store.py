"""The tables ``calls`` and ``replies`` of ``calls.db``: every call to a teacher, with its replies and its cost.

The runs of a working folder share the file. A call is booked once, on the run that made it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from dsrl.errors import StoreError
from dsrl.storage.sqlite import connect_to_read, exists, store_errors
from dsrl.teaching.database import CallDatabase
from dsrl.teaching.holds import insert_hold, sum_holds
from dsrl.teaching.schema import SCHEMA
from dsrl.types import Reply, Usage

#: Whether the bill of a row of ``calls`` is unknown.
_UNKNOWN_BILL = "cost_usd IS NULL AND prompt_tokens = 0 AND completion_tokens = 0"


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call as it is booked.

    Attributes:
        purpose, teacher, model: what the call was for, and which model answered it.
        key: key of the request.
        first: number of the first reply.
        replies: the replies ``first, first + 1, ..``.
        usage: billed tokens; zeros if the bill is unknown.
        cost: dollars; None if the price or the bill is unknown.
        seconds: duration of the call alone, without waiting; 0 in a batch.
        batch: the provider's id of the batch; None for a single call.
    """

    purpose: str
    teacher: str
    model: str
    key: str
    first: int
    replies: tuple[Reply, ...]
    usage: Usage
    cost: float | None
    seconds: float = 0.0
    batch: str | None = None

    @property
    def has_unknown_bill(self) -> bool:
        """Whether the bill is unknown."""
        return self.cost is None and self.usage == Usage()


@dataclass(frozen=True, slots=True)
class SpendingLine:
    """The calls of a run for one purpose to one model.

    Attributes:
        purpose, teacher, model: of the calls.
        calls: calls that were billed, or may have been.
        replies: stored replies.
        prompt_tokens, completion_tokens, cached_tokens: billed tokens.
        cost_usd: dollars; None if a price or a bill is unknown.
        known_usd: dollars of the calls whose cost is known.
        unknown_bills: calls whose bill is unknown.
        unpriced: calls whose bill is known and whose price is not.
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
    """What the calls of a run cost, over all commands that worked on it.

    Attributes:
        calls: calls that were billed, or may have been.
        cost_usd: dollars of the calls whose cost is known.
        priced: whether the cost of every call is known.
        uncertain_usd: dollars that may come on top, at most: calls in flight, and calls with a known price and an unknown
            bill.
        lines: the same by purpose, teacher and model.
        unknown_bills: calls whose bill is unknown.
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
    """Averages over the booked calls of one purpose to one model.

    Attributes:
        calls, replies: how many the averages are made of.
        prompt_tokens: tokens of a call's prompt.
        completion_tokens: tokens of a reply.
        deviation: standard deviation of the tokens of a reply, estimated from calls.
        seconds: duration of a call outside a batch.
    """

    calls: int
    replies: int
    prompt_tokens: float
    completion_tokens: float
    deviation: float
    seconds: float


@dataclass(frozen=True, slots=True)
class PaidCalls:
    """How many calls a run has paid for, as the run itself remembers it, so that a lost reply store is noticed.

    Attributes:
        count: the number, or less.
        keep: called with the number when it has grown; the run saves it.
    """

    count: int = 0
    keep: Callable[[int], None] = lambda count: None


class ReplyStore:
    """The calls and replies in ``calls.db``, open for one run.

    Args:
        path: the file. It is created if it does not exist.
        run: id of the run that calls are booked on.
        note: receives texts for the user.
        paid_calls: the run's own memory of calls that cost something, or whose cost is unknown.

    Attributes:
        database: the open file, for the owners of its other tables.

    Raises:
        StoreError: the file cannot be opened, is empty, damaged or locked, has a format that cannot be migrated, or is not
            the file that the run has paid for.
    """

    def __init__(
        self,
        path: Path,
        run: str,
        note: Callable[[str], None] = lambda text: None,
        paid_calls: PaidCalls = PaidCalls(),
    ) -> None:
        self.path, self.run, self._memory = path, run, paid_calls
        if paid_calls.count and not exists(path):
            raise StoreError(_describe_lost_calls(path, "is missing", 0, paid_calls.count))
        self.database = CallDatabase(path, note)
        try:
            with store_errors(path):
                self._spending = _read_total(self.database.connection, run)
                self._paid_calls = self._paid_calls_before = _count_paid_calls(self.database.connection, run)
            if self._paid_calls < paid_calls.count:
                reason = "is not the file that it was"
                raise StoreError(_describe_lost_calls(path, reason, self._paid_calls, paid_calls.count))
        except BaseException:
            self.database.disconnect()
            raise
        if self._paid_calls > paid_calls.count:
            paid_calls.keep(self._paid_calls)

    def read_replies(self, key: str, numbers: range) -> dict[int, Reply]:
        """Return the stored replies to a request, by number.

        Args:
            key: key of the request.
            numbers: of the replies to look for.

        Raises:
            StoreError: the file cannot be read.
        """
        rows = self.database.read(
            "SELECT number, text, finish_reason FROM replies WHERE key = ? AND number BETWEEN ? AND ?",
            key,
            numbers.start,
            numbers.stop - 1,
        )
        return {number: Reply(text, reason) for number, text, reason in rows}

    async def book(self, record: CallRecord, hold_usd: float = 0.0) -> bool:
        """Store a call with its replies, all or nothing; return when it is on the disk.

        Args:
            hold_usd: dollars that are put on hold for good, because the bill of the call is unknown.

        Returns:
            Whether the stored replies are those of the record. Another process may have stored its own before.

        Raises:
            StoreError: the file cannot be written.
        """

        def write(connection: sqlite3.Connection) -> bool:
            if hold_usd:
                insert_hold(connection, self.run, hold_usd)
            return insert_call(connection, self.run, record)

        is_own = await self.database.write(write, len(record.replies))
        self.count(record)
        return is_own

    def count(self, record: CallRecord) -> None:
        """Add a call that is stored to what the run has spent."""
        before = self._spending
        self._spending = Spending(
            before.calls + 1,
            before.cost_usd + (record.cost or 0.0),
            before.priced and record.cost is not None,
            unknown_bills=before.unknown_bills + record.has_unknown_bill,
            unpriced=before.unpriced + (record.cost is None and not record.has_unknown_bill),
        )
        if record.cost is None or record.cost > 0:
            self._paid_calls += 1
            if self._paid_calls == self._paid_calls_before + 1:
                self._memory.keep(self._paid_calls)

    def get_spending(self) -> Spending:
        """Return what the run has spent so far, without lines. It costs no query."""
        return self._spending

    async def close(self) -> None:
        """Finish the writes that wait, and close the file."""
        await self.database.close()


def insert_call(connection: sqlite3.Connection, run: str, record: CallRecord) -> bool:
    """Store a call with its replies, inside a transaction of the caller; return as :meth:`ReplyStore.book`."""
    usage = record.usage
    call = connection.execute(
        "INSERT INTO calls VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            run,
            record.purpose,
            record.teacher,
            record.model,
            len(record.replies),
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.cached_tokens,
            usage.cache_write_tokens,
            record.cost,
            record.seconds,
            record.batch,
            time.time(),
        ),
    ).lastrowid
    # If another process has stored its own replies to the same request, those count for both.
    rows = connection.executemany(
        "INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?)",
        [
            (record.key, number, call, reply.text, reply.finish_reason)
            for number, reply in enumerate(record.replies, record.first)
        ],
    ).rowcount
    return rows == len(record.replies)


def read_spending(path: Path, run: str) -> Spending:
    """Return what a run has spent, with lines; nothing is spent if there is no reply store.

    Raises:
        StoreError: the file cannot be read.
    """
    if not exists(path):
        return Spending(0, 0.0, True)
    connection = connect_to_read(path, SCHEMA)
    try:
        with store_errors(path):
            total = _read_total(connection, run)
            rows = connection.execute(
                "SELECT purpose, teacher, model, count(*), sum(replies), sum(prompt_tokens), sum(completion_tokens), "
                "sum(cached_tokens), CASE WHEN count(*) = count(cost_usd) THEN sum(cost_usd) END, "
                f"total(cost_usd), sum({_UNKNOWN_BILL}), count(*) - count(cost_usd) - sum({_UNKNOWN_BILL}) FROM calls "
                "WHERE run = ? GROUP BY purpose, teacher, model ORDER BY min(id)",
                (run,),
            )
            lines = tuple(SpendingLine(*row) for row in rows)
            return replace(total, uncertain_usd=sum_holds(connection, run), lines=lines)
    finally:
        connection.close()


def read_statistics(
    path: Path, purpose: str, teacher: str, model: str, run: str | None = None
) -> CallStatistics | None:
    """Return averages over the booked calls of a kind; None if there are no such calls.

    Args:
        path: the reply store; it need not exist.
        purpose, teacher, model: of the calls.
        run: only calls of this run; None: of all runs.

    Raises:
        StoreError: the file cannot be read.
    """
    if not exists(path):
        return None
    connection = connect_to_read(path, SCHEMA)
    try:
        with store_errors(path):
            row = connection.execute(
                "SELECT count(*), sum(replies), avg(prompt_tokens), sum(completion_tokens) * 1.0 / sum(replies), "
                "avg(completion_tokens * completion_tokens * 1.0 / replies), avg(replies), "
                "avg(CASE WHEN batch IS NULL THEN seconds END) FROM calls "
                f"WHERE replies > 0 AND NOT ({_UNKNOWN_BILL}) AND purpose = ? AND teacher = ? AND model = ? "
                "AND (?4 IS NULL OR run = ?4)",
                (purpose, teacher, model, run),
            ).fetchone()
    finally:
        connection.close()
    count, replies, prompt, mean, squares, replies_per_call, seconds = row
    if not count:
        return None
    # The mean of c replies has the variance of one reply divided by c.
    variance = max(squares - mean * mean * replies_per_call, 0.0) if count > 1 else 0.0
    return CallStatistics(count, replies, prompt, mean, variance**0.5, seconds or 0.0)


def _count_paid_calls(connection: sqlite3.Connection, run: str) -> int:
    """Count the calls of a run that cost something, or whose cost is unknown."""
    sql = "SELECT count(*) FROM calls WHERE run = ? AND (cost_usd IS NULL OR cost_usd > 0)"
    (count,) = connection.execute(sql, (run,)).fetchone()
    return int(count)


def _describe_lost_calls(path: Path, reason: str, count: int, paid_calls: int) -> str:
    return (
        f"{path} {reason}: this run has paid for {paid_calls} calls or more, and the file has {count} of them. Without "
        "them, the budget would start from zero and replies would be paid for again. Put the file back (--cache-dir says "
        "where it is), or give another --name to start a new run"
    )


def _read_total(connection: sqlite3.Connection, run: str) -> Spending:
    calls, usd, priced_calls, unknown = connection.execute(
        f"SELECT count(*), total(cost_usd), count(cost_usd), total({_UNKNOWN_BILL}) FROM calls WHERE run = ?", (run,)
    ).fetchone()
    unpriced = calls - priced_calls - int(unknown)
    return Spending(calls, usd, calls == priced_calls, unknown_bills=int(unknown), unpriced=unpriced)
