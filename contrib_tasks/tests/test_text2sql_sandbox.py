from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from dsrl_tasks.text2sql import sandbox
from dsrl_tasks.text2sql.sandbox import QueryFailed, build_database, lock, open_file, run_query

SCHEMA = "CREATE TABLE t (a INTEGER, b TEXT); INSERT INTO t VALUES (1, 'x'), (2, 'y'), (3, 'z');"


@pytest.fixture
def connection() -> sqlite3.Connection:
    database = build_database(SCHEMA)
    lock(database)
    return database


def test_it_returns_rows(connection: sqlite3.Connection) -> None:
    assert run_query(connection, "SELECT * FROM t") == [(1, "x"), (2, "y"), (3, "z")]
    assert run_query(connection, "WITH u AS (SELECT a FROM t) SELECT MAX(u.a), upper(b) FROM t, u GROUP BY b LIMIT 1")


@pytest.mark.parametrize(
    "query",
    [
        "INSERT INTO t VALUES (4, 'w')",
        "UPDATE t SET a = 0",
        "DELETE FROM t",
        "DROP TABLE t",
        "CREATE TABLE u (a)",
        "CREATE TEMP TABLE u (a)",
        "WITH x AS (SELECT 1) DELETE FROM t",
        "ATTACH 'other.db' AS other",
        "ATTACH ':memory:' AS other",
        "DETACH main",
        "VACUUM",
        "VACUUM INTO 'copy.db'",
        "PRAGMA query_only = OFF",
        "PRAGMA table_info(t)",
        "SELECT * FROM pragma_database_list",
        "SELECT load_extension('evil')",
        "SELECT readfile('/etc/passwd')",
        "SELECT writefile('out.txt', 'x')",
        "SELECT zeroblob(1000000000)",
        "SELECT randomblob(1000)",
        "SELECT random()",
        "SELECT printf('%.*c', 100000000, 'x')",
        "SELECT fts3_tokenizer('x')",
        "SELECT 1; SELECT 2",
        "SELECT a FROM t; DROP TABLE t",
        "BEGIN",
        "EXPLAIN SELECT 1; DROP TABLE t",
        "",
        "-- nothing",
        "SELECT \ud800",
        "SELECT '\x00",
        "SELECT " + "(" * 5000 + "1" + ")" * 5000,
        "SELECT " + "1 UNION ALL SELECT " * 200 + "1",
    ],
    ids=lambda query: ascii(query[:40]),
)
def test_a_statement_that_does_more_than_read_fails(
    connection: sqlite3.Connection, query: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(QueryFailed):
        run_query(connection, query)
    assert list(tmp_path.iterdir()) == []
    assert run_query(connection, "SELECT COUNT(*) FROM t") == [(3,)]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT COUNT(*) FROM t a, t b, t c, t d, t e, t f, t g, t h, t i, t j, t k, t l, t m, t n, t o, t p, t q, t r, t s",
        "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT COUNT(*) FROM r",
        "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT x FROM r",
        "WITH RECURSIVE r(x) AS (SELECT 'a' UNION ALL SELECT x || x FROM r) SELECT MAX(length(x)) FROM r",
        "SELECT replace(replace(hex('" + "a" * 1000 + "'), '6', '" + "6" * 900 + "'), '6', '" + "6" * 900 + "')",
        "SELECT 'a' LIKE '" + "%a" * 1000 + "'",
    ],
    ids=lambda query: query[:60],
)
def test_a_statement_that_needs_too_much_fails_soon(
    connection: sqlite3.Connection, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock(connection, steps=1_000_000)
    start = time.process_time()
    with pytest.raises(QueryFailed):
        run_query(connection, query)
    assert time.process_time() - start < 5
    assert run_query(connection, "SELECT COUNT(*) FROM t") == [(3,)]


@pytest.mark.parametrize(
    "schema",
    [
        "ATTACH 'other.db' AS other;",
        "CREATE VIRTUAL TABLE v USING fts5(a);",
        "PRAGMA journal_mode = DELETE;",
        "SELECT load_extension('evil');",
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END;",
        "INSERT INTO t SELECT hex(zeroblob(1000)), 1;",
        "INSERT INTO t WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT x, x FROM r;",
        "CREATE TABLE",
        "\ud800",
    ],
)
def test_a_schema_can_only_make_and_fill_tables(schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sandbox, "STEPS", 1_000_000)
    with pytest.raises(QueryFailed):
        build_database(SCHEMA + schema)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("largest", [0, 10**9], ids=["read-only file", "copy in memory"])
def test_a_database_file_is_not_changed(largest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "LARGEST_COPY", largest)
    path = tmp_path / "a b.sqlite"
    with sqlite3.connect(path) as source:
        source.executescript(SCHEMA)
    source.close()
    before = path.read_bytes()
    database = open_file(path)
    lock(database)
    assert run_query(database, "SELECT SUM(a) FROM t") == [(6,)]
    for query in ("DELETE FROM t", "CREATE TABLE u (a)", "ATTACH 'x' AS y"):
        with pytest.raises(QueryFailed):
            run_query(database, query)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite"
    path.write_text("no database " * 100)
    with pytest.raises(QueryFailed):
        open_file(path)
    with pytest.raises(QueryFailed):
        open_file(tmp_path / "missing.sqlite")


def test_rows_beyond_the_limit_are_not_read(connection: sqlite3.Connection) -> None:
    assert len(run_query(connection, "SELECT * FROM t", most_rows=1)) == 2
