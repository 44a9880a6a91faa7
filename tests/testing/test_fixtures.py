from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from dsrl.plugins.binding import load
from dsrl.plugins.discovery import list_plugins
from dsrl.testing import SmallTask
from dsrl.types import PluginRef

SOURCE = """
from dsrl import AnswerFormat, hookimpl

@hookimpl
def description():
    return "Say yes or no."

@hookimpl
def answer_format():
    return AnswerFormat("tag", ("yes", "no"))
"""


def test_a_plugin_is_installed_from_source_or_as_an_object(install: Any) -> None:
    install("task", "written", SOURCE)
    install("task", "living", SmallTask(), distribution="another")
    infos = {info.name: str(info) for info in list_plugins("task")}
    assert infos["written"] == "task 'written' of stranger 1.0"
    assert infos["living"] == "task 'living' of another 1.0"
    assert load(PluginRef("task", "written"), "task").hook.description() == "Say yes or no."


def test_an_instance_is_bound_as_it_is(bound: Any) -> None:
    task = SmallTask(words="old")
    plugin = bound("task", task)
    task.words = "new"
    assert plugin.hook.description() == "new"


def test_a_stranger_can_use_the_kit(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["dsrl.testing.fixtures"]\n')
    (tmp_path / "test_mine.py").write_text(
        "import pytest\n"
        "from dsrl.testing import SmallTask, TaskContract\n\n"
        "class TestMine(TaskContract):\n"
        "    examples = [('<answer>yes</answer>', 'yes')]\n\n"
        "    @pytest.fixture\n"
        "    def plugin(self):\n"
        "        return SmallTask\n\n"
        "class TestWrong(TestMine):\n"
        "    options = {'choices': ('wet', 'dry')}\n\n"
        "def test_bound(bound):\n"
        "    assert bound('task', SmallTask()).hook.description()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "test_mine.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "PASSED test_mine.py::TestMine::test_examples" in ended.stdout
    assert "PASSED test_mine.py::test_bound" in ended.stdout
    assert "FAILED test_mine.py::TestWrong::test_examples" in ended.stdout
    assert "FAILED test_mine.py::TestMine" not in ended.stdout
    assert "('<answer>yes</answer>', 'yes')" in ended.stdout, "the assertion shows its values"
