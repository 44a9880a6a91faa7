"""verl as a child process: it ends with its parent, and its last lines are read. A package that stands for verl plays it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dsrl_verl.process import MARK, VerlProcess, end_processes, find_own_paths, read_last_lines

ROOT = Path(__file__).parents[1]
MakeVerl = Callable[[str], dict[str, str]]


@pytest.fixture
def make_verl(tmp_path: Path) -> MakeVerl:
    """Return a function that makes a package named verl from the body of its main, and the environment to find it."""

    def make(body: str) -> dict[str, str]:
        folder = tmp_path / "packages" / "verl" / "trainer"
        folder.mkdir(parents=True, exist_ok=True)
        for package in (folder, folder.parent):
            (package / "__init__.py").write_text("")
        (folder / "main_ppo.py").write_text("import os, sys, time\ndef main():\n" + textwrap.indent(body, "    "))
        paths = [str(tmp_path / "packages"), str(ROOT), *find_own_paths(), os.environ.get("PYTHONPATH", "")]
        return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}

    return make


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or ") Z" not in state.read_text()


def test_arguments_log_and_exit_code_arrive(make_verl: MakeVerl, tmp_path: Path) -> None:
    environment = make_verl("print(sys.argv[5:], os.environ['MARK'], os.getcwd())\nsys.exit(7)")
    with VerlProcess(["++a=1"], tmp_path / "log", tmp_path, {**environment, "MARK": "here"}) as verl:
        wait_for(lambda: verl.code is not None)
        assert verl.code == 7
    assert verl.read_last_lines() == f"['++a=1'] here {tmp_path}"


def test_the_end_of_the_context_ends_verl_and_its_children(make_verl: MakeVerl, tmp_path: Path) -> None:
    body = "import subprocess, signal\nsignal.signal(signal.SIGTERM, lambda *a: sys.exit(0))\n"
    body += "child = subprocess.Popen(['sleep', '1000'])\nopen('child', 'w').write(str(child.pid))\ntime.sleep(1000)"
    with VerlProcess([], tmp_path / "log", tmp_path, make_verl(body)) as verl:
        wait_for(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
        assert verl.code is None
    child = int((tmp_path / "child").read_text())
    wait_for(lambda: not is_alive(child))
    assert verl.code is not None


def test_verl_ends_when_dsrl_is_killed(make_verl: MakeVerl, tmp_path: Path) -> None:
    environment = make_verl("open('own', 'w').write(str(os.getpid()))\ntime.sleep(1000)")
    script = f"""
        import time
        from pathlib import Path
        from dsrl_verl.process import VerlProcess
        folder = Path({str(tmp_path)!r})
        with VerlProcess([], folder / "log", folder, {{}}):
            time.sleep(1000)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], env={**os.environ, **environment})
    wait_for(lambda: (tmp_path / "own").exists() and (tmp_path / "own").read_text())
    own = int((tmp_path / "own").read_text())
    assert is_alive(own)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not is_alive(own))


def test_the_processes_of_a_training_are_ended_and_no_others(make_verl: MakeVerl, tmp_path: Path) -> None:
    """As those of Ray, they are in a session of their own."""
    body = "import subprocess\nchild = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
    body += "open('part', 'w').write(str(child.pid))\nos.rename('part', 'child')\ntime.sleep(1000)"
    other = subprocess.Popen(["sleep", "1000"], env={**os.environ, MARK: f"{tmp_path}/other"})
    try:
        environment = {**make_verl(body), MARK: str(tmp_path)}
        with VerlProcess([], tmp_path / "log", tmp_path, environment):
            wait_for((tmp_path / "child").exists)
            child = int((tmp_path / "child").read_text())
            assert is_alive(child)
        wait_for(lambda: not is_alive(child))
        assert other.poll() is None
        end_processes(f"{tmp_path}/other")
        assert other.wait(timeout=10) == -signal.SIGKILL
    finally:
        other.kill()


def test_a_process_that_starts_while_others_are_ended_is_ended_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, list_processes: Any
) -> None:
    environment, kill = {**os.environ, MARK: f"{tmp_path}/ray"}, os.kill
    running = [subprocess.Popen(["sleep", "1000"], env=environment)]

    def start_another_and_kill(number: int, sign: int) -> None:
        if len(running) == 1:
            running.append(subprocess.Popen(["sleep", "1000"], env=environment))
        kill(number, sign)

    monkeypatch.setattr(os, "kill", start_another_and_kill)
    end_processes(f"{tmp_path}/ray")
    assert list_processes(tmp_path) == []
    assert [process.wait(timeout=10) for process in running] == [-signal.SIGKILL] * 2


def test_the_last_lines_have_no_colours_no_names_of_processes_and_no_repetitions(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert read_last_lines(log) == ""
    lines = [
        "\x1b[36m(TaskRunnerV1 pid=12)\x1b[0m first",
        "",
        "(WorkerDict pid=3, ip=1.2.3.4) second",
        "second",
        "x" * 500,
    ]
    log.write_text("old\n" * 30 + "\n".join(lines))
    assert read_last_lines(log, 4).splitlines() == ["old", "first", "second", "x" * 300]
