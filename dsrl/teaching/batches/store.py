"""The tables ``batches`` and ``batch_items`` of ``calls.db``: batches in progress and past ones, with their requests."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsrl.storage.sqlite import connect_to_read, exists, store_errors
from dsrl.teaching.calls import Route, TeacherCall
from dsrl.teaching.holds import delete_holds, insert_hold
from dsrl.teaching.reply_store import CallRecord, ReplyStore, insert_call
from dsrl.teaching.schema import SCHEMA
from dsrl.types import Request


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A batch as ``calls.db`` knows it.

    Attributes:
        id: its row.
        provider_id: the provider's id; empty while it is being submitted.
        run: id of the run that submitted it.
        teacher, model, options: who answers it.
        submitted: Unix time.
        status: ``submitting``, or a :data:`dsrl.types.BatchStatus`.
        requests: how many requests it has.
        done: how many were done by the provider's last word, or were answered in the end.
    """

    id: int
    provider_id: str
    run: str
    teacher: str
    model: str
    options: Mapping[str, Any]
    submitted: float
    status: str
    requests: int
    done: int


@dataclass(frozen=True, slots=True)
class Submission:
    """A batch that is being submitted.

    Attributes:
        row: its row.
        token: the name that dsrl gave it.
        submitted: Unix time.
        requests: how many requests it has.
        holds: ids of the holds of its requests.
    """

    row: int
    token: str
    submitted: float
    requests: int
    holds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One request of a batch.

    Attributes:
        number: of the request in the batch.
        key, first, n, purpose: of the request.
        hold: id of its hold; None if its price was unknown.
    """

    number: int
    key: str
    first: int
    n: int
    purpose: str
    hold: int | None


@dataclass(frozen=True, slots=True)
class RunningBatch:
    """A batch that the provider works on: its row, the provider's id, its run and its model."""

    row: int
    provider_id: str
    run: str
    model: str


