"""How far a run is: the table ``stages`` holds one state for each iteration and stage.

The methods of the run store that add results (``add_keywords``, ``add_samples``, …) record the state of their stage in the
same transaction, so that the table and the results always agree.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Literal, cast

from dsrl.storage import STAGES
from dsrl.storage.tables import Tables

#: The iteration of the stage ``evaluated``, which comes once, after the last iteration.
WHOLE_RUN = 0

#: ``pending``: nothing was made. ``started``: some or all results may be there. ``finished``: the stage is complete.
StageState = Literal["pending", "started", "finished"]

TABLES = """
CREATE TABLE stages (
    iteration INTEGER NOT NULL,                       -- 0 is the whole run
    stage TEXT NOT NULL, state TEXT NOT NULL,
    basis TEXT,                                       -- what the result depends on (Stages.get_basis)
    unpaid INTEGER NOT NULL DEFAULT 0,                -- rows that the budget did not pay for
    PRIMARY KEY (iteration, stage)) WITHOUT ROWID
"""
#: Makes the table out of the results and the marks of a run of format 1, which kept marks in the table ``run``.
#: It runs after the columns ``round`` are renamed to ``iteration``.
FROM_MARKS = f"""
{TABLES};
INSERT INTO stages (iteration, stage, state)
    SELECT DISTINCT iteration, 'keywords', 'finished' FROM keywords
    UNION SELECT CAST(substr(key, 10) AS INTEGER), 'passages', 'finished' FROM run WHERE key GLOB 'passages-*'
    UNION SELECT iteration, 'pattern', 'finished' FROM patterns
    UNION SELECT iteration, 'initial', 'started' FROM samples
    UNION SELECT s.iteration, 'verified', 'started' FROM verdicts v JOIN samples s ON s.id = v.sample
    UNION SELECT s.iteration, 'attempted', 'started' FROM greedy_attempts a JOIN samples s ON s.id = a.sample
    UNION SELECT iteration, 'adapted', 'started' FROM samples WHERE parent IS NOT NULL
    UNION SELECT s.iteration, 'scored', 'started' FROM scores x JOIN samples s ON s.id = x.sample
    UNION SELECT 0, 'evaluated', 'started' FROM evaluations;
INSERT INTO stages (iteration, stage, state, basis)
    SELECT DISTINCT s.iteration, 'selected', CASE WHEN r.key IS NULL THEN 'started' ELSE 'finished' END, r.value
    FROM selected s LEFT JOIN run r ON r.key = 'selected-' || s.iteration;
INSERT INTO stages (iteration, stage, state, basis)
    SELECT CAST(substr(key, 10) AS INTEGER), 'trained', 'started', value FROM run WHERE key GLOB 'training-*';
INSERT INTO stages (iteration, stage, state)
    SELECT CAST(substr(key, 9) AS INTEGER), 'trained', 'finished' FROM run WHERE key GLOB 'trained-*'
    ON CONFLICT DO UPDATE SET state = 'finished';
INSERT INTO stages (iteration, stage, state, unpaid)
    SELECT CAST(substr(r.key, 8) AS INTEGER), j.key, 'pending', j.value
    FROM run r, json_each(r.value) j WHERE r.key GLOB 'unpaid-*'
    ON CONFLICT DO UPDATE SET unpaid = excluded.unpaid;
DELETE FROM run WHERE key GLOB 'passages-*' OR key GLOB 'selected-*' OR key GLOB 'training-*' OR key GLOB 'trained-*'
    OR key GLOB 'unpaid-*'
