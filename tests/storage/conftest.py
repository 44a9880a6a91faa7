from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dsrl.storage.run_store import RunStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """A new run, open for work."""
    opened = RunStore(tmp_path / "runs" / "trial")
    yield opened
    opened.close()
