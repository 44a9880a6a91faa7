"""The tables ``run``, ``events`` and ``seconds``: what a run is made of, what it noted, and how long it took."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, cast

from dsrl.errors import StoreError
from dsrl.storage.tables import Tables

TABLES = """
CREATE TABLE run (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE seconds (stage TEXT NOT NULL, sitting INTEGER NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (stage, sitting)) WITHOUT ROWID;
CREATE TABLE events (at REAL NOT NULL, level TEXT NOT NULL, text TEXT NOT NULL, topic TEXT)
"""
#: Changes the table ``events`` of format 2.
ADD_TOPICS = "ALTER TABLE events ADD COLUMN topic TEXT;"


class RunRecord(Tables):
    """A run's id, settings, inputs, notes and times. A *sitting* is one process that works on the run."""

    def _start_sitting(self) -> None:
        with self._transaction() as database:
            database.execute("INSERT OR IGNORE INTO run VALUES ('id', ?)", (uuid.uuid4().hex,))
            database.execute("INSERT OR IGNORE INTO run VALUES ('created', ?)", (str(time.time()),))
            database.execute("INSERT OR IGNORE INTO run VALUES ('sittings', '0')")
            database.execute("UPDATE run SET value = value + 1 WHERE key = 'sittings'")

    def _read_value(self, key: str) -> str | None:
        row = self._read_one("SELECT value FROM run WHERE key = ?", key)
        return None if row is None else str(row[0])

    def _require_value(self, key: str) -> str:
        value = self._read_value(key)
        if value is None:
            raise StoreError(
                f"run {self._path.parent.name!r} was stopped while it was created; the same command starts it again"
            )
        return value

    def _set_value(self, key: str, value: str) -> None:
        with self._transaction() as database:
            database.execute("INSERT OR REPLACE INTO run VALUES (?, ?)", (key, value))

    @property
    def id(self) -> str:
        """The id of this run; unique, whatever the run's name."""
        return self._require_value("id")

    @property
    def created(self) -> float:
        """Unix time at which the run was started."""
        return float(self._require_value("created"))

    @property
    def paid_calls(self) -> int:
        """How many calls the run has paid for at least; ``calls.db`` must have them."""
        return int(self._read_value("paid_calls") or 0)

    def keep_paid_calls(self, count: int) -> None:
        """Record how many calls the run has paid for."""
        self._set_value("paid_calls", str(count))

    @property
    def data(self) -> str | None:
        """What the samples of the run were read from, if a teacher did not write them; None if one did."""
        return self._read_value("data")

    def keep_data(self, source: str) -> None:
        """Record what the samples of the run were read from."""
        self._set_value("data", source)

    @property
    def forecast(self) -> list[dict[str, Any]] | None:
        """The forecast that was made when the run began, stage by stage; None if none was made."""
        text = self._read_value("forecast")
        return None if text is None else list(json.loads(text))

    def keep_forecast(self, stages: Sequence[Mapping[str, Any]]) -> None:
        """Record the forecast of the run."""
        self._set_value("forecast", json.dumps(list(stages)))

    def inputs(self) -> dict[str, str]:
        """Return name of an input -> its digest when the run was started; empty if none was recorded."""
        rows = self._read("SELECT key, value FROM run WHERE key GLOB 'input-*'")
        return {key.removeprefix("input-"): value for key, value in rows}

    def keep_inputs(self, digests: Mapping[str, str], definition: Mapping[str, Any]) -> None:
        """Record the digests of a run's inputs, and the whole definition of its task."""
        rows = [(f"input-{name}", digest) for name, digest in digests.items()]
        with self._transaction() as database:
            database.execute("DELETE FROM run WHERE key GLOB 'input-*'")
            database.executemany("INSERT INTO run VALUES (?, ?)", rows)
            database.execute("INSERT OR REPLACE INTO run VALUES ('definition', ?)", (json.dumps(definition),))

    def definition(self) -> dict[str, Any] | None:
        """Return the task's definition and demonstrations of this run; None if an earlier version of dsrl started it."""
        text = self._read_value("definition")
        return None if text is None else dict(json.loads(text))

    def add_event(self, level: str, text: str, topic: str | None = None) -> bool:
        """Record a note or a warning for whoever looks at the run; a repeated text is stored once.

        Args:
            level: ``note`` or ``warning``.
            text: the text for the user.
            topic: ``STAGE-ITERATION:NAME``; there is one event for each topic, and the first one stays. An event with a
                topic is forgotten together with the results of its stage.

        Returns:
            Whether the event was stored.
        """
        with self._transaction() as database:
            rows = database.execute(
                "INSERT INTO events SELECT ?1, ?2, ?3, ?4 "
                "WHERE NOT EXISTS (SELECT 1 FROM events WHERE text = ?3 OR topic = ?4)",
                (time.time(), level, text, topic),
            )
            return rows.rowcount > 0

    def events(self) -> list[tuple[float, str, str]]:
        """Return all notes and warnings as (Unix time, level, text)."""
        sql = "SELECT at, level, text FROM events ORDER BY rowid"
        return [cast("tuple[float, str, str]", row) for row in self._read(sql)]

    def _forget_events(self, database: sqlite3.Connection, iteration: int, stages: Sequence[str]) -> None:
        database.executemany("DELETE FROM events WHERE topic GLOB ?", [(f"{stage}-{iteration}:*",) for stage in stages])

    def set_seconds(self, seconds: Mapping[str, float]) -> None:
        """Record how many seconds each stage has worked in this sitting."""
        sitting = int(self._require_value("sittings"))
        with self._transaction() as database:
            database.executemany(
                "INSERT OR REPLACE INTO seconds VALUES (?, ?, ?)", [(stage, sitting, s) for stage, s in seconds.items()]
            )

    def seconds(self) -> dict[str, float]:
        """Return stage -> seconds that it has worked, in all sittings together."""
        return dict(self._read("SELECT stage, sum(seconds) FROM seconds GROUP BY stage"))
