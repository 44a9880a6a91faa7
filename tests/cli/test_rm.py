from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from dsrl.storage.run_store import RunStore


@pytest.mark.parametrize("name", ["nothing", "../runs/trial", "..", "."])
def test_only_a_run_is_removed(dsrl: Any, name: str) -> None:
    RunStore(Path("runs/trial")).close()
    outcome = dsrl("rm", name, "--yes")
    assert outcome.code == 1
    assert f"there is no run {name!r}" in outcome.err
    assert Path("runs/trial").is_dir()


def test_a_run_is_removed_unless_it_is_at_work(dsrl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RunStore(Path("runs/trial"))
    outcome = dsrl("rm", "trial", "--yes")
    assert outcome.code == 1
    assert "is being worked on by process" in outcome.err
    store.close()
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert dsrl("rm", "trial").code != 0
    assert Path("runs/trial").is_dir()
    assert dsrl("rm", "trial", "--yes").code == 0
    assert not Path("runs/trial").exists()
