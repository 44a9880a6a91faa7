from __future__ import annotations

import sqlite3

import pytest

from dsrl.storage.run_store import RunStore
from dsrl.types import UNREADABLE, Sample

INITIAL = Sample("1-00000", 1, 0, "initial", "1 + 1?", "2", passage="p1")
DROPPED = Sample("1-00001", 1, 1, "initial", "", "", dropped="not_json", passage="p2")
HARDER = Sample("1-00000h", 1, 0, "harder", "1 + 1 + 1?", "3", parent="1-00000", passage="p1")


def query(store: RunStore, sql: str) -> list[tuple[object, ...]]:
    """Return the rows of a query, for tables that no method reads whole."""
    return store._database.execute(sql).fetchall()


def test_a_verdict_gives_a_sample_its_label_or_its_reason(store: RunStore) -> None:
    other = Sample("1-00002", 1, 2, "initial", "q", "o")
    store.add_samples([INITIAL, DROPPED, other])
    labelled = Sample("1-00000", 1, 0, "initial", "1 + 1?", "2", label="2", passage="p1")
    refused = Sample("1-00002", 1, 2, "initial", "q", "o", dropped="no_majority")
    store.add_verdicts([(labelled, ["2", UNREADABLE, "2"]), (refused, ["a", "b"])])
    assert store.samples(1) == [labelled, DROPPED, refused]
    votes = query(store, "SELECT sample, number, answer FROM votes ORDER BY sample, number")
    assert votes == [
        ("1-00000", 0, "2"),
        ("1-00000", 1, None),
        ("1-00000", 2, "2"),
        ("1-00002", 0, "a"),
        ("1-00002", 1, "b"),
    ]


def test_a_row_is_written_once(store: RunStore) -> None:
    """Writing it twice is a fault of dsrl, and must not be reported as a damaged file."""
    store.add_samples([INITIAL])
    with pytest.raises(sqlite3.IntegrityError):
        store.add_samples([DROPPED, INITIAL])
    assert store.samples(1) == [INITIAL]


def test_lineage_is_foreign_keys(store: RunStore) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        store.add_samples([HARDER])
    assert store.samples(1) == []


def test_a_verdict_and_its_votes_come_together(store: RunStore) -> None:
    store.add_samples([INITIAL])
    with pytest.raises(sqlite3.Error):
        store.add_verdicts([(INITIAL, ["a", object()])])  # type: ignore[list-item]
    assert query(store, "SELECT count(*) FROM verdicts") == [(0,)]
