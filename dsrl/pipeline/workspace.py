"""Where runs and shared caches are stored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folders that all runs share.

    Attributes:
        runs: the folder of the run folders.
        cache: the folder of the teacher replies and the indexes.
    """

    runs: Path = Path("runs")
    cache: Path = Path(".dsrl")

    @property
    def reply_store(self) -> Path:
        """The database of the teacher replies."""
        return self.cache / "calls.db"

    @property
    def indexes(self) -> Path:
        """The folder of the indexes of the passage libraries."""
        return self.cache / "index"