"""


class Stages(Tables):
    """The state of every stage of a run. Iterations count from 1; ``evaluated`` belongs to :data:`WHOLE_RUN`."""

    def get_state(self, iteration: int, stage: str) -> StageState:
        """Return the state of a stage; ``pending`` if nothing was recorded."""
        row = self._read_one("SELECT state FROM stages WHERE iteration = ? AND stage = ?", iteration, stage)
        return "pending" if row is None else cast(StageState, row[0])

    def is_finished(self, iteration: int, stage: str) -> bool:
        """Return whether a stage is complete."""
        return self.get_state(iteration, stage) == "finished"

    def get_basis(self, iteration: int, stage: str) -> str | None:
        """Return what the result of a stage depends on; with another basis than now the result is out of date.

        ``selected`` keeps the number of scored samples that it selected from, ``trained`` the setting that its output
        folder follows from. None if the stage is pending or has no basis.
        """
        row = self._read_one("SELECT basis FROM stages WHERE iteration = ? AND stage = ?", iteration, stage)
        return None if row is None else row[0]

    def has_reached(self, stage: str) -> bool:
        """Return whether this stage or a later one has started, in any iteration."""
        later = STAGES[STAGES.index(stage) :]
        marks = ", ".join("?" * len(later))
        sql = f"SELECT 1 FROM stages WHERE state <> 'pending' AND stage IN ({marks}) LIMIT 1"
        return self._read_one(sql, *later) is not None

    def begin(self, iteration: int, stage: str, basis: str | None = None) -> None:
        """Record that a stage has started. A basis that is left out stays as it was."""
        with self._transaction() as database:
            set_state(database, iteration, stage, "started", basis)

    def finish(self, iteration: int, stage: str, basis: str | None = None) -> None:
        """Record that a stage is complete. A basis that is left out stays as it was."""
        with self._transaction() as database:
            set_state(database, iteration, stage, "finished", basis)

    def reset(self, iteration: int, stages: Iterable[str]) -> None:
        """Record that stages have not started; their rows stay."""
        with self._transaction() as database:
            reset_stages(database, iteration, stages)

    def set_unpaid(self, iteration: int, unpaid: Mapping[str, int]) -> None:
        """Record, for each stage, how many rows the budget did not pay for; stages that are left out have none."""
        with self._transaction() as database:
            database.execute("UPDATE stages SET unpaid = 0 WHERE iteration = ?", (iteration,))
            database.executemany(
                "INSERT INTO stages (iteration, stage, state, unpaid) VALUES (?, ?, 'pending', ?) "
                "ON CONFLICT DO UPDATE SET unpaid = excluded.unpaid",
                [(iteration, stage, count) for stage, count in unpaid.items()],
            )

    def count_unpaid(self, iteration: int | None = None) -> dict[str, int]:
        """Return stage -> rows that the budget did not pay for, in one iteration or (None) in all."""
        rows = self._read(
            "SELECT stage, sum(unpaid) FROM stages WHERE unpaid > 0 AND (?1 IS NULL OR iteration = ?1) GROUP BY stage",
            iteration,
        )
        return dict(sorted(rows, key=lambda row: STAGES.index(row[0])))


def set_state(
    database: sqlite3.Connection, iteration: int, stage: str, state: StageState, basis: str | None = None
) -> None:
    """Record the state of a stage inside a transaction. A basis of None leaves the basis as it was."""
    database.execute(
        "INSERT INTO stages (iteration, stage, state, basis) VALUES (?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET state = excluded.state, basis = coalesce(excluded.basis, basis)",
        (iteration, stage, state, basis),
    )


def start_stage_of(database: sqlite3.Connection, stage: str, sample_ids: Iterable[str]) -> None:
    """Record inside a transaction that a stage has started in the iterations of these samples."""
    database.executemany(
        "INSERT INTO stages (iteration, stage, state) SELECT iteration, ?, 'started' FROM samples WHERE id = ? "
        "ON CONFLICT DO UPDATE SET state = 'started'",
        [(stage, sample_id) for sample_id in sample_ids],
    )


def reset_stages(database: sqlite3.Connection, iteration: int, stages: Iterable[str]) -> None:
    """Forget inside a transaction that these stages have started."""
    database.executemany("DELETE FROM stages WHERE iteration = ? AND stage = ?", [(iteration, name) for name in stages])
