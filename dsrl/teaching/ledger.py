"""The ledger: the only way to a teacher. It returns stored replies, requests the missing ones, and books and stores them.

A reply is on the disk before anyone sees it. Its key is what decides it: teacher, options, model, messages, sampling
settings, and its number among the answers to the same prompt. No reply is requested twice, neither by this run nor by
another, nor by two at the same time (:mod:`dsrl.teaching.claims`).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dsrl.errors import BudgetReached, PluginError, TeacherError, TransientError
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import TeacherSpec
from dsrl.teaching.batches import Batches
from dsrl.teaching.budget import Budget, Hold, bound_prompt_tokens, check_price, compute_worst_cost
from dsrl.teaching.calls import Route, TeacherCall
from dsrl.teaching.claims import Claims
from dsrl.teaching.limiter import ConcurrencyLimiter
from dsrl.teaching.outcomes import Billing, Ending, Outcome, read_outcome
from dsrl.teaching.patience import Patience, WaitReporter
from dsrl.teaching.pricing import get_price
from dsrl.teaching.reply_store import CallRecord, PaidCalls, ReplyStore, Spending
from dsrl.types import Completion, Price, Purpose, Reply, Request

#: Seconds that calls in flight may still take when the ledger is closed; they are billed either way.
GRACE = 60.0

#: A call in flight. It returns its replies; None: read the store.
_CallTask = asyncio.Task[Sequence[Reply] | None]


@dataclass(frozen=True)
class CallPolicy:
    """Limits, money and mode of a run's calls.

    Attributes:
        concurrency: calls in flight to one provider, at most.
        requests_per_minute, tokens_per_minute: limits of each provider; 0: only those that it states itself.
        budget: dollars for the run; None: no cap.
        prices: the user's prices by model, in place of the plugin's.
        batch: send requests in the provider's batches, if the plugin has them.
        only_stored: return stored replies only, and refuse to request others, free ones too.
    """

    concurrency: int = 32
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    budget: float | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)
    batch: bool = False
    only_stored: bool = False


class Ledger:
    """The way to all teachers of a run.

    Args:
        teacher: the bound teacher.
        path: the reply store, shared by the runs of a working folder.
        run: id of the run that calls are booked on.
        policy: limits, money and mode.
        others: teachers for single purposes, in place of ``teacher``.
        note: receives texts for the user.
        paid_calls: how many calls the run remembers to have paid for.

    Raises:
        StoreError: the reply store cannot be used.
    """

    def __init__(
        self,
        teacher: Plugin[TeacherSpec],
        path: Path,
        run: str,
        policy: CallPolicy = CallPolicy(),
        others: Mapping[Purpose, Plugin[TeacherSpec]] | None = None,
        note: Callable[[str], None] = lambda text: None,
        paid_calls: PaidCalls | None = None,
    ) -> None:
        self._policy = policy
        self._store = ReplyStore(path, run, note, paid_calls or PaidCalls())
        self._claims = Claims(path.with_name(f"{path.name}-claims"), note)
        self._budget = Budget(policy.budget, self._store)
        self._waits = WaitReporter(note)
        self._batches = Batches(self._store, self._budget, note) if policy.batch else None
        self._limiters: dict[tuple[str, str], ConcurrencyLimiter] = {}
        self._default_route = self._register(teacher)
        self._routes = {purpose: self._register(other) for purpose, other in (others or {}).items()}
        self._other_routes: list[Route] = []
        self._in_flight: dict[tuple[str, int], _CallTask] = {}
        self._sent: set[_CallTask] = set()
        self._closed = False
        self._prices: dict[tuple[int, str], Price | None] = {}

    def _register(self, teacher: Plugin[TeacherSpec]) -> Route:
        identity = _identify(teacher)
        provider = (teacher.name, identity["identity"])
        if provider not in self._limiters:
            policy = self._policy
            self._limiters[provider] = ConcurrencyLimiter(
                policy.concurrency, policy.requests_per_minute, policy.tokens_per_minute
            )
        return Route(teacher, identity, self._limiters[provider])

    def route(self, teachers: Mapping[Purpose, Plugin[TeacherSpec]]) -> RoutedLedger:
        """Return this ledger for other teachers, those of another task of the run: with the same store, money and limits.

        Args:
            teachers: the teacher for each purpose; this ledger closes them.
        """
        routes = {purpose: self._register(teacher) for purpose, teacher in teachers.items()}
        self._other_routes += routes.values()
        return RoutedLedger(self, routes)

    async def complete(self, request: Request) -> Completion:
        """Return the replies to ``request``: stored ones, and for the others those of the teacher for its purpose.

        Raises:
            TeacherError: the teacher cannot continue, or kept failing.
            BudgetReached: what is left of the budget may not be enough.
            RowRefused: the teacher refuses this request.
            StoreError: the reply store cannot be written.
        """
        return await self._complete(self._routes.get(request.purpose, self._default_route), request)

    async def _complete(self, route: Route, request: Request) -> Completion:
        key = _compute_key(route.identity, request)
        numbers = range(request.first, request.first + request.n)
        waits = 0
        while True:
            if self._closed:
                raise asyncio.CancelledError
            stored = self._store.read_replies(key, numbers)
            missing = [number for number in numbers if number not in stored]
            if not missing:
                return Completion(tuple(stored[number] for number in numbers))
            if self._policy.only_stored:
                raise BudgetReached(f"{len(missing)} replies for {request.purpose!r} are not stored")
            # If the same reply is in flight for another caller, both wait for the same call.
            tasks = {task for number in missing if (task := self._in_flight.get((key, number)))}
            own = self._start_calls(route, request, key, [n for n in missing if (key, n) not in self._in_flight])
            if not own and not tasks:
                await self._claims.wait(waits)
                waits += 1
                continue
            await self._wait_for([*own, *tasks], own)
            if len(own) == 1 and not tasks and not own[0].cancelled():
                replies = own[0].result()
                if replies is not None and len(replies) == request.n:
                    return Completion(tuple(replies))

    def get_spending(self) -> Spending:
        """Return what this run has spent, over all commands that worked on it."""
        return self._store.get_spending()

    async def close(self, hurry: bool = False) -> None:
        """Wait for the calls in flight (:data:`GRACE`), then close the teachers and the store.

        Args:
            hurry: do not wait for a reply store that cannot be written; what waits to be written is lost.
        """
        self._closed = True
        if hurry:
            self._store.database.hurry()
        tasks = set(self._in_flight.values())
        for task in tasks - self._sent:
            task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=GRACE)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        if self._batches is not None:
            await self._batches.close()
        routes = (self._default_route, *self._routes.values(), *self._other_routes)
        for teacher in {id(route.teacher): route.teacher for route in routes}.values():
            if teacher.implements("aclose"):
                await teacher.hook.aclose()
        await self._budget.close()
        await self._store.close()
        self._claims.close()

    # --- one call ----------------------------------------------------------------------------------------------------

    def _start_calls(self, route: Route, request: Request, key: str, numbers: Sequence[int]) -> list[_CallTask]:
        """Start calls for missing replies, as far as no other process has requested them."""
        tasks = []
        max_n = 1
        if request.n > 1:
            teacher = route.teacher
            max_n = (teacher.hook.max_n(model=request.model) if teacher.implements("max_n") else 0) or request.n
        for first, n in _split(self._claim(key, numbers), max_n):
            part = request if n == request.n else replace(request, first=first, n=n)
            task = asyncio.create_task(self._request(route, part, key))
            for number in range(first, first + n):
                self._in_flight[key, number] = task

            def on_done(task: _CallTask, first: int = first, n: int = n) -> None:
                for number in range(first, first + n):
                    del self._in_flight[key, number]
                self._claims.release(key, range(first, first + n))
                if not task.cancelled():
                    task.exception()  # the caller may have been cancelled, and then nobody retrieves it

            task.add_done_callback(on_done)
            tasks.append(task)
        return tasks

    async def _wait_for(self, tasks: Sequence[_CallTask], own: Sequence[_CallTask]) -> None:
        """Wait for calls; raise the first exception of one."""
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            # A call that is sent is paid for and will be stored; one that waits for its turn is not needed any more.
            for task in own:
                if task not in self._sent:
                    task.cancel()
            raise
        for task in tasks:
            if not task.cancelled() and (error := task.exception()):
                raise error

    def _claim(self, key: str, numbers: Sequence[int]) -> Sequence[int]:
        """Claim missing replies; return the numbers that this process must request."""
        claimed = self._claims.take(key, numbers)
        if not claimed:
            return claimed
        # Another process may have stored some between the look at the store and the claim.
        stored = self._store.read_replies(key, range(claimed[0], claimed[-1] + 1))
        self._claims.release(key, stored)
        return [number for number in claimed if number not in stored]

    async def _request(self, route: Route, request: Request, key: str) -> Sequence[Reply] | None:
        """Call the teacher until it answers; return the replies, or None if they must be read from the store."""
        call = TeacherCall(route, request, key, self._get_price(route.teacher, request.model))
        is_single = request.purpose in ("keywords", "pattern")  # the run waits for this one reply
        if self._batches is not None and not is_single and route.teacher.implements("submit_batch"):
            await self._batches.request(call)
            return None
        patience = Patience(route.teacher.name, self._waits)
        while True:
            outcome, is_own = await self._attempt(call)
            if outcome.ending is Ending.ANSWERED:
                if outcome.defect:
                    teacher = route.teacher
                    raise PluginError(f"teacher {teacher.name!r} of {teacher.distribution} {outcome.defect}")
                return outcome.replies if is_own else None
            error = outcome.error
            assert error is not None
            if not isinstance(error, TransientError):
                raise error
            try:
                pause = patience.get_pause(error, outcome.seconds)
            except TeacherError as final:
                raise final from error
            await asyncio.sleep(pause)

    async def _attempt(self, call: TeacherCall) -> tuple[Outcome, bool]:
        """Make one call and book it; return its outcome, and whether the stored replies are its own."""
        request, limiter, teacher = call.request, call.route.limiter, call.route.teacher
        tokens = 0
        if self._policy.tokens_per_minute:
            tokens = bound_prompt_tokens(request) + request.n * request.max_tokens
        permit = await limiter.acquire(tokens)
        task: _CallTask | None = asyncio.current_task()
        assert task is not None
        try:
            hold = await self._hold_money(call)
        except BaseException:
            limiter.release(permit, 0, ending=Ending.FAILED)
            raise
        self._sent.add(task)
        try:
            permit = limiter.send(permit)
            call = replace(call, hold=hold, began=permit.began)
            try:
                result: Completion | BaseException = await teacher.hook.complete(request=request)
            except BaseException as error:  # noqa: BLE001 - it is raised again when it is booked
                result = error
            seconds = time.monotonic() - call.began
            outcome = read_outcome(result, request.n, call.price, seconds=seconds)
            if outcome.ending is Ending.RATE_LIMITED:
                limiter.on_rate_limited(permit, outcome.retry_after)
            limiter.release(permit, outcome.tokens, outcome.rate, outcome.ending)
            return outcome, await self._book(call, outcome)
        finally:
            self._sent.discard(task)

    async def _hold_money(self, call: TeacherCall) -> Hold | None:
        """Put the worst-case cost of a call on hold; return only when the reply can be stored."""
        await self._store.database.wait_until_writable()
        hold = await self._budget.hold(_compute_worst(call) if self._policy.budget is not None else 0.0)
        try:
            await self._store.database.wait_until_writable()
        except BaseException:  # the call will not be made
            self._budget.settle(hold, 0.0)
            raise
        return hold

    def _get_price(self, teacher: Plugin[TeacherSpec], model: str) -> Price | None:
        """Return the price of a model; None if it is unknown.

        Raises:
            TeacherError: it is unknown, and there is a budget.
        """
        if (id(teacher), model) not in self._prices:
            self._prices[id(teacher), model] = get_price(teacher, model, self._policy.prices)
        price = self._prices[id(teacher), model]
        check_price(self._policy.budget, price, model or teacher.name)
        return price

    async def _book(self, call: TeacherCall, outcome: Outcome) -> bool:
        """Store a call with its replies and its bill, and settle its hold; a call that was not billed leaves no trace.

        Returns:
            Whether the stored replies are those of the call.
        """
        bill, request = outcome.bill, call.request
        is_own = False
        if bill.billing is not Billing.NONE:
            record = CallRecord(
                request.purpose,
                call.route.teacher.name,
                request.model,
                call.key,
                request.first,
                outcome.replies,
                bill.usage,
                bill.cost,
                outcome.seconds,
            )
            # With a budget, the money is on hold already.
            is_uncovered = bill.billing is Billing.UNKNOWN and call.hold is None
            is_own = await self._store.book(record, _compute_worst(call) if is_uncovered else 0.0)
        if bill.billing is Billing.UNKNOWN:
            self._budget.write_off(call.hold)
        else:
            self._budget.settle(call.hold, bill.cost or 0.0)
        return is_own


class RoutedLedger:
    """A ledger with the teachers of one task; see :meth:`Ledger.route`."""

    def __init__(self, ledger: Ledger, routes: Mapping[Purpose, Route]) -> None:
        self._ledger, self._routes = ledger, routes

    async def complete(self, request: Request) -> Completion:
        """Return the replies to ``request``; see :meth:`Ledger.complete`."""
        return await self._ledger._complete(self._routes[request.purpose], request)


def compute_request_key(teacher: Plugin[TeacherSpec], request: Request) -> str:
    """Return the SHA-256 of everything that decides a reply, except its number."""
    return _compute_key(_identify(teacher), request)


def _compute_worst(call: TeacherCall) -> float:
    return compute_worst_cost(call.price, call.request) if call.price is not None else 0.0


def _identify(teacher: Plugin[TeacherSpec]) -> dict[str, Any]:
    identity = teacher.hook.identity() if teacher.implements("identity") else ""
    return {"teacher": teacher.name, "options": dict(teacher.ref.options), "identity": identity}


def _compute_key(identity: Mapping[str, Any], request: Request) -> str:
    content = {
        **identity,
        "model": request.model,
        "messages": [[message.role, message.content] for message in request.messages],
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_tokens,
        "schema": request.schema,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _split(numbers: Collection[int], max_n: int) -> list[tuple[int, int]]:
    """Split numbers into runs of neighbours of at most ``max_n``, as (first, count)."""
    parts: list[tuple[int, int]] = []
    for number in numbers:
        if parts and sum(parts[-1]) == number and parts[-1][1] < max_n:
            parts[-1] = (parts[-1][0], parts[-1][1] + 1)
        else:
            parts.append((number, 1))
    return parts
