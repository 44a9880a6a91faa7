"""Other rows for the same tables, so that a wrong query seldom returns the right rows by chance.

Keys stay unique, and a foreign key keeps pointing to a row. All other columns get values that they had, and values at and
beside the constants of the right query, in another number of rows.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

from dsrl_tasks.text2sql.queries import Literals
from dsrl_tasks.text2sql.sandbox import open_connection

#: Tables with more rows than this together are used as they are.
MOST_ROWS = 1000
_MOST_TABLES = 20
_WORDS = ("alpha", "beta", "gamma", "delta", "omega")


@dataclass
class Column:
    """A column with the values that it has in the given rows.

    ``parent`` is the table and the column that it points to, as a foreign key.
    """

    name: str
    is_number: bool
    is_unique: bool
    values: list[object]
    has_null: bool = False
    parent: tuple[str, str] | None = None


@dataclass
class Table:
    """A table: its name, its columns and its number of rows."""

    name: str
    rows: int
    columns: list[Column] = field(default_factory=list)


def read_tables(connection: sqlite3.Connection) -> list[Table]:
    """Read the tables, those that others point to first. Empty if they are too many or too large."""
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    names = [name for name in names if not name.startswith("sqlite_")]
    if len(names) > _MOST_TABLES:
        return []
    tables = []
    for name in names:
        rows = connection.execute(f"SELECT * FROM {_quote(name)} LIMIT {MOST_ROWS + 1}").fetchall()
        tables.append(_read_table(connection, name, rows))
    if sum(table.rows for table in tables) > MOST_ROWS:
        return []
    _guess_parents(tables)
    return _sort(tables)


def _read_table(connection: sqlite3.Connection, name: str, rows: list[tuple[object, ...]]) -> Table:
    unique = {
        columns[0]
        for _, index, is_unique, *_ in connection.execute(f"PRAGMA index_list({_quote(name)})")
        if is_unique
        and len(columns := [row[2] for row in connection.execute(f"PRAGMA index_info({_quote(index)})")]) == 1
    }
    info = list(connection.execute(f"PRAGMA table_info({_quote(name)})"))
    keys = [row[1] for row in info if row[5]]
    unique |= set(keys) if len(keys) == 1 else set()
    parents = {
        row[3].lower(): (row[2].lower(), (row[4] or "").lower())
        for row in connection.execute(f"PRAGMA foreign_key_list({_quote(name)})")
    }
    table = Table(name, len(rows))
    for number, (_, column, kind, *_) in enumerate(info):
        values = [row[number] for row in rows]
        known = list(dict.fromkeys(value for value in values if value is not None))
        is_number = not any(isinstance(value, str) for value in known) and not any(
            word in kind.upper() for word in ("CHAR", "TEXT", "CLOB", "DATE", "TIME")
        )
        # A key that is not declared as one: "id", or a column of different texts.
        word = column.lower()
        is_key = word == "id" or (
            not is_number and bool(known) and (len(known) > 3 or "name" in word or "title" in word)
        )
        is_key = is_key and len(known) == len(values)
        table.columns.append(
            Column(column, is_number, column in unique or is_key, known, None in values, parents.get(column.lower()))
        )
    return table


def _guess_parents(tables: list[Table]) -> None:
    """Take a column as a foreign key if it has the name and only values of the key of another table."""
    for table in tables:
        for column in table.columns:
            for other in tables:
                for key in other.columns:
                    if (
                        column.parent is None
                        and other is not table
                        and key.is_unique
                        and not column.is_unique
                        and column.name.lower() in _name_reference(other.name.lower(), key.name.lower())
                        and set(column.values) <= set(key.values)
                    ):
                        column.parent = (other.name.lower(), key.name.lower())


def _name_reference(table: str, key: str) -> tuple[str, ...]:
    """Return the names that a foreign key to a column usually has: ``id``, ``owners_id`` or ``owner_id``."""
    return key, f"{table}_{key}", f"{table.removesuffix('s')}_{key}"


def _sort(tables: list[Table]) -> list[Table]:
    done: list[Table] = []
    rest = list(tables)
    while rest:
        names = {table.name.lower() for table in rest}
        free = [t for t in rest if not any(c.parent and c.parent[0] in names - {t.name.lower()} for c in t.columns)]
        done += free or rest
        rest = [table for table in rest if table not in done]
    return done


def make_instance(
    source: sqlite3.Connection, tables: Sequence[Table], literals: Literals, rng: random.Random
) -> sqlite3.Connection:
    """Return a copy of a database in memory with other rows."""
    copy = open_connection()
    source.backup(copy)
    drawn: dict[tuple[str, str], list[object]] = {}
    for table in tables:
        count = max(table.rows, 4) + rng.randrange(-2, 5)
        columns = [_draw(column, count, literals, drawn, rng) for column in table.columns]
        for column, values in zip(table.columns, columns, strict=True):
            drawn[table.name.lower(), column.name.lower()] = values
        copy.execute(f"DELETE FROM {_quote(table.name)}")
        marks = ", ".join("?" * len(columns))
        copy.executemany(f"INSERT OR IGNORE INTO {_quote(table.name)} VALUES ({marks})", zip(*columns, strict=True))
    return copy


def _draw(
    column: Column, count: int, literals: Literals, drawn: dict[tuple[str, str], list[object]], rng: random.Random
) -> list[object]:
    """Draw the values of one column."""
    parent = drawn.get(column.parent) if column.parent else None
    if column.parent and column.parent[1] == "":
        parent = next((values for (table, _), values in drawn.items() if table == column.parent[0]), None)
    if parent:
        known = [value for value in parent if value is not None] or [None]
        return [rng.choice(known) for _ in range(count)]
    pool, special = _make_pool(column, literals)
    if column.is_unique:
        rng.shuffle(special)
        pool = list(dict.fromkeys([*special[: count // 2], *rng.sample(pool, len(pool))]))
        number = 1
        while len(pool) < count:
            value: object = number if column.is_number else f"{_WORDS[number % len(_WORDS)]} {number}"
            pool += [value] if value not in pool else []
            number += 1
        values = pool[:count]
        rng.shuffle(values)
        return values
    values = [rng.choice(special) if special and rng.random() < 0.4 else rng.choice(pool) for _ in range(count)]
    return [None if column.has_null and rng.random() < 0.15 else value for value in values]


def _make_pool(column: Column, literals: Literals) -> tuple[list[object], list[object]]:
    """Return the usual values of a column, and those at and beside the constants of the query."""
    pool: list[object] = list(column.values)
    if column.is_number:
        numbers = [value for value in pool if isinstance(value, int | float)]
        special: list[object] = [number + step for number in literals.numbers for step in (-1, 0, 1)]
        low, high = (int(min(numbers)), int(max(numbers))) if numbers else (1, 6)
        if high - low < 10**9:
            pool += list(range(low, min(high, low + 6) + 1))
        return pool or [1], special
    special = list(literals.strings)
    return (pool if len(pool) > 2 else [*pool, *_WORDS]), special


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
