from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsrl.errors import StoreError
from dsrl.storage.sqlite import Schema, connect
from dsrl.storage.tables import Tables, answer_text, slot_bounds
from dsrl.types import UNREADABLE


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[Tables]:
    """A database with one table of two columns."""
    path = tmp_path / "some.db"
    database = connect(path, Schema(1, "CREATE TABLE pairs (a INTEGER PRIMARY KEY, b TEXT)"), durable=False)
    yield Tables(database, path)
    database.close()


def test_rows_are_inserted_all_or_none(tables: Tables) -> None:
    tables._insert("pairs", [(1, "x"), (2, None)])
    tables._insert("pairs", [])
    with pytest.raises(sqlite3.IntegrityError):
        tables._insert("pairs", [(3, "z"), (1, "again")])
    assert tables._read("SELECT * FROM pairs") == [(1, "x"), (2, None)]
    assert tables._read_one("SELECT b FROM pairs WHERE a = ?", 1) == ("x",)
    assert tables._read_one("SELECT b FROM pairs WHERE a = ?", 3) is None


def test_a_query_that_fails_names_the_file(tables: Tables) -> None:
    with pytest.raises(StoreError, match=r"some\.db"):
        tables._read("SELECT * FROM missing")


def test_an_unreadable_answer_is_stored_as_null(tables: Tables) -> None:
    tables._insert("pairs", [(1, answer_text(UNREADABLE)), (2, answer_text("unreadable"))])
    assert tables._read("SELECT a FROM pairs WHERE b IS NULL") == [(1,)]


def test_all_slots_are_more_than_any_run_has(tables: Tables) -> None:
    assert slot_bounds(range(4, 7)) == (4, 7)
    first, end = slot_bounds(None)
    assert first == 0
    assert tables._read_one("SELECT ? < ?", 10**12, end) == (1,)
