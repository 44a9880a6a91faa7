from __future__ import annotations

import asyncio
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from dsrl.errors import TeacherError, TransientError
from dsrl.plugins.specs import hookimpl
from dsrl.teaching.ledger import CallPolicy, Ledger
from dsrl.teaching.patience import PATIENCE, TRIES, Patience, WaitReporter, read_retry_after
from dsrl.types import BatchState, Completion, Message, Price, Reply, Request, Usage

REQUEST = Request("solve", "m", (Message("user", "1 + 1?"),), 0.7, 64)
BUSY = TransientError("429: come back later", 9e8, limited=True)


class FakeBusyProvider:
    """Asks to wait, in the hook and as often as a test says."""

    def __init__(self) -> None:
        self.faults: dict[str, list[TransientError]] = {"complete": [], "submit": [], "poll": []}

    def meet(self, place: str) -> None:
        if self.faults[place]:
            raise self.faults[place].pop(0)

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        self.meet("complete")
        return Completion((Reply("r"),), Usage(1, 1))

    @hookimpl
    def price(self, model: str) -> Price:
        return Price(1.0, 1.0)

    @hookimpl
    async def submit_batch(self, requests: Any, token: str) -> str:
        self.meet("submit")
        return "b"

    @hookimpl
    async def poll_batch(self, batch: str, model: str) -> BatchState:
        self.meet("poll")
        return BatchState("ended", 1, 1, 0, {0: Completion((Reply("r"),), Usage(1, 1))})

    @hookimpl
    async def cancel_batch(self, batch: str) -> None: ...


@pytest.fixture
def busy(bound: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[FakeBusyProvider, Any]:
    monkeypatch.setattr("dsrl.teaching.batches.limits.WINDOW", 0.02)
    fake = FakeBusyProvider()
    return fake, bound("teacher", fake)


async def asked(plugin: Any, path: Path, batch: bool, notes: list[str], seconds: float = 30.0) -> Any:
    ledger = Ledger(plugin, path, "run", CallPolicy(4, batch=batch), note=notes.append)
    try:
        (outcome,) = await asyncio.wait_for(asyncio.gather(ledger.complete(REQUEST), return_exceptions=True), seconds)
        return outcome
    finally:
        await ledger.close()


@pytest.mark.parametrize("place", ["complete", "submit", "poll"])
def test_who_asks_to_wait_for_years_is_not_waited_for(busy: Any, tmp_path: Path, place: str) -> None:
    fake, plugin = busy
    fake.faults[place] = [BUSY]
    outcome = asyncio.run(asked(plugin, tmp_path / "calls.db", place != "complete", []))
    assert isinstance(outcome, TeacherError), outcome
    for words in ("asks to wait 900000000 s", "come back later", "same command"):
        assert words in str(outcome)
    outcome = asyncio.run(asked(plugin, tmp_path / "calls.db", place != "complete", []))
    assert outcome.replies == (Reply("r"),), "the same command goes on"


@pytest.mark.parametrize("place", ["complete", "submit", "poll"])
def test_a_long_wait_is_told(busy: Any, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsrl.teaching.patience._SHORTEST_REPORT", 0.05)
    fake, plugin = busy
    fake.faults[place] = [TransientError("429: come back later", 0.06, limited=True)]
    notes: list[str] = []
    assert asyncio.run(asked(plugin, tmp_path / "calls.db", place != "complete", notes)).replies
    assert any("asks to wait 0 s (429: come back later)" in note for note in notes), notes


@pytest.mark.parametrize("place", ["submit", "poll"])
def test_nobody_is_kept_waiting_at_the_end(busy: Any, tmp_path: Path, place: str) -> None:
    fake, plugin = busy
    fake.faults[place] = [TransientError("429: come back later", 600.0, limited=True)]
    notes: list[str] = []
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(asked(plugin, tmp_path / "calls.db", True, notes, 0.5))
    assert time.monotonic() - began < 20
    assert any("asks to wait" in note for note in notes), "the user is told"


@pytest.mark.parametrize("seconds", [float("nan"), -5.0, True, "soon", None])
def test_what_is_no_number_of_seconds_is_not_waited_for(seconds: Any) -> None:
    assert read_retry_after(seconds) == 0.0
    assert read_retry_after(10**400) > PATIENCE
    assert read_retry_after(float("inf")) > PATIENCE


def test_being_asked_to_wait_is_no_failure_but_has_an_end() -> None:
    patience, limited = Patience("t", WaitReporter(lambda text: None)), TransientError("429", 60.0, limited=True)
    waited = [patience.get_pause(limited, 0.0) for _ in range(TRIES + 4)]
    assert sum(waited) >= 60.0 * len(waited)
    with pytest.raises(TeacherError, match="asks to wait 60 s"):
        deque(patience.get_pause(limited, 0.0) for _ in range(100))


def test_waits_at_the_same_time_are_told_once() -> None:
    notes: list[str] = []
    waits = WaitReporter(notes.append)
    for _ in range(32):
        Patience("t", waits).get_pause(TransientError("429", 60.0, limited=True), 0.0)
    assert len(notes) == 1