class BatchStore:
    """The batches in the reply store of a run.

    Args:
        store: the reply store.
    """

    def __init__(self, store: ReplyStore) -> None:
        self._database, self._run = store.database, store.run
        self._submitting: set[int] = set()  # rows of batches that this process is submitting

    def find_running(self, key: str, request: Request) -> int | None:
        """Return the row of a batch in progress that has replies of a request; None if there is none."""
        rows = self._database.read(
            "SELECT b.id FROM batch_items i JOIN batches b ON b.id = i.batch WHERE i.key = ? AND i.first < ? "
            "AND i.first + i.n > ? AND b.status = 'in_progress' LIMIT 1",
            key,
            request.first + request.n,
            request.first,
        )
        return rows[0][0] if rows else None

    def read_running(self, row: int) -> RunningBatch:
        """Return a batch that is submitted."""
        ((provider_id, run, model),) = self._database.read(
            "SELECT provider_id, run, model FROM batches WHERE id = ?", row
        )
        return RunningBatch(row, provider_id, run, model)

    def read_items(self, row: int) -> list[BatchItem]:
        """Return the requests of a batch."""
        sql = "SELECT item, key, first, n, purpose, hold FROM batch_items WHERE batch = ?"
        return [BatchItem(*item) for item in self._database.read(sql, row)]

    def read_interrupted(self, route: Route) -> list[Submission]:
        """Return this run's batches to a teacher whose submission was interrupted.

        Only one process at a time works on a run, and it knows its own submissions, so nobody else is submitting these.
        """
        rows = self._database.read(
            "SELECT id, token, submitted, (SELECT count(*) FROM batch_items i WHERE i.batch = b.id) FROM batches b "
            "WHERE status = 'submitting' AND run = ? AND teacher = ? AND place = ? AND options = ?",
            self._run,
            route.teacher.name,
            route.server,
            _dump_options(route),
        )
        return [Submission(*row) for row in rows if row[0] not in self._submitting]

    async def add(self, token: str, calls: Sequence[TeacherCall]) -> Submission:
        """Write down a batch that is going to be submitted, with the holds of its calls.

        Args:
            token: the name that the batch gets.
            calls: its requests, all to one teacher and model.

        Returns:
            The submission; ``holds`` are in the order of those calls that have one.
        """
        route, now = calls[0].route, time.time()

        def write(connection: sqlite3.Connection) -> Submission:
            row = connection.execute(
                "INSERT INTO batches (token, run, teacher, place, model, options, submitted, status) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, 'submitting')",
                (
                    token,
                    self._run,
                    route.teacher.name,
                    route.server,
                    calls[0].request.model,
                    _dump_options(route),
                    now,
                ),
            ).lastrowid
            assert row is not None
            holds = []
            for number, call in enumerate(calls):
                hold = None
                if call.hold is not None:
                    hold = insert_hold(connection, self._run, call.hold.usd)
                    holds.append(hold)
                request = call.request
                item = (row, number, call.key, request.first, request.n, request.purpose, hold)
                connection.execute("INSERT INTO batch_items VALUES (?, ?, ?, ?, ?, ?, ?)", item)
            self._submitting.add(row)  # before the commit: from then on, the row can be read
            return Submission(row, token, now, len(calls), tuple(holds))

        return await self._database.write(write)

    def end_submission(self, submission: Submission) -> None:
        """Record that this process no longer submits a batch, whatever became of it."""
        self._submitting.discard(submission.row)

    async def set_provider_id(self, submission: Submission, provider_id: str) -> None:
        """Record that the provider has a batch."""
        sql = "UPDATE batches SET provider_id = ?, status = 'in_progress' WHERE id = ?"
        await self._database.write(lambda connection: connection.execute(sql, (provider_id, submission.row)).rowcount)

    async def give_up(self, submission: Submission) -> list[int]:
        """Record that a batch was not submitted, and delete its holds; return their ids."""
        sql = "SELECT hold FROM batch_items WHERE batch = ? AND hold IS NOT NULL"
        holds = [hold for (hold,) in self._database.read(sql, submission.row)]

        def write(connection: sqlite3.Connection) -> None:
            _change_status(connection, submission.row, "submitting", "failed")
            delete_holds(connection, holds)

        await self._database.write(write)
        return holds

    async def set_done(self, row: int, done: int) -> None:
        """Record how many requests of a batch are done."""
        sql = "UPDATE batches SET done = ? WHERE id = ?"
        await self._database.write(lambda connection: connection.execute(sql, (done, row)).rowcount)

    async def finish(
        self, batch: RunningBatch, status: str, answered: int, records: Sequence[CallRecord], holds: Collection[int]
    ) -> None:
        """Book a batch that has ended. If another process has booked it, nothing changes.

        Args:
            batch: the batch.
            status: how it ended.
            answered: requests that were answered.
            records: its calls that were billed, or may have been.
            holds: ids of the holds that are settled with it.
        """

        def write(connection: sqlite3.Connection) -> None:
            if not _change_status(connection, batch.row, "in_progress", status):
                return
            connection.execute("UPDATE batches SET done = ? WHERE id = ?", (answered, batch.row))
            for record in records:
                insert_call(connection, batch.run, record)
            delete_holds(connection, holds)

        await self._database.write(write)


def list_batches(path: Path) -> list[BatchRecord]:
    """Return the batches of a reply store, newest first; none if there is no store.

    Raises:
        StoreError: the file cannot be read.
    """
    if not exists(path):
        return []
    connection = connect_to_read(path, SCHEMA)
    try:
        with store_errors(path):
            rows = connection.execute(
                "SELECT id, coalesce(provider_id, ''), run, teacher, model, options, submitted, status, "
                "(SELECT count(*) FROM batch_items i WHERE i.batch = b.id), done FROM batches b ORDER BY id DESC"
            ).fetchall()
    finally:
        connection.close()
    return [
        BatchRecord(row, provider_id, run, teacher, model, json.loads(options), *rest)
        for row, provider_id, run, teacher, model, options, *rest in rows
    ]


def _dump_options(route: Route) -> str:
    return json.dumps(dict(route.teacher.ref.options), default=str)


def _change_status(connection: sqlite3.Connection, row: int, before: str, after: str) -> bool:
    sql = "UPDATE batches SET status = ? WHERE id = ? AND status = ?"
    return bool(connection.execute(sql, (after, row, before)).rowcount)
