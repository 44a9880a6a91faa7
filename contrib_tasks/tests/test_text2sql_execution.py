from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest
from dsrl_tasks.text2sql import execution
from dsrl_tasks.text2sql.execution import are_equal, have_equal_rows
from dsrl_tasks.text2sql.instances import make_instance, read_tables
from dsrl_tasks.text2sql.queries import find_literals
from dsrl_tasks.text2sql.sandbox import build_database

from dsrl import Worker, WorkerError

EMPTY = (
    "CREATE TABLE pets (name TEXT, age INTEGER, color TEXT, owner_id INTEGER);"
    "CREATE TABLE owners (id INTEGER, age INTEGER);"
)
FULL = EMPTY + (
    "INSERT INTO owners VALUES (1, 30), (2, 40); INSERT INTO pets VALUES ('Rex', 3, 'red', 1), ('Tom', 5, 'blue', 2);"
)


@pytest.mark.parametrize("schema", [EMPTY, FULL], ids=["without rows", "with rows"])
@pytest.mark.parametrize(
    ("label", "prediction"),
    [
        ("SELECT name FROM pets WHERE age > 4", "SELECT name FROM pets WHERE age >= 4"),
        ("SELECT name FROM pets WHERE age > 4", "SELECT name FROM pets WHERE age <> 3"),
        ("SELECT COUNT(*) FROM pets", "SELECT 2"),
        ("SELECT COUNT(*) FROM pets", "SELECT COUNT(*) FROM owners"),
        ("SELECT MAX(age) FROM pets", "SELECT age FROM pets WHERE name = 'Tom'"),
        ("SELECT MAX(age) FROM pets WHERE color = 'red'", "SELECT MIN(age) FROM pets WHERE color = 'red'"),
        ("SELECT color, COUNT(*) FROM pets GROUP BY color", "SELECT color, 1 FROM pets"),
        (
            "SELECT pets.name FROM pets JOIN owners ON pets.owner_id = owners.id WHERE owners.age > 35",
            "SELECT name FROM pets WHERE age > 4",
        ),
        ("SELECT name FROM pets ORDER BY age", "SELECT name FROM pets ORDER BY name"),
        ("SELECT name FROM pets WHERE age = 1234", "SELECT name FROM pets WHERE age = 5678"),
    ],
)
def test_a_wrong_query_is_caught_though_it_may_return_the_same_rows(schema: str, label: str, prediction: str) -> None:
    assert not are_equal(prediction, label, schema, "")
    assert are_equal(label, label, schema, "")


@pytest.mark.parametrize("schema", [EMPTY, FULL], ids=["without rows", "with rows"])
@pytest.mark.parametrize(
    ("label", "prediction"),
    [
        ("SELECT name FROM pets WHERE age > 4", "SELECT p.name FROM pets p WHERE NOT p.age <= 4"),
        ("SELECT COUNT(*) FROM pets", "SELECT SUM(n) FROM (SELECT COUNT(*) AS n FROM pets GROUP BY age)"),
        ("SELECT AVG(age) FROM pets", "SELECT SUM(age) * 1.0 / COUNT(*) FROM pets"),
        (
            "SELECT pets.name FROM pets JOIN owners ON pets.owner_id = owners.id WHERE owners.age > 35",
            "SELECT name FROM pets WHERE owner_id IN (SELECT id FROM owners WHERE age > 35)",
        ),
        ("SELECT DISTINCT color FROM pets", "SELECT color FROM pets GROUP BY color"),
    ],
)
def test_an_equal_query_is_right_on_every_instance(schema: str, label: str, prediction: str) -> None:
    assert are_equal(prediction, label, schema, "")


def test_a_label_that_always_returns_the_same_proves_nothing() -> None:
    assert not are_equal("SELECT name FROM pets WHERE 0", "SELECT name FROM pets WHERE 1 = 2", FULL, "")
    assert not are_equal("SELECT 1", "SELECT 1 ", FULL, "")


def test_a_label_or_a_schema_that_fails_is_no_right_answer() -> None:
    assert not are_equal("SELECT name FROM pets", "SELECT nothing FROM pets", FULL, "")
    assert not are_equal("SELECT name FROM pets", "SELECT name FROM pets", "CREATE TABLE", "")
    assert not are_equal("SELECT name FROM pets", "SELECT name FROM pets", "", "")


