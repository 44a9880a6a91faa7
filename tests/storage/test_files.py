from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dsrl.errors import StoreError
from dsrl.storage.files import ProcessLock, replace_file

HOLD = """import sys
from pathlib import Path
from dsrl.storage.files import ProcessLock
lock = ProcessLock(Path(sys.argv[1]))
assert lock.acquire(wait=sys.argv[2] == "wait")
print("locked", flush=True)
sys.stdin.read()"""


def hold(path: Path, wait: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(path), wait]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file.txt"
    replace_file(path, b"first")
    replace_file(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_cannot_be_replaced_stays(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_bytes(b"first")
    (tmp_path / "file.txt.part").mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        replace_file(tmp_path / "file.txt", b"second")
    assert (tmp_path / "file.txt").read_bytes() == b"first"


def test_a_killed_process_frees_its_lock(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with hold(path) as process:
        assert process.stdout
        assert process.stdout.readline() == "locked\n"
        lock = ProcessLock(path)
        assert not lock.acquire(wait=False)
        assert lock.read_owner() == f"process {process.pid}"
        process.kill()
    assert lock.acquire(wait=False)
    assert lock.read_owner() == f"process {os.getpid()}"
    lock.release()


def test_a_lock_can_be_waited_for(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    lock = ProcessLock(path)
    assert lock.acquire(wait=False)
    with hold(path, "wait") as process:
        assert process.stdout
        lock.release()
        assert process.stdout.readline() == "locked\n"
        process.communicate("")


def test_the_owner_is_another_process_if_nobody_wrote_it(tmp_path: Path) -> None:
    lock = ProcessLock(tmp_path / ".lock")
    assert lock.read_owner() == "another process"
    (tmp_path / ".lock.owner").write_text("none")
    assert lock.read_owner() == "another process"


def test_a_forked_child_does_not_free_the_lock_of_its_parent(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    lock = ProcessLock(path)
    assert lock.acquire(wait=False)

    def work() -> None:
        lock.release()
        assert not ProcessLock(path).acquire(wait=False)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert not ProcessLock(path).acquire(wait=False)
    assert lock.read_owner() == f"process {os.getpid()}"
    lock.release()
    assert ProcessLock(path).acquire(wait=False)


def test_a_file_system_without_locks_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OSError, match="No locks available"):
        ProcessLock(tmp_path / ".lock").acquire(wait=True)
