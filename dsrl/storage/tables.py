"""Access to one open database. Each subclass owns some tables of a run and holds all SQL that writes them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from dsrl.storage.sqlite import store_errors, transaction
from dsrl.types import Answer, Unreadable


class Tables:
    """Queries and transactions on one database.

    Args:
        database: an open connection.
        path: the file of the database, for error messages.
    """

    def __init__(self, database: sqlite3.Connection, path: Path) -> None:
        self._database, self._path = database, path

    def _transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self._database, self._path)

    def _insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        with self._transaction() as database:
            insert(database, table, rows)

    def _read(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with store_errors(self._path):
            return self._database.execute(sql, values).fetchall()

    def _read_one(self, sql: str, *values: Any) -> Any:
        with store_errors(self._path):
            return self._database.execute(sql, values).fetchone()


def insert(database: sqlite3.Connection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows that have a value for every column of the table."""
    if rows:
        marks = ", ".join("?" * len(rows[0]))
        database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)


def answer_text(answer: Answer) -> str | None:
    """Return what a column stores of an answer; NULL stands for an unreadable one."""
    return None if isinstance(answer, Unreadable) else answer


def slot_bounds(slots: range | None) -> tuple[int, int]:
    """Return the first slot and the one after the last; None means all slots."""
    return (0, 2**62) if slots is None else (slots.start, slots.stop)
