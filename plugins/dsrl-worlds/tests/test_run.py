"""The commands of the package's README, from the definition of the task to an evaluated model."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

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
    if "noisy" not in command:  # wrong labels can make the model worse
        assert result["trained_accuracy"] > result["base_accuracy"] + 0.05


def test_the_readme_has_both_tasks() -> None:
    assert [command.split()[3] for command in COMMANDS] == ["chains", "chain_classes"]
