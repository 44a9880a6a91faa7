from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from dsrl_transformers import checkpoint
from dsrl_transformers.checkpoint import Checkpoints

from dsrl import StoreError

CPU = torch.device("cpu")


def make_state(step: int) -> dict[str, Any]:
    return {"step": step, "weights": {"w": torch.full((3,), float(step))}}


def test_the_disk_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, sync = threading.Event(), checkpoint.os.fsync

    def wait(descriptor: int) -> None:
        gate.wait(10)
        sync(descriptor)

    checkpoints = Checkpoints(tmp_path, "job", None)
    checkpoints.save(make_state(1))
    checkpoints.wait()
    monkeypatch.setattr(checkpoint.os, "fsync", wait)
    checkpoints.save(make_state(2))
    state = Checkpoints(tmp_path, "job", None).load(CPU)
    assert state is not None
    assert state["step"] == 1, "the last one is there until the disk has the next one"
    gate.set()
    checkpoints.wait()
    state = Checkpoints(tmp_path, "job", None).load(CPU)
    assert state is not None
    assert torch.equal(state["weights"]["w"], torch.full((3,), 2.0))


def test_a_disk_that_fails_later_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError("input/output error")

    monkeypatch.setattr(checkpoint.os, "fsync", fail)
    checkpoints = Checkpoints(tmp_path, "job", None)
    checkpoints.save(make_state(1))
    with pytest.raises(StoreError, match="cannot be written"):
        checkpoints.save(make_state(2))
    with pytest.raises(StoreError, match="cannot be written"):
        Checkpoints(tmp_path, "job", 0).save(make_state(1))


@pytest.mark.parametrize(
    ("write_seconds", "default_seconds", "pause", "level"),
    [(0.5, 15.0, 15.0, logging.INFO), (4.0, 15.0, 36.0, logging.INFO), (30.0, 15.0, 270.0, logging.WARNING)],
)
def test_the_share_of_the_time_wins_and_the_possible_loss_is_reported(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    write_seconds: float,
    default_seconds: float,
    pause: float,
    level: int,
) -> None:
    now = 100.0
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now)
    checkpoints = Checkpoints(tmp_path, "job", None, default_seconds)
    assert checkpoints.is_due(), "the first one shows how long a checkpoint takes"
    sound = Checkpoints._write

    def write(self: Checkpoints, path: Path, state: dict[str, Any]) -> None:
        nonlocal now
        sound(self, path, state)
        now += write_seconds

    monkeypatch.setattr(Checkpoints, "_write", write)
    caplog.set_level(logging.INFO)
    for step in (1, 2):
        checkpoints.save(make_state(step))
    (record,) = [r for r in caplog.records if "a kill can lose" in r.getMessage()]
    assert record.levelno == level
    assert f"every {pause:.0f} s" in record.getMessage()
    now += pause - 0.1
    assert not checkpoints.is_due()
    now += 0.2
    assert checkpoints.is_due()
    checkpoints.wait()


def test_the_step_that_runs_counts_to_the_possible_loss(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    checkpoints = Checkpoints(tmp_path, "job", None)
    for seconds in (2.0, 50.0, 55.0):
        checkpoints.save(make_state(1), seconds)
    checkpoints.wait()
    reports = [record for record in caplog.records if "a kill can lose" in record.getMessage()]
    assert [record.levelno for record in reports] == [logging.INFO, logging.WARNING], "again when it becomes much, once"
    assert "a kill can lose about 65 s" in reports[1].getMessage()


def test_a_long_time_between_checkpoints_is_told_before_the_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for seconds in (None, 0.0, 60.0):
        Checkpoints(tmp_path, "job", seconds).announce()
    assert not caplog.records
    checkpoints = Checkpoints(tmp_path, "job", 300.0)
    checkpoints.announce()
    checkpoints.save(make_state(1), 1.0)
    checkpoints.wait()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "every 300 s (--trainer-option checkpoint_seconds): a kill can lose" in record.getMessage()


def test_checkpoints_of_adapters_come_after_every_step(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "job", None, default_seconds=0.0)
    for step in range(3):
        assert checkpoints.is_due()
        checkpoints.save(make_state(step))
        time.sleep(0.3)  # a step, compared with which the checkpoint took little time
    checkpoints.wait()


def test_the_best_weights(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "job", None)
    assert checkpoints.load_best(CPU) is None
    checkpoints.save_best({"step": 3, "accuracy": 0.5, "weights": {}})
    best = Checkpoints(tmp_path, "job", None).load_best(CPU)
    assert best == {"step": 3, "accuracy": 0.5, "weights": {}}
    with pytest.raises(StoreError, match="other settings"):
        Checkpoints(tmp_path, "another", None).load_best(CPU)
    checkpoints.remove()
    assert not list(tmp_path.iterdir())