def test_a_database_file_is_the_database(tmp_path: Path) -> None:
    path = tmp_path / "pets.sqlite"
    with sqlite3.connect(path) as source:
        source.executescript(FULL)
    source.close()
    assert are_equal("SELECT age + 0 FROM pets", "SELECT age FROM pets", "", str(path))
    assert not are_equal("SELECT 3 UNION ALL SELECT 5", "SELECT age FROM pets", "", str(path))
    assert not are_equal("SELECT age FROM pets", "SELECT age FROM pets", "", str(tmp_path / "missing.sqlite"))


def test_a_large_database_is_used_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "large.sqlite"
    with sqlite3.connect(path) as source:
        source.execute("CREATE TABLE t (a INTEGER)")
        source.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(5000)])
    source.close()
    assert are_equal("SELECT 5000", "SELECT COUNT(*) FROM t", "", str(path))


def test_instances_keep_keys_and_references() -> None:
    schema = (
        "CREATE TABLE a (id INTEGER PRIMARY KEY, name TEXT UNIQUE);"
        "CREATE TABLE b (x INTEGER REFERENCES a (id), y REAL, z TEXT);"
        "INSERT INTO a VALUES (1, 'p'), (5, 'q'), (9, 'r'); INSERT INTO b VALUES (1, 0.5, NULL), (1, 1.5, 'u'), (9, 2, 'v');"
    )
    source = build_database(schema)
    source.set_authorizer(None)
    tables = read_tables(source)
    assert [table.name for table in tables] == ["a", "b"]
    contents = set()
    for seed in range(30):
        instance = make_instance(source, tables, find_literals("SELECT 'k', 77"), random.Random(seed))
        keys = [row[0] for row in instance.execute("SELECT id FROM a")]
        names = [row[0] for row in instance.execute("SELECT name FROM a")]
        assert len(set(names)) == len(names) > 0
        assert {row[0] for row in instance.execute("SELECT x FROM b")} <= set(keys)
        contents.add(str(list(instance.execute("SELECT * FROM b"))))
    assert len(contents) > 25


def test_the_table_keeps_few_labels() -> None:
    for n in range(execution._KEPT + 8):
        are_equal("SELECT 1", f"SELECT age + {n} FROM pets", FULL, "")
    assert len(execution._expected) == execution._KEPT


@pytest.mark.parametrize(
    ("rows", "other", "is_ordered", "is_equal"),
    [
        ([(1,), (2,)], [(2,), (1,)], False, True),
        ([(1,), (2,)], [(2,), (1,)], True, False),
        ([(1,), (1,), (2,)], [(1,), (2,), (2,)], False, False),
        ([(1, None)], [(1, None)], False, True),
        ([(None,)], [(0,)], False, False),
        ([(1.0,)], [(1,)], False, True),
        ([(0.1 + 0.2,)], [(0.3,)], False, True),
        ([(0.3001,)], [(0.3,)], False, False),
        ([("1",)], [(1,)], False, False),
        ([("a",), (None,), (3,), (b"x",)], [(b"x",), (3,), ("a",), (None,)], False, True),
        ([(1, 2)], [(1,)], False, False),
        ([(float("inf"),)], [(float("inf"),)], False, True),
        ([], [], True, True),
    ],
)
def test_rows_are_compared(
    rows: list[tuple[object]], other: list[tuple[object]], is_ordered: bool, is_equal: bool
) -> None:
    assert have_equal_rows(rows, other, is_ordered) is is_equal


def test_what_sqlite_does_not_limit_is_limited_by_the_worker() -> None:
    worker: Worker[[str, str, str, str], bool] = Worker(
        "dsrl_tasks.text2sql.execution:are_equal", seconds=0.5, memory_mb=64
    )
    query = "WITH RECURSIVE r(x) AS (SELECT 1 UNION SELECT x + 1 FROM r) SELECT MAX(x) FROM r"
    try:
        assert not worker.call(query, "SELECT COUNT(*) FROM pets", FULL, "")
    except WorkerError as error:
        assert error.reason in ("time", "memory")  # noqa: PT017 - which limit comes first depends on the machine
    assert worker.call("SELECT COUNT(name) FROM pets", "SELECT COUNT(*) FROM pets", FULL, "")
