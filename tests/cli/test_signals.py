"""Real `dsrl` processes that a signal stops, against a provider that records what it bills."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from dsrl.testing.fault_server import FaultServer

pytestmark = pytest.mark.slow


class FakeSlowProvider(FaultServer):
    """Answers slowly, and records what it bills, also if the client is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.4
        self.waiting = self.billed = 0

    async def _text(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.waiting += 1
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), self.seconds)
        self.waiting -= 1
        self.billed += 1
        return await super()._text(request)


@pytest.fixture
def provider(server: FaultServer) -> Iterator[FakeSlowProvider]:
    with FakeSlowProvider() as slow:
        slow.text = server.text
        yield slow


def started(provider: FaultServer, folder: Path, *flags: str, ignored: tuple[int, ...] = ()) -> subprocess.Popen[str]:
    def prepare() -> None:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN if signum in ignored else signal.SIG_DFL)
        if signal.SIGINT not in ignored:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    command = [sys.executable, "-m", "dsrl", *flags, "--task", "mednli", "--teacher", "openai:gpt-4o", "--name", "r"]
    command += ["--teacher-option", f"base_url={provider.url}", "--price", "gpt-4o=2.5,10", "--budget", "5"]
    command += ["--samples", "200", "--select", "16", "--concurrency", "16"]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, preexec_fn=prepare)


def until(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def book(folder: Path) -> tuple[int, int, int]:
    """Return the number of calls, replies and holds of the run."""
    database = sqlite3.connect(folder / ".dsrl/calls.db")
    try:
        tables = ("calls WHERE cost_usd IS NOT NULL", "replies", "holds")
        return tuple(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables)  # type: ignore[return-value]
    finally:
        database.close()


@pytest.mark.parametrize(
    ("signum", "command", "ignored"),
    [
        (signal.SIGTERM, ("run", "--stop-after", "verified"), ()),
        (signal.SIGHUP, ("run", "--stop-after", "verified"), ()),
        (signal.SIGINT, ("run", "--stop-after", "verified"), ()),
        (signal.SIGTERM, ("run",), (signal.SIGINT,)),  # a background job of a shell script, while the base model works
        (signal.SIGTERM, ("plan", "--probe", "100"), ()),
    ],
)
def test_calls_that_are_billed_are_stored_before_the_process_ends(
    provider: FakeSlowProvider, tmp_path: Path, signum: signal.Signals, command: tuple[str, ...], ignored: Any
) -> None:
    process = started(provider, tmp_path, *command, ignored=ignored)
    until(lambda: provider.billed > 30 and provider.waiting > 5)
    process.send_signal(signum)
    _, err = process.communicate(timeout=90)
    until(lambda: not provider.waiting)
    assert process.returncode == 128 + signum, err
    assert "Traceback" not in err
    assert "Interrupted." in err
    assert "waiting up to a minute for calls in flight" in err
    assert book(tmp_path) == (provider.billed, provider.billed, 0)


def test_a_hangup_that_is_ignored_stays_ignored(provider: FakeSlowProvider, tmp_path: Path) -> None:
    process = started(provider, tmp_path, "run", "--stop-after", "initial", ignored=(signal.SIGHUP,))
    until(lambda: provider.billed > 30)
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 0, err


def test_a_second_signal_quits_at_once_and_what_is_not_known_stays_on_hold(
    provider: FakeSlowProvider, tmp_path: Path
) -> None:
    process = started(provider, tmp_path, "run", "--stop-after", "initial")
    until(lambda: provider.billed > 5)
    provider.seconds = 40
    until(lambda: provider.waiting > 5)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    while "waiting up to a minute" not in process.stderr.readline():
        pass
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=90)
    assert time.monotonic() - began < 20
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "Traceback" not in err
    assert book(tmp_path)[2], "what was cut off may have been billed"
