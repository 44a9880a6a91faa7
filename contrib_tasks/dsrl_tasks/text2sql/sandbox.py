"""SQLite without power: a connection that can only read its own database, with limits on every statement.

Queries run only in the child process of :mod:`dsrl_tasks.text2sql.comparison`, which keeps the limits that SQLite does not
have.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

#: Steps of SQLite's virtual machine that one statement may take, on tables in memory and on a database file.
STEPS, FILE_STEPS = 20_000_000, 200_000_000
#: Most rows and characters of a result.
MOST_ROWS, MOST_CHARACTERS = 10_000, 10_000_000
#: Bytes of memory that SQLite may take in the process.
HEAP = 256 * 2**20
#: A larger database file is opened read-only and not copied to memory.
LARGEST_COPY = 32 * 2**20

Row = tuple[object, ...]

_FUNCTIONS = frozenset(
    """
    abs avg count max min sum total group_concat lower upper length substr substring trim ltrim rtrim replace round coalesce
    ifnull nullif iif instr like glob date time datetime julianday strftime typeof hex quote char unicode sign floor ceil
    ceiling sqrt power pow exp ln log log10 mod row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value
    last_value nth_value
    """.split()
)
_READ_ACTIONS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
_BUILD_ACTIONS = _READ_ACTIONS | {
    sqlite3.SQLITE_CREATE_TABLE,
    sqlite3.SQLITE_CREATE_INDEX,
    sqlite3.SQLITE_CREATE_VIEW,
    sqlite3.SQLITE_INSERT,
    sqlite3.SQLITE_UPDATE,
    sqlite3.SQLITE_DELETE,
    sqlite3.SQLITE_TRANSACTION,
    sqlite3.SQLITE_REINDEX,
}


class QueryFailed(Exception):
    """A statement is wrong, not allowed, or reached a limit."""


def build_database(schema: str) -> sqlite3.Connection:
    """Make a database in memory from ``CREATE TABLE`` and ``INSERT`` statements. Nothing else is allowed in them.

    Raises:
        QueryFailed: a statement is wrong, not allowed or too long.
    """
    connection = open_connection()
    _guard(connection, _BUILD_ACTIONS, STEPS)
    try:
        connection.executescript(schema)
    except (sqlite3.Error, sqlite3.Warning, ValueError, MemoryError) as error:
        connection.close()
        raise QueryFailed(str(error)) from None
    return connection


def open_file(path: Path) -> sqlite3.Connection:
    """Open a database file: a copy of it in memory, or read-only and as immutable if it is large.

    Raises:
        QueryFailed: the file cannot be read as a database.
    """
    source = None
    try:
        source = open_connection(f"{path.resolve().as_uri()}?mode=ro&immutable=1")
        if path.stat().st_size > LARGEST_COPY:
            return source
        copy = open_connection()
        source.backup(copy)
        source.close()
    except (sqlite3.Error, OSError, ValueError, MemoryError) as error:
        if source is not None:
            source.close()
        raise QueryFailed(str(error)) from None
    return copy


def lock(connection: sqlite3.Connection, steps: int = STEPS) -> None:
    """Allow nothing but reading from now on."""
    connection.set_authorizer(None)
    connection.execute("PRAGMA query_only = ON")
    _guard(connection, _READ_ACTIONS, steps)


def run_query(connection: sqlite3.Connection, query: str, most_rows: int = MOST_ROWS) -> list[Row]:
    """Return the rows of a query, at most ``most_rows`` and one more.

    Raises:
        QueryFailed: the query is wrong, not allowed, or reached a limit.
    """
    connection._dsrl_steps.restart()  # type: ignore[attr-defined]
    rows: list[Row] = []
    characters = 0
    cursor = connection.cursor()
    try:
        for row in cursor.execute(query):
            rows.append(row)
            characters += sum(len(value) for value in row if isinstance(value, str | bytes))
            if len(rows) > most_rows or characters > MOST_CHARACTERS:
                break
        if cursor.description is None:
            raise QueryFailed("not a query")
    except (sqlite3.Error, sqlite3.Warning, ValueError, MemoryError) as error:
        raise QueryFailed(str(error)) from None
    finally:
        cursor.close()
    if len(rows) > MOST_ROWS or characters > MOST_CHARACTERS:
        raise QueryFailed("the result is too large")
    return rows


class _Connection(sqlite3.Connection):
    """A connection that counts the steps of its statement."""

    _dsrl_steps: _Steps


class _Steps:
    """Counts the steps of the statement at work, and stops it at the limit."""

    _EVERY = 10_000

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0

    def restart(self) -> None:
        self._taken = 0

    def __call__(self) -> int:
        self._taken += self._EVERY
        return self._taken > self._limit  # SQLite stops the statement if this is not 0


def open_connection(name: str = ":memory:") -> sqlite3.Connection:
    """Open a database with limits on sizes; :func:`lock` then allows nothing but reading."""
    connection: _Connection = sqlite3.connect(
        name, uri=name.startswith("file:"), isolation_level=None, factory=_Connection, check_same_thread=False
    )
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    for pragma in (f"hard_heap_limit = {HEAP}", "temp_store = MEMORY", "trusted_schema = OFF", "cell_size_check = ON"):
        connection.execute(f"PRAGMA {pragma}")
    limits = {
        sqlite3.SQLITE_LIMIT_LENGTH: 1_000_000,
        sqlite3.SQLITE_LIMIT_SQL_LENGTH: 1_000_000,
        sqlite3.SQLITE_LIMIT_COLUMN: 500,
        sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
        sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 50,
        sqlite3.SQLITE_LIMIT_ATTACHED: 0,
        sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
        sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
        sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
    }
    for limit, value in limits.items():
        connection.setlimit(limit, value)
    return connection


def _guard(connection: sqlite3.Connection, actions: Iterable[int], steps: int) -> None:
    allowed = frozenset(actions)

    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        is_function = action == sqlite3.SQLITE_FUNCTION
        is_allowed = (second or "").lower() in _FUNCTIONS if is_function else action in allowed
        return sqlite3.SQLITE_OK if is_allowed else sqlite3.SQLITE_DENY

    counter = _Steps(steps)
    connection._dsrl_steps = counter  # type: ignore[attr-defined]
    connection.set_progress_handler(counter, _Steps._EVERY)
    connection.set_authorizer(authorize)
