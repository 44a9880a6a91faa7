from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import pytest

from dsrl.errors import SettingsError
from dsrl.pipeline import metric_logs
from dsrl.pipeline.metric_logs import check_logs, open_logs

STEPS = {1: {"loss": 0.5, "reward": 0.25, "epoch": 0.5}, 2: {"loss": 0.25, "reward": 0.5, "epoch": 1.0}}


def write(name: str, folder: Path) -> list[str]:
    notes: list[str] = []
    with open_logs([name], folder, "one", notes.append) as logs:
        for step, values in STEPS.items():
            logs.add(step, values)
    return notes


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert write("tensorboard", tmp_path) == []
    events = EventAccumulator(str(tmp_path / "tensorboard" / "one")).Reload()
    assert sorted(events.Tags()["scalars"]) == ["epoch", "loss", "reward"]
    assert [(each.step, each.value) for each in events.Scalars("reward")] == [(1, 0.25), (2, 0.5)]


def test_wandb_writes_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert write("wandb", tmp_path) == []
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert next(folder.glob("*.wandb")).stat().st_size > 0


def test_trackio_keeps_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    pytest.importorskip("trackio")
    assert write("trackio", tmp_path) == []
    database = sqlite3.connect(tmp_path / "dsrl.db")
    rows = database.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step").fetchall()
    database.close()
    assert [(run, step, json.loads(values)) for run, step, values in rows] == [
        ("one", step, values) for step, values in STEPS.items()
    ]


def test_a_missing_library_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_logs, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install 'data-synthesis-rl\[wandb\]'"):
        check_logs(["wandb"])
    with pytest.raises(SettingsError, match="must be one of tensorboard, wandb, trackio"):
        check_logs(["mlflow"])
    check_logs([])


def test_a_log_that_fails_is_left_out_and_the_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FailingLog:
        def __init__(self, folder: Path, name: str) -> None:
            self.calls = 0

        def add(self, step: int, values: Mapping[str, float]) -> None:
            raise OSError("no room")

        def close(self) -> None:
            raise AssertionError("it is not used any more")

    monkeypatch.setattr(metric_logs, "LOGS", {"failing": FailingLog, "broken": lambda folder, name: 1 / 0})
    notes: list[str] = []
    with open_logs(["failing", "broken"], tmp_path, "one", notes.append) as logs:
        logs.add(1, {})
        logs.add(2, {})
    assert len(notes) == 2
    assert "broken has failed" in notes[0]
    assert "OSError: no room" in notes[1]
