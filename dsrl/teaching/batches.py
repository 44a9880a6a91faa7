"""Requests that go to a provider as one batch: cheaper, and answered hours later.

Requests that arrive until nothing more comes for a moment go together. A batch gets a name of its own (a token), which is on
the disk before it is submitted and goes with it. A run that was stopped in any moment finds its batch again, by the
provider's id or by that name, and submits none twice. (Where a teacher cannot look for a name, a kill in the very moment of
submitting loses the batch: its money stays on hold, and its requests are asked again.)
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dsrl import signals
from dsrl.errors import StoreError, TeacherError, TransientError
from dsrl.plugins.binding import Plugin, load
from dsrl.plugins.specs import TeacherSpec
from dsrl.storage.sqlite import exists, store_errors
from dsrl.teaching.bills import bill_of
from dsrl.teaching.budget import Budget, Hold, worst_case
from dsrl.teaching.patience import Patience, Waits
from dsrl.teaching.reply_store import Call, ReplyStore, book, open_reply_store
from dsrl.text import replace_surrogates
from dsrl.types import BatchState, Completion, PluginRef, Price, Reply, Request

T = TypeVar("T")

#: Seconds without a new request after which those that wait are submitted.
WINDOW = 1.0
#: Requests in a batch at most.
MOST = 10_000
#: Bytes of a batch at most; OpenAI takes 200 MB, Anthropic 256 MB.
MOST_BYTES = 150_000_000
#: Seconds between two looks at a batch: the first, and the longest.
POLLS = (5.0, 60.0)
#: How often a request is put into a new batch that a batch did not answer.
_AGAIN = 3
#: How often a batch is looked for before it counts as never submitted; a list may show it only after a moment.
_LOOKS = 3
#: Bytes that a provider's form puts around a request, at most: numbers, names, addresses.
_FORM = 2048
_SAID = 1000


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A batch as ``calls.db`` knows it; ``done`` is what the provider said last, or what was answered in the end."""

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
    usd: float | None
    batch: asyncio.Future[int]


class _Unknown(TeacherError):
    """Whether the provider has taken a batch is not known; the next sitting looks for it."""


