"""Requests that go to a provider as one batch: cheaper, and answered hours later.

Requests that arrive until nothing more comes for a moment go together. The provider's id of a batch is on the disk before
anybody waits for it, so a run that is stopped and started again finds its batch and submits none twice. (A kill in the very
moment of submitting can lose one: its money stays on hold, and its requests are asked again.)
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dsrl.budget import Budget, Hold, worst_case
from dsrl.calls import Call, Calls, book, open_calls
from dsrl.database import storable, told
from dsrl.errors import RowRefused, TeacherError, TransientError
from dsrl.hookspecs import TeacherSpec
from dsrl.plugins import Plugin, PluginRef, load
from dsrl.records import BatchState, Completion, Price, Reply, Request

T = TypeVar("T")

#: Seconds without a new request after which those that wait are submitted.
WINDOW = 1.0
#: Requests in a batch at most.
MOST = 10_000
#: Seconds between two looks at a batch: the first, and the longest.
POLLS = (5.0, 60.0)
#: Failures in a row after which a provider is not asked for a batch any more.
TRIES = 8
#: How often a request is put into a new batch that a batch did not answer.
_AGAIN = 3


@dataclass(frozen=True, slots=True)
class KnownBatch:
    """A batch as ``calls.db`` knows it; ``done`` is what the provider said last."""

    id: int
    provider_id: str
    run: str
    teacher: str
    model: str
    options: Mapping[str, Any]
    submitted: float
    status: str
    requests: int
    done: int


@dataclass(slots=True, eq=False)
class _Item:
    request: Request
    key: str
    hold: Hold | None
    batch: asyncio.Future[int]


class Batches:
    """Gathers, submits and awaits the batches of a run.

    Args:
        calls: where batches and replies are kept.
        budget: None: no cap.
        note: is told what the user should know.
    """

    def __init__(self, calls: Calls, budget: Budget | None, note: Callable[[str], None]) -> None:
        self._calls, self._budget, self._note = calls, budget, note
        self._gathered: dict[tuple[int, str], list[_Item]] = {}
        self._windows: dict[tuple[int, str], asyncio.TimerHandle] = {}
        self._submitting: set[asyncio.Task[None]] = set()
        self._polling: dict[int, asyncio.Task[None]] = {}
        self._refused: dict[tuple[str, int], str] = {}
        self._asked: Counter[tuple[str, int]] = Counter()
        self._holds: dict[int, Hold] = {}

    async def ask(
        self, teacher: Plugin[TeacherSpec], identity: str, request: Request, key: str, price: Price | None
    ) -> None:
        """Put a request into a batch, or find the batch that it is in; come back when that is over and booked.

        Raises:
            RowRefused: the provider refused this request.
            TeacherError: the batch failed or was cancelled, or did not answer the request several times.
            BudgetReached: there is no money for it.
        """
        batch = self._out(request, key)
        if batch is None:
            if self._asked[key, request.first] == _AGAIN:
                raise TeacherError(
                    f"{_AGAIN} batches of teacher {teacher.name!r} did not answer a request; try without --batch"
                )
            self._asked[key, request.first] += 1
            batch = await self._gather(teacher, identity, request, key, price)
        if batch not in self._polling:
            self._polling[batch] = asyncio.create_task(self._await(teacher, batch, price))
        task = self._polling[batch]
        await asyncio.wait([task])
        if not task.cancelled() and (fault := task.exception()):
            raise fault
        if reason := self._refused.pop((key, request.first), None):
            raise RowRefused(reason)

    async def close(self) -> None:
        """See submissions through; batches stay out."""
        for window in self._windows.values():
            window.cancel()
        if self._submitting:
            await asyncio.wait(self._submitting)
        for task in self._polling.values():
            task.cancel()
        if self._polling:
            await asyncio.wait(self._polling.values())

    def _out(self, request: Request, key: str) -> int | None:
        rows = self._calls.read(
            "SELECT b.id FROM batch_items i JOIN batches b ON b.id = i.batch WHERE i.key = ? AND i.first < ? "
            "AND i.first + i.n > ? AND b.status = 'in_progress' LIMIT 1",
            key,
            request.first + request.n,
            request.first,
        )
        return rows[0][0] if rows else None

    async def _gather(
        self, teacher: Plugin[TeacherSpec], identity: str, request: Request, key: str, price: Price | None
    ) -> int:
        hold = None
        if self._budget is not None and price is not None:
            hold = await self._budget.hold_apart(worst_case(price, request, batch=True))
        item = _Item(request, key, hold, asyncio.get_running_loop().create_future())
        group = id(teacher), request.model
        gathered = self._gathered.setdefault(group, [])
        gathered.append(item)
        if window := self._windows.pop(group, None):
            window.cancel()

        def submit() -> None:
            items = self._gathered.pop(group)
            for start in range(0, len(items), MOST):
                task = asyncio.create_task(self._submit(teacher, identity, items[start : start + MOST]))
                self._submitting.add(task)
                task.add_done_callback(self._submitting.discard)

        self._windows[group] = asyncio.get_running_loop().call_later(WINDOW, submit)
        try:
            return await asyncio.shield(item.batch)
        except asyncio.CancelledError:
            if item in gathered and self._gathered.get(group) is gathered:
                gathered.remove(item)
                await self._release([item])
            raise

    async def _submit(self, teacher: Plugin[TeacherSpec], identity: str, items: Sequence[_Item]) -> None:
        batch = await self._calls.write(
            lambda database: (
                database.execute(
                    "INSERT INTO batches (run, teacher, place, model, options, submitted, status) "
                    "VALUES (?, ?, ?, ?, ?, ?, 'submitting')",
                    (
                        self._calls.run,
                        teacher.name,
                        identity,
                        items[0].request.model,
                        json.dumps(dict(teacher.ref.options), default=str),
                        time.time(),
                    ),
                ).lastrowid
            )
        )
        assert batch is not None
        rows = [
            (batch, i, item.key, item.request.first, item.request.n, item.request.purpose, item.hold and item.hold.id)
            for i, item in enumerate(items)
        ]
        await self._calls.write(lambda db: db.executemany("INSERT INTO batch_items VALUES (?, ?, ?, ?, ?, ?, ?)", rows))
        requests = [item.request for item in items]
        try:
            name = await _persisting(lambda: teacher.hook.submit_batch(requests=requests), teacher)
        except Exception as error:  # noqa: BLE001 - whoever waits must learn of it
            await self._calls.write(lambda db: _set(db, batch, "failed"))
            await self._release(items)
            for item in items:
                if not item.batch.done():
                    item.batch.set_exception(error)
                    item.batch.exception()
            return
        await self._calls.write(
            lambda db: (
                db.execute(
                    "UPDATE batches SET provider_id = ?, status = 'in_progress' WHERE id = ?", (name, batch)
                ).rowcount
            )
        )
        self._note(f"batch {name}: {len(items)} requests are submitted; the run may be stopped and started again")
        for item in items:
            if item.hold is not None:
                self._holds[item.hold.id] = item.hold
            if not item.batch.done():
                item.batch.set_result(batch)

    async def _await(self, teacher: Plugin[TeacherSpec], batch: int, price: Price | None) -> None:
        ((name, run),) = self._calls.read("SELECT provider_id, run FROM batches WHERE id = ?", batch)
        pause, done = POLLS[0], -1
        while True:
            state: BatchState = await _persisting(lambda: teacher.hook.poll_batch(batch=name), teacher)
            if state.status != "in_progress":
                break
            if state.done != done:
                done = state.done
                told_done = (done, batch)
                await self._calls.write(
                    lambda db, values=told_done: db.execute("UPDATE batches SET done = ? WHERE id = ?", values)  # type: ignore[misc]
                )
                if state.total:
                    self._note(f"batch {name}: {state.done} of {state.total} done")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, POLLS[1])
        await self._book(teacher, batch, name, run, state, price)
        if state.status == "failed":
            raise TeacherError(
                f"teacher {teacher.name!r}: batch {name} failed: {state.message or 'no reason is given'}"
            )
        if state.status == "cancelled":
            raise TeacherError(
                f"batch {name} was cancelled; what it answered is kept. The same command asks for the rest"
            )
        said = f"; {state.message}" if state.message else ""
        self._note(f"batch {name} is over: {len(state.results)} requests answered{said}")

    async def _book(
        self, teacher: Plugin[TeacherSpec], batch: int, name: str, run: str, state: BatchState, price: Price | None
    ) -> None:
        items = self._calls.read(
            "SELECT i.item, i.key, i.first, i.n, i.purpose, i.hold, b.model FROM batch_items i "
            "JOIN batches b ON b.id = i.batch WHERE b.id = ?",
            batch,
        )
        booked: list[tuple[Call, str, int, Sequence[Reply], int | None]] = []
        free: list[int] = []
        for item, key, first, n, purpose, hold, model in items:
            found = state.results.get(item)
            if isinstance(found, Completion):
                cost = max(price.cost(found.usage, batch=True), 0.0) if price else None
                call = Call(purpose, teacher.name, model, found.usage, cost, 0.0, name)
                replies = [Reply(storable(str(reply.text)), reply.finish_reason) for reply in found.replies[:n]]
                booked.append((call, key, first, replies, hold))
                continue
            if isinstance(found, str):
                self._refused[key, first] = found
            if hold is not None:
                free.append(hold)

        def write(database: Any) -> bool:
            # Another process may wait for the same batch: one of them books it.
            if not _set(database, batch, state.status, "in_progress"):
                return False
            for call, key, first, replies, hold in booked:
                book(database, run, call, key, first, replies, hold)
            database.executemany("DELETE FROM holds WHERE id = ?", [(hold,) for hold in free])
            return True

        if await self._calls.write(write) and run == self._calls.run:
            for call, _, _, _, hold in booked:
                self._calls.booked(call)
                self._settle(hold, call.cost or 0.0)
            for hold in free:
                self._settle(hold, 0.0)

    def _settle(self, hold: int | None, cost: float) -> None:
        if self._budget is None or hold is None:
            return
        if hold in self._holds:
            self._budget.settle(self._holds.pop(hold), cost)
        else:
            self._budget.know(hold, cost)

    async def _release(self, items: Sequence[_Item]) -> None:
        for item in items:
            if item.hold is not None and self._budget is not None:
                await self._calls.release(item.hold.id)
                self._budget.settle(item.hold, 0.0)


def known_batches(path: Path) -> list[KnownBatch]:
    """List the batches of a reply store, newest first; none where there is no store."""
    if not path.is_file():
        return []
    database = open_calls(path)
    try:
        with told(path):
            rows = database.execute(
                "SELECT id, coalesce(provider_id, ''), run, teacher, model, options, submitted, status, "
                "(SELECT count(*) FROM batch_items i WHERE i.batch = b.id), done FROM batches b ORDER BY id DESC"
            ).fetchall()
    finally:
        database.close()
    return [
        KnownBatch(id, name, run, teacher, model, json.loads(options), *rest)
        for id, name, run, teacher, model, options, *rest in rows
    ]


def look(batch: KnownBatch) -> BatchState:
    """Ask the provider how far a batch is; nothing is booked.

    Raises:
        DsrlError: it cannot be asked.
    """
    return asyncio.run(_with_teacher(batch, lambda teacher: teacher.hook.poll_batch(batch=batch.provider_id)))


def cancel(batch: KnownBatch) -> None:
    """Ask the provider to stop a batch; the run that waits for it keeps what was answered by then.

    Raises:
        DsrlError: it cannot be asked.
    """
    asyncio.run(_with_teacher(batch, lambda teacher: teacher.hook.cancel_batch(batch=batch.provider_id)))


async def _with_teacher(batch: KnownBatch, ask: Callable[[Plugin[TeacherSpec]], Awaitable[T]]) -> T:
    teacher = load(PluginRef("teacher", batch.teacher, batch.options), "teacher")
    try:
        return await ask(teacher)
    except TransientError as error:
        raise TeacherError(f"teacher {batch.teacher!r} cannot be asked now: {error}") from error
    finally:
        if teacher.answers("aclose"):
            await teacher.hook.aclose()


async def _persisting(ask: Callable[[], Awaitable[T]], teacher: Plugin[TeacherSpec]) -> T:
    for tried in range(1, TRIES + 1):
        try:
            return await ask()
        except TransientError as error:
            if tried == TRIES:
                raise TeacherError(
                    f"teacher {teacher.name!r} failed {TRIES} times in a row: {error}. Nothing is lost; give the same "
                    "command again to go on."
                ) from error
            await asyncio.sleep(max(min(2.0**tried, POLLS[1]), error.retry_after or 0.0))
    raise AssertionError("unreachable")


def _set(database: Any, batch: int, status: str, before: str = "submitting") -> bool:
    sql = "UPDATE batches SET status = ? WHERE id = ? AND status = ?"
    return bool(database.execute(sql, (status, batch, before)).rowcount)
