"""docs/write-a-task.md is walked: its code is written and its commands are run, in an environment of their own."""

from __future__ import annotations

import os
import re
import site
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/write-a-task.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: Seconds that a block of commands may take on a busy machine.
TIME_LIMIT = 1200


def list_steps() -> list[tuple[str, str]]:
    """Return the blocks of the page in order: language and text."""
    return BLOCK.findall(PAGE)


def make_environment(folder: Path) -> dict[str, str]:
    """Make an environment that has everything this one has, and into which pip can install without changing this one."""
    venv.EnvBuilder(with_pip=False).create(folder)
    scheme = sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)})
    parents = [path for path in sys.path if path and Path(path).is_dir() and path not in site.getsitepackages()]
    lines = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
    Path(scheme, "parent.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    commands = folder / ("Scripts" if os.name == "nt" else "bin")
    for command in ("dsrl", "pip", "pytest"):
        script = commands / command
        script.write_text(f'#!/bin/sh\nexec "{commands}/python" -m {command} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(path for path in parents if "lib/python" not in path and ".zip" not in path),
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads the value of this variable the other way round
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the page has commands of a Unix shell")
def test_the_page_leads_to_a_run(tmp_path: Path) -> None:
    environment = make_environment(tmp_path / "environment")
    folder = tmp_path / "work"
    folder.mkdir()
    outputs = []
    for language, text in list_steps():
        if language == "python":
            (folder / "dsrl-mine/dsrl_mine/__init__.py").write_text(text, encoding="utf-8")
            continue
        ended = subprocess.run(
            ["sh", "-e", "-c", text],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIME_LIMIT,
        )
        assert ended.returncode == 0, f"{text}:\n{ended.stdout}\n{ended.stderr}"
        outputs.append(ended.stdout + ended.stderr)
    shown = "\n".join(outputs)
    assert (folder / "runs/first/model/config.json").is_file()
    assert "choices: billing (2 rows), delivery (2 rows), product (1 rows)" in shown
    assert "is a draft" in outputs[-1], "the draft does not say so"


def test_the_page_has_code_and_commands() -> None:
    steps = list_steps()
    assert [language for language, _ in steps].count("python") == 1
    assert sum(language == "bash" for language, _ in steps) >= 5
    assert any("dsrl run --task mine" in text for _, text in steps)
