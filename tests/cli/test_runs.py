"""``dsrl runs``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any


def test_runs_lists_what_is_there(dsrl: Any, small: Any) -> None:
    assert json.loads(dsrl("runs", "--json").out) == []
    assert "no runs" in dsrl("runs").err
    dsrl(*small, "--stop-after", "initial")
    assert [run["run"] for run in json.loads(dsrl("runs", "--json").out)] == ["small"]
    assert "small" in dsrl("runs").out


def test_a_run_that_cannot_be_read_is_a_note_beside_the_others(dsrl: Any, small: Any, tmp_path: Path) -> None:
    dsrl(*small, "--stop-after", "keywords")
    dsrl(*small, "--name", "whole", "--stop-after", "keywords")
    for file in tmp_path.glob("runs/small/run.db*"):
        file.write_bytes(b"this is not a database, is it? " * 200)
    outcome = dsrl("runs", "--json")
    assert outcome.code == 0
    assert [run["run"] for run in json.loads(outcome.out)] == ["whole"]
    assert "note: small: " in outcome.err
    shutil.rmtree("runs/whole")
    outcome = dsrl("runs", "--json")
    assert (outcome.code, outcome.out) == (1, "")
    assert "Error: none of the runs in runs can be read" in outcome.err


def test_a_folder_without_a_readable_run_is_an_error(dsrl: Any, small: Any) -> None:
    dsrl(*small, "--stop-after", "initial")
    Path("runs/small/run.db").write_bytes(b"")
    outcome = dsrl("runs")
    assert outcome.code == 1
    assert "note: small: runs/small/run.db is empty" in outcome.err
    assert "none of the runs in runs can be read" in outcome.err
    assert "There are no runs" not in outcome.err
    Path("runs/small/run.db").unlink()
    assert "runs/small/run.db is missing" in dsrl("runs").err
    shutil.rmtree("runs")
    Path("runs").touch()
    outcome = dsrl("runs")
    assert outcome.code == 1
    assert "runs cannot be read" in outcome.err


def test_the_newest_run_comes_first_and_a_run_in_progress_has_no_accuracy(dsrl: Any, small: Any) -> None:
    for name in ("b", "a", "c"):
        dsrl(*small, "--name", name, "--stop-after", "keywords")
    runs = json.loads(dsrl("runs", "--json").out)
    assert [run["run"] for run in runs] == ["c", "a", "b"]
    assert [run["created"] for run in runs] == sorted((run["created"] for run in runs), reverse=True)
    assert {run["base_accuracy"] for run in runs} == {None}
    assert "%" not in dsrl("runs").out
