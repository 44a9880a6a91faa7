from __future__ import annotations

import asyncio
from pathlib import Path

from dsrl.teaching.database import CallDatabase
from dsrl.teaching.holds import HoldJournal, sum_holds


def test_a_hold_is_written_changed_and_deleted_and_belongs_to_its_run(tmp_path: Path) -> None:
    async def work() -> None:
        database = CallDatabase(tmp_path / "calls.db", lambda text: None)
        journal, other = HoldJournal(database, "run"), HoldJournal(database, "other")
        assert await journal.change(None, 0.0) is None, "a hold of nothing is no hold"
        hold = await journal.change(None, 1.0)
        assert hold is not None
        assert await other.change(None, 5.0) != hold
        assert await journal.change(hold, 3.0) == hold
        assert journal.read_all() == {hold: 3.0}
        assert sum_holds(database.connection, "run") == 3.0
        assert await journal.change(hold, 0.0) is None
        assert (journal.read_all(), sum_holds(database.connection, "other")) == ({}, 5.0)
        await database.close()

    asyncio.run(work())
