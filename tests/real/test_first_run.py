"""The commands of docs/first-run.md, in their order, with SmolLM2-135M and the example's teacher by rules."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.smollm2

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/first-run"
PAGE = (ROOT / "docs/first-run.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = subprocess.Popen([sys.executable, str(EXAMPLE / "teacher_by_rules.py")], stdout=subprocess.PIPE, text=True)
    assert server.stdout
    monkeypatch.setenv("OPENAI_BASE_URL", server.stdout.readline().strip())
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    yield
    server.kill()
    server.wait()


def test_the_first_run_ends_with_a_model_and_its_card(
    tmp_path: Path, teacher: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = os.environ.get("DSRL_SMOLLM2", "")
    if not (Path(model) / "model.safetensors").is_file():
        pytest.skip("DSRL_SMOLLM2 does not name a folder made by plugins/dsrl-transformers/scripts/make_smollm2.py")
    folder = shutil.copytree(EXAMPLE, tmp_path / "first-run")
    (folder / "HuggingFaceTB").mkdir()
    (folder / "HuggingFaceTB/SmolLM2-135M-Instruct").symlink_to(Path(model).resolve())
    outputs = {}
    for program, command, *arguments in COMMANDS:
        assert program == "dsrl"
        outcome = subprocess.run(
            [sys.executable, "-m", "dsrl", command, *arguments], cwd=folder, capture_output=True, text=True, timeout=900
        )
        assert outcome.returncode == 0, f"{command}: {outcome.stderr}"
        outputs[" ".join([command, *arguments[:3]])] = outcome.stdout + outcome.stderr
    ran = next(text for command, text in outputs.items() if command.startswith("run"))
    assert "not evaluated" in ran
    card = (folder / "runs/complaints/model/README.md").read_text()
    assert "SmolLM2-135M-Instruct" in card
    shown = subprocess.run(
        [sys.executable, "-m", "dsrl", "show", "complaints", "--json"], cwd=folder, capture_output=True, text=True
    )
    result = json.loads(shown.stdout)
    assert result["n_test"] == 20
    assert result["trained_accuracy"] is not None
    assert result["samples"]["selected"] == 32
    assert (folder / "runs/complaints/report.html").is_file()
