"""The pool with fake workers, for losses at the worst moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any

import pytest
from dsrl_ray.pool import WorkerPool

from .conftest import needs_ray

pytestmark = needs_ray


class FakeWorker:
    """A worker that is ready at once, or never."""

    def __init__(self, is_ready: bool) -> None:
        self.get_node = SimpleNamespace(remote=self._start)
        self.is_ready = is_ready

    async def _start(self) -> str:
        await asyncio.sleep(0 if self.is_ready else 3600)
        return "node"


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray, "kill", lambda worker: None)
    monkeypatch.setattr(ray, "cancel", lambda answer: None)


def test_a_chunk_is_not_given_to_a_worker_that_is_not_ready(caplog: pytest.LogCaptureFixture) -> None:
    """One lane of a lost worker waits for a chunk while another one puts it back; there is no room for a new worker."""
    from ray.exceptions import RayActorError

    workers = [FakeWorker(True), FakeWorker(True), FakeWorker(False)]
    first, second, never = workers
    asked: list[tuple[FakeWorker, int]] = []

    async def answer(worker: FakeWorker, chunk: int) -> list[list[str]]:
        asked.append((worker, chunk))
        await asyncio.sleep(0.1)
        if worker is second:
            raise RayActorError
        await asyncio.sleep(0.2)
        return [[str(chunk)]]

    def ask(worker: FakeWorker, chunk: int) -> Awaitable[Any]:
        return answer(worker, chunk)

    async def work() -> Any:
        pool = WorkerPool(lambda: workers.pop(0), 2, 60, 2)
        pool.start()
        texts = await asyncio.wait_for(pool.run([0, 1, 2], ask), 20)
        return texts, pool.repeated

    assert asyncio.run(work()) == ([[["0"]], [["1"]], [["2"]]], 1)
    assert never not in [worker for worker, _ in asked]
    assert (first, 2) in asked
    assert "1 of 3 chunks were computed again" in caplog.text
