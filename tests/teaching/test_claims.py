"""Several processes use one reply store at the same time; the provider's own records say what was paid for."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dsrl.teaching.claims import Claims
from dsrl.testing.fault_server import FaultServer

KEY = "0123456789abcdef" * 4

WORKER = """
import asyncio, sys
from pathlib import Path
from dsrl.teaching.ledger import Ledger, CallPolicy
from dsrl.plugins.binding import load
from dsrl.types import PluginRef
from dsrl.types import Message, Price, Request

url, path, name, budget = sys.argv[1:]

async def work():
    teacher = load(PluginRef("teacher", "openai", {"base_url": url}), "teacher")
    policy = CallPolicy(8, budget=float(budget) or None, prices={"gpt-4o": Price(1.0, 2.0)})
    ledger = Ledger(teacher, Path(path), name, policy, note=lambda text: print(text, file=sys.stderr))
    requests = [
        Request("solve", "gpt-4o", (Message("user", f"question {number}"),), 0.7, 64, n=2) for number in range(30)
    ]
    completions = await asyncio.gather(*map(ledger.complete, requests))
    await ledger.close()
    print("|".join(reply.text for completion in completions for reply in completion.replies))

asyncio.run(work())
"""


def start(server: FaultServer, path: Path, name: str, budget: float = 0.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, server.url, str(path), name, str(budget)]
    environment = {**os.environ, "OPENAI_API_KEY": "none"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def slow(server: FaultServer, seconds: float) -> None:
    good = server._send

    async def late(*args: Any) -> Any:
        await asyncio.sleep(seconds)
        return await good(*args)

    server._send = late  # type: ignore[method-assign]


def stored(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        return [text for (text,) in database.execute("SELECT text FROM replies")]


def book(server: FaultServer) -> Counter[str]:
    """Return how many replies the provider has billed, by question."""
    billed: Counter[str] = Counter()
    for body in server.bodies:
        billed[body["messages"][0]["content"]] += body.get("n", 1)
    return billed


@pytest.mark.slow
@pytest.mark.parametrize("budget", [0.0, 5.0])
def test_three_processes_that_want_the_same_pay_for_it_once(tmp_path: Path, budget: float) -> None:
    path = tmp_path / "calls.db"
    with FaultServer() as server:
        slow(server, 0.1)
        started = [start(server, path, f"run{number}", budget) for number in range(3)]
        said = [process.communicate(timeout=60) for process in started]
        assert [process.returncode for process in started] == [0, 0, 0], said
        assert len({out for out, _ in said}) == 1, "all have the same replies"
        assert book(server) == {f"question {number}": 2 for number in range(30)}
    assert len(stored(path)) == 60


@pytest.mark.slow
def test_what_a_killed_process_was_asking_for_is_asked_for_by_another(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    with FaultServer() as server:
        slow(server, 0.2)
        killed = start(server, path, "killed")
        deadline = time.monotonic() + 30
        while len(server.requests) < 4 and time.monotonic() < deadline:
            time.sleep(0.005)
        others = [start(server, path, f"run{number}") for number in range(2)]
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        said = [process.communicate(timeout=60) for process in others]
        assert [process.returncode for process in others] == [0, 0], said
        billed = sum(book(server).values())
    assert len(stored(path)) == 60
    assert 60 < billed <= 60 + 2 * 8, "what was out at the kill is lost, nothing else"


def test_a_claim_is_held_against_other_ledgers_of_the_process_and_let_go(tmp_path: Path) -> None:
    path = tmp_path / "calls.db-claims"
    first, second = Claims(path), Claims(path)
    assert first.take(KEY, range(4)) == [0, 1, 2, 3]
    assert second.take(KEY, range(2, 6)) == [4, 5]
    first.release(KEY, [2, 4])
    assert second.take(KEY, range(6)) == [2], "4 was not the first one's to let go"
    second.close()
    assert first.take(KEY, range(6)) == [2, 4, 5], "the file is still open: what the first one holds is still held"
    code = (
        "import sys; from pathlib import Path; from dsrl.teaching.claims import Claims\n"
        "print(Claims(Path(sys.argv[1])).take(sys.argv[2], range(8)))"
    )
    command = [sys.executable, "-c", code, str(path), KEY]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[6, 7]\n"
    first.close()
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"{list(range(8))}\n"
    assert path.stat().st_size == 0


def test_waiting_long_is_told_once_with_whom_it_waits_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "calls.db-claims"
    code = (
        "import sys; from pathlib import Path; from dsrl.teaching.claims import Claims\n"
        "Claims(Path(sys.argv[1])).take(sys.argv[2], [0]); print('taken', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path), KEY]
    notes: list[str] = []
    monkeypatch.setattr("dsrl.teaching.claims._NOTE_AFTER", 0.0)
    monkeypatch.setattr("dsrl.teaching.claims.PAUSES", (0.001, 0.002))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        claims = Claims(path, notes.append)
        assert claims.take(KEY, [0]) == []
        for looked in range(4):
            asyncio.run(claims.wait(looked))
        process.kill()
        process.wait()
        assert claims.take(KEY, [0]) == [0], "free in the moment of the kill"
        claims.close()
    who = f"process {process.pid} (" if Path("/proc/locks").exists() else "another process"
    assert len(notes) == 1
    assert who in notes[0]


# --- a disk that is really full --------------------------------------------------------------------------------------

FULL = """
import asyncio, resource, sys
from pathlib import Path
from dsrl.teaching.ledger import Ledger, CallPolicy
from dsrl.plugins.binding import load
from dsrl.types import PluginRef
from dsrl.types import Message, Request

url, path, filler = sys.argv[1:]

def note(text):
    print(text, file=sys.stderr)
    if "no room" in text:
        loop = asyncio.get_running_loop()
        if filler:
            loop.call_later(0.5, Path(filler).unlink)
        else:
            free = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            loop.call_later(0.5, resource.setrlimit, resource.RLIMIT_FSIZE, free)

async def work():
    teacher = load(PluginRef("teacher", "openai", {"base_url": url}), "teacher")
    ledger = Ledger(teacher, Path(path), "run", CallPolicy(8), note=note)
    if filler:
        with open(filler, "wb", buffering=0) as file:
            try:
                while file.write(bytes(1024)):
                    pass
            except OSError:
                pass
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    requests = [Request("solve", "gpt-4o", (Message("user", f"question {n}"),), 0.7, 64) for n in range(60)]
    completions = await asyncio.gather(*map(ledger.complete, requests))
    await ledger.close()
    print(len(completions))

asyncio.run(work())
"""


def fill_and_free(tmp_path: Path, folder: Path, filler: str) -> None:
    path = folder / "calls.db"
    with FaultServer() as server:
        server.text = lambda body: "x" * 20_000
        slow(server, 0.02)
        command = [sys.executable, "-c", FULL, server.url, str(path), filler]
        environment = {**os.environ, "OPENAI_API_KEY": "none"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        assert f"{path}: no room on the disk; free some. Paid replies wait in memory" in done.stderr
        assert done.stdout == "60\n", "the run goes on"
        assert book(server) == {f"question {number}": 1 for number in range(60)}, "nothing was paid for twice"
    assert len(stored(path)) == 60


@pytest.mark.slow
def test_a_limit_of_the_system_on_a_file_is_waited_for(tmp_path: Path) -> None:
    fill_and_free(tmp_path, tmp_path, "")


@pytest.mark.skipif(os.getuid() != 0 or sys.platform != "linux", reason="only root may mount a small disk")
def test_a_full_disk_is_waited_for(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        fill_and_free(tmp_path, disk, str(disk / "filler"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
