"""Read questions with queries: rows that name a database (as Spider and BIRD have), and rows that bring their schema."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from dsrl import DataError, Example
from dsrl.datasets import read_dataset, read_input_output
from dsrl_tasks.text2sql.queries import make_input, read_query
from dsrl_tasks.text2sql.sandbox import QueryFailed, lock, open_file, run_query

_QUERY_COLUMNS = ("query", "SQL", "sql", "answer")
_SCHEMA_COLUMNS = ("schema", "context", "sql_context", "create_table")
_NAME = re.compile(r"\w[\w .-]{0,100}")


def read_questions(path: str, split: Literal["train", "test"], databases: str) -> Iterable[Example]:
    """Read one split.

    Args:
        path: a JSONL or JSON file, a folder or a hub id. A row has a question, a query (``query``, ``SQL``, ``sql`` or
            ``answer``), and either ``db_id`` or the statements that make its tables (``schema``, ``context`` or
            ``sql_context``). Other rows are read with ``input`` and ``output``.
        split: ``train`` or ``test``.
        databases: folder of the databases that ``db_id`` names.

    Raises:
        DataError: the data or a database cannot be read; the text names the file and the row.
    """
    return read_dataset(path, split, lambda row: _read_row(row, databases))


def _read_row(row: Mapping[str, Any], databases: str) -> Example:
    if "question" not in row:
        return read_input_output(row)
    question = str(row["question"]).strip()
    if row.get("evidence"):
        question += f" (Hint: {str(row['evidence']).strip()})"
    query = next((row[name] for name in _QUERY_COLUMNS if isinstance(row.get(name), str)), None)
    if query is None:
        raise KeyError("query")
    if read_query(query) is None:
        raise ValueError("the query does not begin with SELECT or WITH")
    if row.get("db_id") and databases:
        file = find_database(databases, str(row["db_id"]))
        if file is None:
            raise ValueError(
                f"no database {row['db_id']!r} in {databases}: there is neither NAME/NAME.sqlite nor NAME.sqlite"
            )
        return Example(make_input(_read_schema(file), question, str(row["db_id"])), query)
    schema = next((row[name] for name in _SCHEMA_COLUMNS if isinstance(row.get(name), str)), None)
    if schema is None and row.get("db_id"):
        raise ValueError("it names a database; give the folder of the databases with --task-option databases=FOLDER")
    if schema is None:
        raise KeyError("schema")
    return Example(make_input(schema, question), query)


def find_database(folder: str, name: str) -> Path | None:
    """Return the file of a database: ``FOLDER/NAME/NAME.sqlite`` or ``FOLDER/NAME.sqlite`` (or ``.db``); None without one.

    A name with a path in it is no name, because models write names too.
    """
    if not folder or not _NAME.fullmatch(name):
        return None
    for suffix in ("sqlite", "db"):
        for file in (Path(folder) / name / f"{name}.{suffix}", Path(folder) / f"{name}.{suffix}"):
            if file.is_file():
                return file
    return None


@lru_cache(maxsize=256)
def _read_schema(file: Path) -> str:
    try:
        connection = open_file(file)
        lock(connection)
        rows = run_query(connection, "SELECT sql FROM sqlite_master WHERE type = 'table' AND sql IS NOT NULL")
        connection.close()
    except QueryFailed as error:
        raise DataError(f"database {file} cannot be read: {error}") from error
    return "\n".join(f"{sql};" for (sql,) in rows if "sqlite_sequence" not in str(sql))
