"""The examples are packages that a stranger can install, and that pass their own tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/pyproject.toml"))


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_can_be_installed_and_passes_its_tests(example: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(example, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__"))
    site = tmp_path / "site"
    flags = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(site)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *filter(None, sys.path)])}
    project = tomllib.loads((example / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (group,) = project["entry-points"].values()
    shutil.move(copy / "tests", tmp_path / "tests")  # so that the tests cannot import the package from its folder
    for command in (
        ["pip", "install", *flags, str(copy)],
        ["dsrl", "plugins", "check", *group],
        ["pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path / "tests")],
    ):
        ended = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, f"{command}:\n{ended.stdout}\n{ended.stderr}"


def test_there_is_one_for_each_kind_that_needs_code() -> None:
    from dsrl.plugins.specs import KINDS

    assert {example.name for example in EXAMPLES} == KINDS.keys() - {"model"}
