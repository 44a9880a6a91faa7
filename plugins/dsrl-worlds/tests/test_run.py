"""The commands of the package's README, from the definition of the task to an evaluated model."""

from __future__ import annotations

import json
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dsrl import PluginRef
from dsrl.plugins.binding import load

README = Path(__file__).parents[1] / "README.md"
COMMANDS = [line.strip() for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("    dsrl run")]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_runs_to_its_end(command: str, tmp_path: Path) -> None:
    program = [str(Path(sys.executable).with_name("dsrl")), *shlex.split(command)[1:], "--json"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["samples"]["selected"] == 256
    assert result["n_test"] == 1000
    if "noisy" in command:
        assert share_wrong(tmp_path, "scores") > 0.1
        assert share_wrong(tmp_path, "selected") < 0.08, "by default, doubtful labels are left out"
    else:
        assert result["trained_accuracy"] > result["base_accuracy"] + 0.05


def share_wrong(folder: Path, table: str) -> float:
    """Return the share of wrong labels among the samples of a table of the run."""
    task = load(PluginRef("task", "chain_classes"), "task").hook
    (database,) = folder.glob("runs/*/run.db")
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            f"SELECT s.input, v.label FROM {table} t JOIN samples s ON s.id = t.sample JOIN verdicts v ON v.sample = s.id"
        ).fetchall()
    right = [task.process_label(output=task.procedural_solve(input=text).output, input=text) for text, _ in rows]
    return sum(str(label) != given for label, (_, given) in zip(right, rows, strict=True)) / len(rows)


def test_the_readme_has_both_tasks() -> None:
    assert [command.split()[3] for command in COMMANDS] == ["chains", "chain_classes"]
