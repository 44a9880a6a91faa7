"""The examples, and what ``dsrl new`` makes of them, are packages that can be installed and that pass their own tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dsrl.scaffold.draft import Wishes, draft_task
from dsrl.scaffold.drafted_task import make_drafted_package
from dsrl.scaffold.names import Names
from dsrl.scaffold.package import make_package, write_package

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/pyproject.toml"))


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_can_be_installed_and_passes_its_tests(example: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(example, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__"))
    install_and_test(copy, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["task", "teacher", "retriever"])
def test_a_new_package_can_be_installed_and_passes_its_tests(kind: str, tmp_path: Path) -> None:
    write_package(make_package(Names(kind, "my_own"), "MIT"), tmp_path / "copy")
    install_and_test(tmp_path / "copy", tmp_path)


@pytest.mark.slow
def test_a_drafted_task_can_be_installed_and_passes_its_tests(tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("text,label\nIt is late.,bad\nIt works.,good\nIt is broken.,bad\n", encoding="utf-8")
    write_package(make_drafted_package(Names("task", "my_own"), draft_task(str(data), Wishes())), tmp_path / "copy")
    install_and_test(tmp_path / "copy", tmp_path)


def install_and_test(copy: Path, tmp_path: Path) -> None:
    """Install a package and run its tests, which cannot import it from its folder."""
    site = tmp_path / "site"
    flags = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(site)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *filter(None, sys.path)])}
    project = tomllib.loads((copy / "pyproject.toml").read_text(encoding="utf-8"))["project"]
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
