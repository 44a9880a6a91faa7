from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dsrl.storage.sqlite import connect
from dsrl.teaching.schema import SCHEMA

CALL = "INSERT INTO calls VALUES (1, 'run', 'write', 't', 'm', 1, 2, 3, 0, 0, NULL, 0.5, NULL, 0)"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A new ``calls.db``."""
    with closing(connect(tmp_path / "calls.db", SCHEMA, durable=True)) as connection:
        yield connection


def test_every_earlier_format_has_a_migration() -> None:
    assert set(SCHEMA.migrations) == set(range(1, SCHEMA.version))


def test_a_reply_belongs_to_a_call(database: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        database.execute("INSERT INTO replies VALUES ('key', 0, 1, 'text', 'stop')")
    database.execute(CALL)
    database.execute("INSERT INTO replies VALUES ('key', 0, 1, 'text', 'stop')")


def test_a_reply_is_stored_once_for_its_key_and_number(database: sqlite3.Connection) -> None:
    database.execute(CALL)
    database.execute("INSERT INTO replies VALUES ('key', 0, 1, 'text', 'stop')")
    database.execute("INSERT INTO replies VALUES ('key', 1, 1, 'text', 'stop')")
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        database.execute("INSERT INTO replies VALUES ('key', 0, 1, 'other', 'stop')")


@pytest.mark.parametrize(("table", "column"), [("calls", "run"), ("holds", "run"), ("batch_items", "key")])
def test_what_is_read_by_run_or_key_is_found_by_an_index(database: sqlite3.Connection, table: str, column: str) -> None:
    (plan,) = database.execute(f"EXPLAIN QUERY PLAN SELECT * FROM {table} WHERE {column} = 'x'").fetchall()
    assert f"USING INDEX {table}_by_{column}" in plan[-1]
