from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from dsrl_tasks.text2sql import TextToSQL
from dsrl_tasks.text2sql.data import find_database

from dsrl.errors import DataError, SettingsError

SCHEMA = "CREATE TABLE singer (name TEXT, age INTEGER);"


@pytest.fixture
def databases(tmp_path: Path) -> Path:
    """A folder of databases in the form of Spider and BIRD."""
    folder = tmp_path / "database"
    (folder / "concert_singer").mkdir(parents=True)
    with sqlite3.connect(folder / "concert_singer/concert_singer.sqlite") as connection:
        connection.executescript(SCHEMA + "INSERT INTO singer VALUES ('Ann', 30), ('Ben', 20);")
    connection.close()
    return folder


def write(tmp_path: Path, *rows: dict[str, Any], name: str = "items.jsonl") -> str:
    path = tmp_path / name
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "row",
    [
        {
            "question": "How many?",
            "query": "SELECT COUNT(*) FROM singer",
            "db_id": "concert_singer",
            "sql": {"select": []},
        },
        {
            "question": "How many?",
            "SQL": "SELECT COUNT(*) FROM singer",
            "db_id": "concert_singer",
            "evidence": "a hint",
        },
    ],
    ids=["Spider", "BIRD"],
)
def test_a_row_that_names_a_database(tmp_path: Path, databases: Path, row: dict[str, Any]) -> None:
    task = TextToSQL(databases=str(databases))
    (item,) = task.load_dataset(write(tmp_path, row), "test")
    hint = " (Hint: a hint)" if "evidence" in row else ""
    assert item.input == f"Database: concert_singer\nSchema:\n{SCHEMA}\nQuestion: How many?{hint}"
    label = str(task.process_label(item.output))
    assert task.is_right("SELECT COUNT(name) FROM singer", label, item.input)
    assert not task.is_right("SELECT 2", label, item.input)
    assert not task.is_right("SELECT COUNT(*) + 1 FROM singer", label, item.input)


@pytest.mark.parametrize("column", ["schema", "context", "sql_context"])
def test_a_row_that_brings_its_schema(tmp_path: Path, column: str) -> None:
    row = {"question": "How many?", "answer": "SELECT COUNT(*) FROM singer", column: SCHEMA}
    (item,) = TextToSQL().load_dataset(write(tmp_path, row), "test")
    assert item.input == f"Schema:\n{SCHEMA}\nQuestion: How many?"
    assert TextToSQL().is_right("SELECT COUNT(name) FROM singer", item.output, item.input)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"question": "How many?", "db_id": "concert_singer"}, ":1: no column 'query'"),
        ({"question": "How many?", "query": "SELECT 1"}, ":1: no column 'schema'"),
        ({"question": "How many?", "query": "DELETE FROM t", "schema": SCHEMA}, ":1: .*does not begin with SELECT"),
        ({"question": "How many?", "query": "SELECT 1", "db_id": "world"}, ":1: .*no database 'world' in"),
        ({"question": "How many?", "query": "SELECT 1", "db_id": "../concert_singer"}, ":1: .*no database"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, databases: Path, row: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        TextToSQL(databases=str(databases)).load_dataset(write(tmp_path, row), "test")


def test_a_row_that_names_a_database_without_the_option(tmp_path: Path) -> None:
    path = write(tmp_path, {"question": "How many?", "query": "SELECT 1", "db_id": "world"})
    with pytest.raises(DataError, match="--task-option databases=FOLDER"):
        TextToSQL().load_dataset(path, "test")


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(SettingsError, match="no such folder"):
        TextToSQL(databases="/no/such/folder")


def test_a_broken_database_is_named(tmp_path: Path, databases: Path) -> None:
    (databases / "broken.sqlite").write_text("no database " * 100)
    path = write(tmp_path, {"question": "How many?", "query": "SELECT 1", "db_id": "broken"})
    with pytest.raises(DataError, match=r"broken\.sqlite cannot be read"):
        TextToSQL(databases=str(databases)).load_dataset(path, "test")


@pytest.mark.parametrize("name", ["", "..", "../x", "/etc/passwd", "a/b", "x\x00", "a" * 1000, "missing"])
def test_a_name_never_leads_out_of_the_folder(databases: Path, name: str) -> None:
    assert find_database(str(databases), name) is None
    assert find_database("", "concert_singer") is None


def test_without_a_path_there_is_a_procedural_test_set() -> None:
    assert len(list(TextToSQL().load_dataset("", "test"))) == 600