class Batches:
    """Gathers, submits and awaits the batches of a run.

    Args:
        calls: where batches and replies are kept.
        budget: None: no cap.
        note: is told what the user should know.
    """

    def __init__(self, calls: ReplyStore, budget: Budget | None, note: Callable[[str], None]) -> None:
        self._calls, self._budget, self._note = calls, budget, note
        self._gathered: dict[tuple[int, str], list[_Item]] = {}
        self._windows: dict[tuple[int, str], asyncio.TimerHandle] = {}
        self._submitting: set[asyncio.Task[None]] = set()
        self._looking: set[asyncio.Task[Any]] = set()
        self._recovering: dict[int, asyncio.Task[None]] = {}
        self._own: set[int] = set()
        self._waits = Waits(note)
        self._closing = asyncio.Event()
        self._polling: dict[int, asyncio.Task[None]] = {}
        self._faults: dict[tuple[str, int], Exception] = {}
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
        await self._recovered(teacher, identity)
        batch = self._out(request, key)
        if batch is None:
            if self._asked[key, request.first] == _AGAIN:
                why = self._faults.get((key, request.first), "no reason is given")
                raise TeacherError(
                    f"{_AGAIN} batches of teacher {teacher.name!r} did not answer a request ({why}); try without --batch"
                )
            self._asked[key, request.first] += 1
            batch = await self._gather(teacher, identity, request, key, price)
        if batch not in self._polling:
            self._polling[batch] = asyncio.create_task(self._await(teacher, batch, price))
        task = self._polling[batch]
        await asyncio.wait([task])
        if not task.cancelled() and (fault := task.exception()):
            raise fault
        if (met := self._faults.get((key, request.first))) and not isinstance(met, TransientError):
            raise self._faults.pop((key, request.first))

    async def close(self) -> None:
        """See submissions through; batches stay out, and one that is being looked for is looked for by the next sitting."""
        self._closing.set()
        for window in self._windows.values():
            window.cancel()
        for task in self._looking:
            task.cancel()
        if self._submitting:
            await asyncio.wait(self._submitting)
        waiting = [*self._polling.values(), *self._recovering.values()]
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting)
        for task in waiting:
            if not task.cancelled():
                task.exception()  # whoever waited is gone

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
        usd = None
        if price is not None:  # written down together with the batch, for the bill may never be known
            usd = worst_case(price, request, batch=True)
            if self._budget is not None:
                await self._budget.reserve(usd)
        item = _Item(request, key, usd, asyncio.get_running_loop().create_future())
        group = id(teacher), request.model
        gathered = self._gathered.setdefault(group, [])
        gathered.append(item)
        if window := self._windows.pop(group, None):
            window.cancel()

        def submit() -> None:
            items = self._gathered.pop(group)
            for part in _parts(items):
                task = asyncio.create_task(self._submit(teacher, identity, part))
                self._submitting.add(task)
                task.add_done_callback(self._submitting.discard)

        self._windows[group] = asyncio.get_running_loop().call_later(WINDOW, submit)
        try:
            return await asyncio.shield(item.batch)
        except asyncio.CancelledError:
            if item in gathered and self._gathered.get(group) is gathered:
                gathered.remove(item)
                self._unreserve([item])
            raise

    async def _submit(self, teacher: Plugin[TeacherSpec], identity: str, items: Sequence[_Item]) -> None:
        """Make a batch of ``items`` and tell those who wait for them which it is, or why there is none."""
        try:
            batch = await self._submitted(teacher, identity, items)
        except BaseException as error:
            for item in items:
                if isinstance(error, asyncio.CancelledError):
                    item.batch.cancel()
                elif not item.batch.done():
                    item.batch.set_exception(error)
                    item.batch.exception()  # whoever waited may be gone
            if not isinstance(error, Exception):
                raise
        else:
            for item in items:
                if not item.batch.done():
                    item.batch.set_result(batch)

    async def _submitted(self, teacher: Plugin[TeacherSpec], identity: str, items: Sequence[_Item]) -> int:
        token, now = secrets.token_hex(8), time.time()
        options = _options(teacher)
        model, requests = items[0].request.model, [item.request for item in items]

        def put_down(database: Any) -> tuple[int, list[Hold]]:
            batch: int = database.execute(
                "INSERT INTO batches (token, run, teacher, place, model, options, submitted, status) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, 'submitting')",
                (token, self._calls.run, teacher.name, identity, model, options, now),
            ).lastrowid
            holds: list[Hold] = []
            for number, (item, asked) in enumerate(zip(items, requests, strict=True)):
                hold = None
                if item.usd is not None:
                    sql = "INSERT INTO holds (run, usd) VALUES (?, ?)"
                    hold = int(database.execute(sql, (self._calls.run, item.usd)).lastrowid)
                    holds.append(Hold(hold, item.usd))
                row = (batch, number, item.key, asked.first, asked.n, asked.purpose, hold)
                database.execute("INSERT INTO batch_items VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            self._own.add(batch)
            return batch, holds

        try:
            batch, holds = await self._calls.write(put_down)
        except Exception:
            self._unreserve(items)
            raise
        self._holds |= {hold.id: hold for hold in holds}

        async def once() -> str:
            try:
                return await teacher.hook.submit_batch(requests=requests, token=token)
            except TransientError as error:
                # A connection that broke may have broken behind the request. "Too many" is a plain no.
                if not error.limited and (name := await self._found(teacher, token, now, len(items))):
                    return name
                raise

        try:
            name = await self._persisting(once, teacher)
            await self._name(batch, name)
        except Exception as error:
            sure = isinstance(error, TeacherError) and not isinstance(error, _Unknown)
            if sure or not (teacher.implements("find_batch") or isinstance(error, StoreError)):
                await self._give_up(batch)
            else:
                self._recovering.pop(id(teacher), None)  # the next request looks for it
            raise
        finally:
            self._own.discard(batch)
        self._note(f"batch {name}: {len(items)} requests are submitted; the run may be stopped and started again")
        return batch

    async def _found(self, teacher: Plugin[TeacherSpec], token: str, submitted: float, requests: int) -> str | None:
        """Look for a batch that may have been submitted; give the provider's id.

        Raises:
            _Unknown: the provider cannot be asked.
        """
        if not teacher.implements("find_batch"):
            return None
        this = asyncio.current_task()
        assert this is not None
        self._looking.add(this)

        async def look() -> str | None:
            return await teacher.hook.find_batch(token=token, submitted=submitted, requests=requests)

        try:
            for looked in range(_LOOKS):
                if looked:
                    await asyncio.sleep(POLLS[0])
                if self._closing.is_set():
                    raise asyncio.CancelledError
                if name := await self._persisting(look, teacher):
                    return name
        except TeacherError as error:
            raise _Unknown(f"a batch may be out, and cannot be looked for: {error}") from error
        finally:
            self._looking.discard(this)
        return None

    async def _recovered(self, teacher: Plugin[TeacherSpec], identity: str) -> None:
        """Find the batches again that this run was submitting when it was stopped."""
        task = self._recovering.get(id(teacher))
        if task is None:
            task = self._recovering[id(teacher)] = asyncio.create_task(self._recover(teacher, identity))
        await asyncio.wait([task])
        task.result()

    async def _recover(self, teacher: Plugin[TeacherSpec], identity: str) -> None:
        if not teacher.implements("find_batch"):
            return
        # Nobody else is submitting those: a process works on its run alone (dsrl.storage.run_store), and knows its own.
        rows = self._calls.read(
            "SELECT id, token, submitted, (SELECT count(*) FROM batch_items i WHERE i.batch = b.id) FROM batches b "
            "WHERE status = 'submitting' AND run = ? AND teacher = ? AND place = ? AND options = ?",
            self._calls.run,
            teacher.name,
            identity,
            _options(teacher),
        )
        for batch, token, submitted, requests in rows:
            if batch in self._own:
                continue
            self._note(f"this run was stopped while it submitted a batch of {requests} requests; looking for it")
            name = await self._found(teacher, token, submitted, requests)
            if name is None:
                await self._give_up(batch)
                self._note("there is no such batch; its requests are asked anew")
            else:
                await self._name(batch, name)
                self._note(f"batch {name} is found again")

    def _unreserve(self, items: Sequence[_Item]) -> None:
        for item in items:
            if item.usd is not None and self._budget is not None:
                self._budget.unreserve(item.usd)

    async def _name(self, batch: int, name: str) -> None:
        sql = "UPDATE batches SET provider_id = ?, status = 'in_progress' WHERE id = ?"
        await self._calls.write(lambda database: database.execute(sql, (name, batch)).rowcount)

    async def _give_up(self, batch: int) -> None:
        """Take back the money held for a batch that was not submitted."""
        rows = self._calls.read("SELECT hold FROM batch_items WHERE batch = ? AND hold IS NOT NULL", batch)

        def write(database: Any) -> None:
            _set(database, batch, "failed")
            database.executemany("DELETE FROM holds WHERE id = ?", rows)

        await self._calls.write(write)
        for (hold,) in rows:
            self._settle(hold, 0.0)

    async def _await(self, teacher: Plugin[TeacherSpec], batch: int, price: Price | None) -> None:
        ((name, run, model),) = self._calls.read("SELECT provider_id, run, model FROM batches WHERE id = ?", batch)
        pause, done = POLLS[0], -1
        while True:
            state: BatchState = await self._persisting(
                lambda: teacher.hook.poll_batch(batch=name, model=model), teacher
            )
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
        faults = dict.fromkeys(str(met) for met in state.results.values() if isinstance(met, TransientError))
        answered = sum(isinstance(result, Completion) for result in state.results.values())
        said = "; ".join([state.message, *faults] if state.message else faults)[:_SAID]
        self._note(f"batch {name} is over: {answered} requests answered{'; ' if said else ''}{said}")

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
        kept: list[int] = []  # on hold for good
        for item, key, first, n, purpose, hold, model in items:
            found = state.results.get(item)
            if isinstance(found, Exception):
                self._faults[key, first] = found
            bill = None if found is None else bill_of(found, price, batch=True)
            if bill is None:
                free += [hold] if hold is not None else []
                continue
            if not bill.known and hold is not None:
                kept.append(hold)
                hold = None
            given = found.replies[:n] if isinstance(found, Completion) else ()
            replies = [Reply(replace_surrogates(str(reply.text)), reply.finish_reason) for reply in given]
            call = Call(purpose, teacher.name, model, bill.usage, bill.cost, 0.0, name)
            booked.append((call, key, first, replies, hold))

        answered = sum(isinstance(result, Completion) for result in state.results.values())

        def write(database: Any) -> bool:
            # Another process may wait for the same batch: one of them books it.
            if not _set(database, batch, state.status, "in_progress"):
                return False
            database.execute("UPDATE batches SET done = ? WHERE id = ?", (answered, batch))
            for call, key, first, replies, hold in booked:
                book(database, run, call, key, first, replies, hold)
            database.executemany("DELETE FROM holds WHERE id = ?", [(hold,) for hold in free])
            return True

        await self._calls.write(write)
        if run == self._calls.run:  # whoever has written it
            for call, _, _, _, hold in booked:
                self._calls.booked(call)
                self._settle(hold, call.cost or 0.0)
            for hold in free:
                self._settle(hold, 0.0)
            for hold in kept:  # one of an earlier sitting is counted as spent already
                if self._budget is not None and hold in self._holds:
                    self._budget.write_off(self._holds.pop(hold))

    async def _persisting(self, ask: Callable[[], Awaitable[T]], teacher: Plugin[TeacherSpec]) -> T:
        """Ask until there is an answer, as long as the patience for one call lasts."""
        patience = Patience(teacher.name, self._waits)
        while True:
            began = time.monotonic()
            try:
                return await ask()
            except TransientError as error:
                if not self._closing.is_set():
                    pause = patience.pause(error, time.monotonic() - began, POLLS[1])
                    with suppress(TimeoutError):  # nobody is kept waiting at the end
                        await asyncio.wait_for(self._closing.wait(), pause)
                if self._closing.is_set():
                    raise patience.exhausted("failed", error) from error

    def _settle(self, hold: int | None, cost: float) -> None:
        if self._budget is None or hold is None:
            return
        if hold in self._holds:
            self._budget.settle(self._holds.pop(hold), cost)
        else:
            self._budget.reconcile_hold(hold, cost)


def _parts(items: Sequence[_Item]) -> list[list[_Item]]:
    """Cut what waits into batches that providers take."""
    parts: list[list[_Item]] = []
    left = 0
    for item in items:
        size = _bytes(item.request)
        if not parts or len(parts[-1]) == MOST or size > left:
            parts.append([])
            left = MOST_BYTES
        parts[-1].append(item)
        left -= size
    return parts


def _bytes(request: Request) -> int:
    """Bound the bytes of a request: JSON as ASCII is the longest form that any provider's SDK sends."""
    text = sum(len(json.dumps(message.content)) for message in request.messages)
    return text + (len(json.dumps(request.schema)) if request.schema is not None else 0) + _FORM


def _options(teacher: Plugin[TeacherSpec]) -> str:
    return json.dumps(dict(teacher.ref.options), default=str)


def list_batches(path: Path) -> list[BatchRecord]:
    """List the batches of a reply store, newest first; none where there is no store."""
    if not exists(path):
        return []
    database = open_reply_store(path)
    try:
        with store_errors(path):
            rows = database.execute(
                "SELECT id, coalesce(provider_id, ''), run, teacher, model, options, submitted, status, "
                "(SELECT count(*) FROM batch_items i WHERE i.batch = b.id), done FROM batches b ORDER BY id DESC"
            ).fetchall()
    finally:
        database.close()
    return [
        BatchRecord(id, name, run, teacher, model, json.loads(options), *rest)
        for id, name, run, teacher, model, options, *rest in rows
    ]


def look(batch: BatchRecord) -> BatchState:
    """Ask the provider how far a batch is; nothing is booked.

    Raises:
        DsrlError: it cannot be asked.
    """
    return signals.run(
        _with_teacher(batch, lambda teacher: teacher.hook.poll_batch(batch=batch.provider_id, model=batch.model))
    )


def cancel(batch: BatchRecord) -> None:
    """Ask the provider to stop a batch; the run that waits for it keeps what was answered by then.

    Raises:
        DsrlError: it cannot be asked.
    """
    signals.run(_with_teacher(batch, lambda teacher: teacher.hook.cancel_batch(batch=batch.provider_id)))


async def _with_teacher(batch: BatchRecord, ask: Callable[[Plugin[TeacherSpec]], Awaitable[T]]) -> T:
    teacher = load(PluginRef("teacher", batch.teacher, batch.options), "teacher")
    try:
        return await ask(teacher)
    except TransientError as error:
        raise TeacherError(f"teacher {batch.teacher!r} cannot be asked now: {error}") from error
    finally:
        if teacher.implements("aclose"):
            await teacher.hook.aclose()


def _set(database: Any, batch: int, status: str, before: str = "submitting") -> bool:
    sql = "UPDATE batches SET status = ? WHERE id = ? AND status = ?"
    return bool(database.execute(sql, (status, batch, before)).rowcount)
