"""``kill -9`` at every stage, then the same command: nothing is requested twice and the same samples are selected."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

RUN = (
    "run --task mednli --name killed --samples 64 --select 48 --attempts 16 --votes 4 --epochs 4 "
    "--batch-size 8 --group-size 8 --test-size 60 --concurrency 8  --teacher-option wait=0.02 --json"
).split()
COMMAND = [sys.executable, "-c", "from dsrl.cli import main; main()"]
#: Stage -> a query that counts its results.
REACHED = {
    "keywords": "SELECT count(*) FROM keywords",
    "initial": "SELECT count(*) FROM samples WHERE parent IS NULL",
    "verified": "SELECT count(*) FROM verdicts",
    "attempted": "SELECT count(*) FROM greedy_attempts",
    "adapted": "SELECT count(*) FROM samples WHERE parent IS NOT NULL",
    "scored": "SELECT count(*) FROM scores",
    "selected": "SELECT count(*) FROM selected",
    "trained": "SELECT count(*) FROM rewards",
    "evaluated": "SELECT count(*) FROM evaluations",
}


def _start(folder: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *RUN, *args], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _finish(process: subprocess.Popen[str]) -> dict:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out)


def _query(path: Path, sql: str) -> list[tuple]:
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


def _kill_when(process: subprocess.Popen[str], database: Path, sql: str) -> None:
    """Kill the process once the query counts something."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if database.is_file() and _query(database, sql)[0][0]:
                os.kill(process.pid, signal.SIGKILL)
                break
        except sqlite3.Error:
            pass  # it does not exist yet
        time.sleep(0.002)
    process.communicate()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that was not killed."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, _finish(_start(folder))


@pytest.mark.slow
@pytest.mark.parametrize("stage", REACHED)
def test_kill_and_resume(whole, tmp_path, stage):
    killed = _start(tmp_path)
    _kill_when(killed, tmp_path / "runs/killed/run.db", REACHED[stage])
    assert killed.returncode == -signal.SIGKILL
    calls = tmp_path / ".dsrl/calls.db"
    before = set(_query(calls, "SELECT key, number, call FROM replies"))
    result = _finish(_start(tmp_path))

    after = set(_query(calls, "SELECT key, number, call FROM replies"))
    assert before <= after  # stored replies stay, with the call that they came from
    ((requested,),) = _query(calls, "SELECT sum(replies) FROM calls")
    assert requested == len(after)  # no reply was requested twice

    folder, uninterrupted = whole
    selection = "SELECT place, sample FROM selected ORDER BY place"
    assert _query(tmp_path / "runs/killed/run.db", selection) == _query(folder / "runs/killed/run.db", selection)
    for key in ("samples", "teacher_calls", "n_test", "base_accuracy"):
        assert result[key] == uninterrupted[key], key
    # Training goes on from a checkpoint; the steps are the same, each reported once.
    steps = [json.loads(line)["step"] for line in (tmp_path / "runs/killed/metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, max(steps) + 1))


@pytest.mark.slow
def test_a_run_over_two_tasks_killed_three_times(tmp_path):
    folders = [tmp_path / name for name in ("killed", "whole")]
    results = []
    for folder in folders:
        folder.mkdir()
        for stage in ("initial", "scored", "trained") if folder.name == "killed" else ():
            _kill_when(_start(folder, "--task", "gsm8k"), folder / "runs/killed/run.db", REACHED[stage])
        results.append(_finish(_start(folder, "--task", "gsm8k")))
    for key in ("samples", "teacher_calls", "base_accuracy", "trained_accuracy"):
        assert results[0][key] == results[1][key], key
    for sql in ("SELECT * FROM samples ORDER BY id", "SELECT * FROM selected", "SELECT * FROM rewards"):
        killed, whole = (_query(folder / "runs/killed/run.db", sql) for folder in folders)
        assert killed == whole


@pytest.mark.slow
def test_killed_three_times(whole, tmp_path):
    for stage in ("initial", "scored", "trained"):
        _kill_when(_start(tmp_path), tmp_path / "runs/killed/run.db", REACHED[stage])
    result = _finish(_start(tmp_path))
    assert result["samples"] == whole[1]["samples"]
    assert result["teacher_calls"] == whole[1]["teacher_calls"]


@pytest.mark.slow
def test_killed_between_rounds_of_attempts(tmp_path):
    """The rounds go on where they ended, and make the same attempts."""
    flags = ("--attempts", "64", "--attempt-confidence", "0.99", "--stop-after", "selected")
    folders = [tmp_path / name for name in ("killed", "whole")]
    for folder in folders:
        folder.mkdir()
        if folder.name == "killed":
            process = _start(folder, *flags)
            _kill_when(process, folder / "runs/killed/run.db", "SELECT count(*) FROM scores WHERE attempts > 16")
            assert process.returncode == -signal.SIGKILL
        _finish(_start(folder, *flags))
    for sql in ("SELECT * FROM scores ORDER BY sample", "SELECT * FROM attempts", "SELECT * FROM selected"):
        killed, whole = (_query(folder / "runs/killed/run.db", sql) for folder in folders)
        assert killed == whole


@pytest.mark.slow
def test_a_training_that_chooses_its_samples_killed_twice(tmp_path):
    flags = ("--selection", "online", "--trainer-option", "checkpoint_seconds=0")
    folders = [tmp_path / name for name in ("killed", "whole")]
    results = []
    for folder in folders:
        folder.mkdir()
        for steps in (1, 3) if folder.name == "killed" else ():
            sql = f"SELECT max(step) >= {steps} FROM rewards"
            _kill_when(_start(folder, *flags), folder / "runs/killed/run.db", sql)
        results.append(_finish(_start(folder, *flags)))
    assert results[0]["trained_accuracy"] == results[1]["trained_accuracy"]
    killed, whole = (folder / "runs/killed" for folder in folders)
    sql = "SELECT * FROM rewards ORDER BY sample, step"
    assert _query(killed / "run.db", sql) == _query(whole / "run.db", sql)
    assert (killed / "model/model.safetensors").read_bytes() == (whole / "model/model.safetensors").read_bytes()
