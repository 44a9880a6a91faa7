"""Compare two queries by the rows that they return. Only the child process of ``comparison.py`` calls this module."""

from __future__ import annotations

import math
import random
import sqlite3
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dsrl_tasks.text2sql.instances import make_instance, read_tables
from dsrl_tasks.text2sql.queries import find_literals, has_order
from dsrl_tasks.text2sql.sandbox import FILE_STEPS, QueryFailed, Row, build_database, lock, open_file, run_query

#: Instances with other rows on which two queries must agree too, and how many are tried to find them.
INSTANCES, TRIES = 6, 18
_KEPT = 32
#: Relative difference up to which two numbers are equal.
TOLERANCE = 1e-6


class Expected(NamedTuple):
    """An instance of the tables, and the rows that the right query returns on it."""

    connection: sqlite3.Connection
    rows: list[Row]


_expected: OrderedDict[tuple[str, ...], list[Expected]] = OrderedDict()


def are_equal(prediction: str, label: str, schema: str, database: str) -> bool:
    """Return whether two queries return the same rows.

    Args:
        prediction: the query of a model.
        label: the right query.
        schema: statements that make the tables, used if there is no database.
        database: path of a database file; or empty.
    """
    try:
        expected = _get_expected(label, schema, database)
        is_ordered = has_order(label)
        return bool(expected) and all(
            have_equal_rows(run_query(connection, prediction, len(rows)), rows, is_ordered)
            for connection, rows in expected
        )
    except QueryFailed:
        return False


def _get_expected(label: str, schema: str, database: str) -> list[Expected]:
    """Return the instances for a label; they are kept, because many answers to one input are compared in a row."""
    key = (label, schema, database)
    if database:
        with suppress(OSError):
            key = (label, str(Path(database).stat().st_mtime_ns), database)
    if key not in _expected:
        _expected[key] = _make_expected(label, schema, database)
        while len(_expected) > _KEPT:
            for old in _expected.popitem(last=False)[1]:
                old.connection.close()
    _expected.move_to_end(key)
    return _expected[key]


def _make_expected(label: str, schema: str, database: str) -> list[Expected]:
    source = open_file(Path(database)) if database else build_database(schema)
    source.set_authorizer(None)
    tables = read_tables(source)
    literals = find_literals(label)
    expected: list[Expected] = []
    spare: list[Expected] = []
    for seed in range(TRIES if tables else 0):
        instance = make_instance(source, tables, literals, random.Random(f"{seed} {label}"))
        lock(instance)
        try:
            rows = run_query(instance, label)
        except QueryFailed:
            instance.close()
            continue
        # An instance on which the right query returns something new tells more.
        is_new = bool(rows) and all(rows != other.rows for other in expected)
        (expected if is_new else spare).append(Expected(instance, rows))
        if len(expected) == INSTANCES:
            break
    lock(source, FILE_STEPS if database else FILE_STEPS // 10)
    has_rows = not tables or any(table.rows for table in tables)
    given = [Expected(source, run_query(source, label))] if has_rows else []
    if tables and len(expected) < 2:
        # The right query returns the same on all instances, so any constant query would be right too.
        return []
    while spare and len(expected) < INSTANCES:
        expected.append(spare.pop())
    return given + expected


def have_equal_rows(rows: list[Row], other: list[Row], is_ordered: bool) -> bool:
    """Return whether two results are the same rows, each as often; in the same order if it counts."""
    if len(rows) != len(other):
        return False
    if not is_ordered:
        rows, other = sorted(rows, key=_make_sort_key), sorted(other, key=_make_sort_key)
    return all(
        len(a) == len(b) and all(_is_equal(x, y) for x, y in zip(a, b, strict=True))
        for a, b in zip(rows, other, strict=True)
    )


def _make_sort_key(row: Row) -> tuple[tuple[int, object], ...]:
    return tuple(_make_value_key(value) for value in row)


def _make_value_key(value: object) -> tuple[int, object]:
    if value is None:
        return 0, 0
    if isinstance(value, int | float):
        # Six digits: two numbers that are equal within the tolerance usually come to the same place.
        return 1, float(f"{value:.6g}") if abs(value) < 1e300 else value
    return (2, value) if isinstance(value, str) else (3, value)


def _is_equal(a: object, b: object) -> bool:
    if isinstance(a, int | float) and isinstance(b, int | float):
        return a == b or math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=1e-9)
    return type(a) is type(b) and a == b
