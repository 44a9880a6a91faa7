"""Real commands whose task has a hook that does not return."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

COMMAND = (
    "run --task mednli --override hook.py --name r --samples 4 --stop-after verified --hook-timeout 1 --no-decontaminate"
).split()
#: It takes days to find out that this expression does not match.
EXPRESSION = """
import re
from dsrl import hookimpl

@hookimpl
def process_prediction(output):
    return re.match("(a+)+b", "a" * 45) or "neutral"
"""
STUBBORN = """
import time
from dsrl import Worker, hookimpl

worker = Worker("os:getpid", seconds=5)

@hookimpl
def process_prediction(output):
    with open("child", "w") as file:
        file.write(str(worker.call()))
    while True:
        try:
            time.sleep(1)
        except BaseException:
            pass
"""
IN_C = """
from dsrl import hookimpl

@hookimpl
def process_prediction(output):
    sum(range(10**15))
"""
GOOD = """
from dsrl import hookimpl

@hookimpl
def process_prediction(output):
    return "neutral"
"""


def run(folder: Path, source: str) -> tuple[int, str]:
    (folder / "hook.py").write_text(source)
    process = subprocess.run(
        [sys.executable, "-m", "dsrl", *COMMAND],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
        check=False,
    )
    return process.returncode, process.stderr


@pytest.mark.slow
def test_a_regular_expression_ends_with_a_sentence_and_the_same_command_continues(tmp_path: Path) -> None:
    code, err = run(tmp_path, EXPRESSION)
    assert code == 1, err
    assert "Error: override file hook.py:7: its hook process_prediction has not returned for 1 s; it was given" in err
    assert "Traceback" not in err
    assert (tmp_path / "runs/r/hook-call.json").is_file()
    code, err = run(tmp_path, GOOD)
    assert code == 0, err


@pytest.mark.slow
def test_a_hook_that_cannot_be_stopped_ends_the_process_and_its_children(tmp_path: Path) -> None:
    code, err = run(tmp_path, STUBBORN)
    assert code == 1, err
    assert "Error: override file hook.py:13: its hook process_prediction has not returned for 1 s; it was given" in err
    assert "has not returned" in (tmp_path / "runs/r/log.txt").read_text()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "child").read_text()), 0)
    code, err = run(tmp_path, GOOD)
    assert code == 0, err


@pytest.mark.slow
def test_c_code_that_cannot_be_stopped_is_shown(tmp_path: Path) -> None:
    (tmp_path / "hook.py").write_text(IN_C)
    with subprocess.Popen(
        [sys.executable, "-m", "dsrl", *COMMAND], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        threading.Timer(200, process.kill).start()
        assert process.stderr is not None
        assert any('hook.py", line 6 in process_prediction' in line for line in process.stderr)
        process.kill()
