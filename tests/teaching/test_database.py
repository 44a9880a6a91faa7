from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from dsrl.teaching.database import CallDatabase
from dsrl.teaching.holds import HoldJournal, insert_hold

T = TypeVar("T")


def using(path: Path, work: Callable[[CallDatabase], Awaitable[T]]) -> T:
    async def open_run() -> T:
        database = CallDatabase(path, lambda text: None)
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(open_run())


def test_writes_that_arrive_together_share_a_transaction_and_are_on_the_disk_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    statements: list[str] = []

    async def work(database: CallDatabase) -> list[int]:
        database._writer.set_trace_callback(statements.append)
        writes = (
            database.write(lambda connection, usd=usd: insert_hold(connection, "run", usd))  # type: ignore[misc]
            for usd in range(20)
        )
        ids = await asyncio.gather(*writes)
        database._writer.set_trace_callback(None)
        with sqlite3.connect(path) as other:
            assert other.execute("SELECT usd FROM holds").fetchall() == [(float(usd),) for usd in range(20)]
        return ids

    assert using(path, work) == list(range(1, 21))
    assert sum(statement.startswith("COMMIT") for statement in statements) == 1


def test_a_write_that_fails_does_not_take_others_with_it(tmp_path: Path) -> None:
    def at_fault(database: sqlite3.Connection) -> None:
        raise KeyError("x")

    async def work(database: CallDatabase) -> list[Any]:
        journal = HoldJournal(database, "run")
        writes = (journal.change(None, 1.0), database.write(at_fault), journal.change(None, 2.0))
        return await asyncio.gather(*writes, return_exceptions=True)

    first, second, third = using(tmp_path / "calls.db", work)
    assert isinstance(second, KeyError)
    assert first != third
    with sqlite3.connect(tmp_path / "calls.db") as database:
        assert database.execute("SELECT usd FROM holds").fetchall() == [(1.0,), (2.0,)]


def test_who_stops_waiting_for_a_write_does_not_stop_it(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"

    async def work(database: CallDatabase) -> None:
        writing = asyncio.create_task(HoldJournal(database, "run").change(None, 1.0))
        await asyncio.sleep(0)
        writing.cancel()

    using(path, work)
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT usd FROM holds").fetchall() == [(1.0,)]
