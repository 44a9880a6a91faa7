"""stdout, stderr, log.txt, and the flags for verbosity, tested with separate processes as a shell starts them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

COMMAND = f"{sys.executable} -m dsrl"
SMALL = "run --task mednli --samples 4 --stop-after verified --name small"

LOUD = """
import logging, os, subprocess, sys
from dsrl import hookimpl

print("LOUD import")
logging.getLogger("loud").warning("LOUD %s", "warning")

@hookimpl
def process_prediction(output):
    print("LOUD print")
    print("LOUD original", file=sys.__stdout__)
    os.write(1, b"LOUD descriptor\\n")
    subprocess.run(["echo", "LOUD child"])
    return "entailment"
"""
FAULTY = """
import json
from dsrl import hookimpl

@hookimpl
def process_prediction(output):
    raise KeyError("sk-proj-1234567890abcdef")
"""

Shell = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Run a line of bash in an empty folder; ``dsrl`` is the command line of this checkout."""

    def run(line: str) -> subprocess.CompletedProcess[str]:
        script = f'set -o pipefail; dsrl() {{ {COMMAND} "$@"; }}; {line}'
        return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path)

    return run


# --- stdout is for results -------------------------------------------------------------------------------------------


def test_what_a_plugin_prints_goes_to_stderr(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(LOUD, encoding="utf-8")
    done = shell(f"dsrl {SMALL} --override loud.py --json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["samples"]["verified"] == 4
    for word in ("import", "print", "original", "descriptor", "child"):
        assert f"LOUD {word}" in done.stderr
    assert "warning: LOUD warning" in done.stderr
    assert "WARNING loud: LOUD warning" in (tmp_path / "runs/small/log.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["--version", "--help", "run --help", "tasks", "tasks --help", "tasks show --help"])
def test_help_and_lists_are_results(shell: Shell, command: str) -> None:
    done = shell(f"dsrl {command}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


# --- streams that are closed or break --------------------------------------------------------------------------------


def test_closed_streams_end_nothing(shell: Shell, tmp_path: Path) -> None:
    done = shell(f"dsrl {SMALL} --json 2>&-")
    assert done.returncode == 0
    assert json.loads(done.stdout)["samples"]["verified"] == 4
    done = shell(f"dsrl {SMALL} --name second --json >&-")
    assert (done.returncode, done.stdout) == (0, "")
    assert "Traceback" not in done.stderr
    assert shell(f"dsrl {SMALL} --name third --json >&- 2>&- <&-").returncode == 0
    runs = json.loads(shell("dsrl runs --json").stdout)
    assert {run["run"]: run["samples"]["verified"] for run in runs} == {"small": 4, "second": 4, "third": 4}


def test_a_closed_stream_does_not_give_its_number_to_a_database(shell: Shell, tmp_path: Path) -> None:
    """Otherwise, output of a library to descriptor 2 would be written into the database."""
    source = LOUD.replace("os.write(1,", "os.write(2,").replace('subprocess.run(["echo", "LOUD child"])', "")
    (tmp_path / "loud.py").write_text(source, encoding="utf-8")
    assert shell(f"dsrl {SMALL} --override loud.py 2>&- >&-").returncode == 0
    for database in (tmp_path / "runs/small/run.db", tmp_path / ".dsrl/calls.db"):
        assert b"LOUD" not in database.read_bytes()


@pytest.mark.parametrize("reader", ["> >(exec <&-)", "> >(head -c 1 >/dev/null; exec <&-)", ">/dev/full"])
def test_a_stderr_that_breaks_ends_nothing(shell: Shell, reader: str) -> None:
    done = shell(f"dsrl {SMALL} --teacher-option wait=0.2 --concurrency 1 --json 2{reader}")
    assert done.returncode == 0
    assert json.loads(done.stdout)["samples"]["verified"] == 4


@pytest.mark.parametrize("command", ["show small", "show small --json", "runs --json", "run --help"])
def test_a_reader_of_stdout_that_goes_away_is_no_error(shell: Shell, command: str) -> None:
    assert shell(f"dsrl {SMALL} -q").returncode == 0
    done = shell(f"dsrl {command} | true")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("command", ["tasks", "tasks --json", "--help"])
def test_results_that_find_no_room_are_an_error(shell: Shell, command: str) -> None:
    done = shell(f"dsrl {command} >/dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: no room on the disk")
    assert "Traceback" not in done.stderr


# --- what is printed and logged --------------------------------------------------------------------------------------


def test_quiet_shows_errors_only(shell: Shell) -> None:
    for command in (f"-q {SMALL}", f"{SMALL} --name other --quiet"):
        done = shell(f"dsrl {command}")
        assert (done.returncode, done.stderr) == (0, "")
        assert "verified" in done.stdout
    done = shell("dsrl show nothing -q")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: there is no run")


def test_verbose_shows_what_is_logged(shell: Shell) -> None:
    assert "info: work on run 'small' starts" in shell(f"dsrl {SMALL} -v").stderr
    assert "info: work on run 'small' starts" in shell(f"dsrl --verbose {SMALL}").stderr
    assert "work on run" not in shell(f"dsrl {SMALL}").stderr


def test_verbose_and_quiet_contradict_each_other(shell: Shell) -> None:
    for command in ("dsrl -v tasks -q", "dsrl tasks -q -v", "dsrl -qv tasks"):
        done = shell(command)
        assert done.returncode == 2
        assert "contradict each other" in done.stderr


def test_every_command_takes_the_flags_that_say_what_is_shown(shell: Shell) -> None:
    from dsrl.cli import COMMANDS

    for name in (*COMMANDS, "tasks show", "plugins list", "plugins check"):
        text = shell(f"dsrl {name} --help").stdout
        assert all(flag in text for flag in ("--debug", "-v, --verbose", "-q, --quiet")), name


@pytest.mark.parametrize("how", ["--debug", "variable"])
def test_debug_shows_the_traceback_and_keeps_the_exit_code(shell: Shell, tmp_path: Path, how: str) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY, encoding="utf-8")
    command = f"dsrl {SMALL} --override faulty.py"
    done = shell(f"{command} --debug" if how == "--debug" else f"DSRL_TRACEBACK=1 {COMMAND} {command[5:]}")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert 'faulty.py", line 7, in process_prediction' in done.stderr
    assert "sk-proj-1234567890abcdef" not in done.stderr
    assert "Traceback" not in shell(command).stderr


def test_the_traceback_of_a_fault_is_in_the_log_of_the_run(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY, encoding="utf-8")
    done = shell(f"dsrl {SMALL} --override faulty.py")
    assert "; the traceback is in runs/small/log.txt" in done.stderr
    log = (tmp_path / "runs/small/log.txt").read_text(encoding="utf-8")
    assert log.splitlines()[0].endswith("INFO dsrl: work on run 'small' starts")
    assert "ERROR dsrl: work has ended with an error" in log
    assert 'faulty.py", line 7, in process_prediction' in log
    assert "KeyError" in log
    assert "sk-proj-1234567890abcdef" not in log


def test_notes_and_ends_of_sittings_are_in_the_log(shell: Shell, tmp_path: Path) -> None:
    few = "--passages 2 --domain fever"
    assert "note: only 2 passages" in shell(f"dsrl {SMALL} {few}").stderr
    log = (tmp_path / "runs/small/log.txt").read_text(encoding="utf-8")
    assert "INFO dsrl.notes: only 2 passages" in log
    assert "INFO dsrl: work has ended\n" in log


def test_a_log_that_cannot_be_written_stops_nothing(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "runs/small/log.txt").mkdir(parents=True)
    done = shell(f"dsrl {SMALL}")
    assert done.returncode == 0
    assert "log.txt" not in done.stderr


def test_a_command_that_changes_no_run_logs_nothing(shell: Shell, tmp_path: Path) -> None:
    shell("dsrl show nothing; dsrl runs; dsrl run --task mednly --name small")
    assert not (tmp_path / "runs").exists()


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------

SLOW = """
import time
from dsrl import hookimpl

open("started", "w").close()
time.sleep(60)
"""


@pytest.mark.parametrize(
    "command",
    [
        "plan --task mednli --override slow.py",
        "run --task mednli --override slow.py",
        "tasks show slow",
        "plugins check slow",
    ],
)
def test_an_interrupted_command_ends_with_130_and_a_sentence(tmp_path: Path, command: str) -> None:
    (tmp_path / "slow.py").write_text(SLOW, encoding="utf-8")
    info = tmp_path / "slow_task-1.0.dist-info"  # `python -m` finds plugins in the current folder
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-task\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[dsrl.tasks]\nslow = slow\n", encoding="utf-8")
    started = [sys.executable, "-m", "dsrl", *command.split()]
    process = subprocess.Popen(started, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.endswith("Run the same command again to continue.\n")
    assert err.count("Interrupted.") == 1
    assert "Aborted" not in err
    assert "Traceback" not in err
