"""The table ``holds``: money that calls in flight may cost at most, written down before the calls are made.

A call that is cut off by a kill leaves its hold behind, and so does a call whose bill is unknown: such holds stay, and count
as money that may have been spent.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from dsrl.teaching.database import CallDatabase


class HoldJournal:
    """The holds of one run.

    Args:
        database: ``calls.db``.
        run: id of the run.
    """

    def __init__(self, database: CallDatabase, run: str) -> None:
        self._database, self._run = database, run

    def read_all(self) -> dict[int, float]:
        """Return the dollars of each hold, by its id."""
        return dict(self._database.read("SELECT id, usd FROM holds WHERE run = ?", self._run))

    async def change(self, hold: int | None, usd: float) -> int | None:
        """Set a hold to another amount; return its id when it is on the disk.

        Args:
            hold: id of the hold; None: there is none yet.
            usd: dollars; 0 deletes the hold.

        Returns:
            The id; None if there is no hold now.
        """
        if hold is None and not usd:
            return None

        def write(connection: sqlite3.Connection) -> int | None:
            if hold is None:
                return insert_hold(connection, self._run, usd)
            if not usd:
                delete_holds(connection, [hold])
                return None
            connection.execute("UPDATE holds SET usd = ? WHERE id = ?", (usd, hold))
            return hold

        return await self._database.write(write)


def insert_hold(connection: sqlite3.Connection, run: str, usd: float) -> int:
    """Add a hold, inside a transaction of the caller; return its id."""
    hold = connection.execute("INSERT INTO holds (run, usd) VALUES (?, ?)", (run, usd)).lastrowid
    assert hold is not None
    return hold


def delete_holds(connection: sqlite3.Connection, holds: Iterable[int]) -> None:
    """Delete holds by their ids, inside a transaction of the caller."""
    connection.executemany("DELETE FROM holds WHERE id = ?", [(hold,) for hold in holds])


def sum_holds(connection: sqlite3.Connection, run: str) -> float:
    """Return the dollars of all holds of a run."""
    (usd,) = connection.execute("SELECT total(usd) FROM holds WHERE run = ?", (run,)).fetchone()
    return float(usd)
