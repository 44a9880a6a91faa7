"""Gathers calls into batches: those that arrive until nothing more comes for a moment go together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from dsrl.teaching.batches import limits
from dsrl.teaching.budget import Budget
from dsrl.teaching.calls import TeacherCall
from dsrl.types import Request


@dataclass(slots=True, eq=False)
class _QueuedCall:
    """A call that waits to be submitted, and the row of its batch."""

    call: TeacherCall
    row: asyncio.Future[int]


@dataclass(slots=True, eq=False)
class _Window:
    """The calls to one teacher and model that will be submitted together, and the timer that submits them."""

    queue: list[_QueuedCall] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None


class Gatherer:
    """Gathers calls and submits them in batches.

    Args:
        submit: submits calls, all to one teacher and model, as a batch; returns its row.
        budget: takes back the money of a call that is withdrawn.
    """

    def __init__(self, submit: Callable[[Sequence[TeacherCall]], Awaitable[int]], budget: Budget) -> None:
        self._submit, self._budget = submit, budget
        self._windows: dict[tuple[int, str], _Window] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def add(self, call: TeacherCall) -> int:
        """Put a call into the next batch; return the row of the batch when it is submitted.

        If the caller is cancelled before the window ends, the call is withdrawn.

        Args:
            call: its hold is reserved, and not written down yet.

        Raises:
            Exception: what the submission raised.
        """
        loop = asyncio.get_running_loop()
        queued = _QueuedCall(call, loop.create_future())
        group = id(call.route.teacher), call.request.model
        window = self._windows.setdefault(group, _Window())
        window.queue.append(queued)
        if window.timer is not None:
            window.timer.cancel()
        window.timer = loop.call_later(limits.WINDOW, self._end_window, group)
        try:
            return await asyncio.shield(queued.row)
        except asyncio.CancelledError:
            if self._windows.get(group) is window and queued in window.queue:
                window.queue.remove(queued)
                self._budget.unreserve(call.hold)
            raise

    async def close(self) -> None:
        """Submit nothing more, and wait for the submissions in progress."""
        for window in self._windows.values():
            if window.timer is not None:
                window.timer.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _end_window(self, group: tuple[int, str]) -> None:
        for batch in _split(self._windows.pop(group).queue):
            task = asyncio.create_task(self._submit_batch(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _submit_batch(self, batch: Sequence[_QueuedCall]) -> None:
        """Submit calls as a batch; give those who wait for them its row, or the exception."""
        try:
            row = await self._submit([queued.call for queued in batch])
        except BaseException as error:
            for queued in batch:
                if isinstance(error, asyncio.CancelledError):
                    queued.row.cancel()
                elif not queued.row.done():
                    queued.row.set_exception(error)
                    queued.row.exception()  # the caller may have been cancelled, and then nobody retrieves it
            if not isinstance(error, Exception):
                raise
        else:
            for queued in batch:
                if not queued.row.done():
                    queued.row.set_result(row)


def count_bytes(request: Request) -> int:
    """Return an upper bound of a request's bytes: ASCII JSON is the longest form that any provider's SDK sends."""
    text = sum(len(json.dumps(message.content)) for message in request.messages)
    schema = len(json.dumps(request.schema)) if request.schema is not None else 0
    return text + schema + limits.BYTES_PER_REQUEST


def _split(queue: Sequence[_QueuedCall]) -> list[list[_QueuedCall]]:
    """Split calls into batches that providers take."""
    batches: list[list[_QueuedCall]] = []
    room = 0  # bytes
    for queued in queue:
        size = count_bytes(queued.call.request)
        if not batches or len(batches[-1]) == limits.MAX_REQUESTS or size > room:
            batches.append([])
            room = limits.MAX_BYTES
        batches[-1].append(queued)
        room -= size
    return batches
