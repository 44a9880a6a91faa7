"""Every teacher call goes through here: what is stored is given, what is not is asked for, booked and kept.

A reply is on the disk before anyone sees it, under what decides it: teacher, its options, model, messages, sampling
settings, and its number among the answers to the same prompt. It is never asked for twice, by this run or
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

from dsrl.errors import PluginError, TeacherError, TransientError
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import TeacherSpec
from dsrl.teaching.batches import Batches
from dsrl.teaching.bills import bill_of, readable_usage
from dsrl.teaching.budget import Budget, Hold, most_prompt_tokens, worst_case
from dsrl.teaching.claims import Claims
from dsrl.teaching.limiter import ConcurrencyLimiter
from dsrl.teaching.patience import Patience, Waits, asked_wait
from dsrl.teaching.reply_store import Call, PaidCalls, ReplyStore, Spending
from dsrl.text import replace_surrogates
from dsrl.types import Completion, Price, Purpose, Reply, Request

#: Seconds that calls under way may still take when the ledger is closed; they are paid for.
GRACE = 60.0


@dataclass(frozen=True)
class CallPolicy:
    """On what terms teachers are asked.

    Attributes:
        concurrency: calls under way at once to one provider, at most.
        requests_per_minute, tokens_per_minute: limits of each provider; 0: none but what it says itself.
        budget: dollars for the run; None: no cap.
        prices: by model, instead of what the plugin says.
        batch: ask in the provider's batches, where the plugin has them.
    """

    concurrency: int = 32
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    budget: float | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)
    batch: bool = False


@dataclass(frozen=True)
class _Route:
    """A teacher as the ledger sees it: ``identity`` says which replies are its own, ``gate`` is its provider's."""

    teacher: Plugin[TeacherSpec]
    identity: Mapping[str, Any]
    limiter: ConcurrencyLimiter


@dataclass(frozen=True, slots=True)
class _Call:
    """A call to make: ``worst`` is what it costs at most where the price is known, else 0."""

    route: _Route
    request: Request
    key: str
    price: Price | None
    worst: float


class Ledger:
    """The one way to all teachers of a run.

    Args:
        teacher: the bound teacher.
        path: the reply store, shared by the runs of a working folder.
        run: id of the run that calls are booked on.
        terms: limits, prices, budget.
        others: teachers for single purposes, instead of ``teacher``.
        note: is told what the user should know.
        remembered: what the run remembers of its calls that were paid for.

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
        remembered: PaidCalls | None = None,
    ) -> None:
        self._policy = policy
        self._calls = ReplyStore(path, run, note, remembered or PaidCalls())
        self._claims = Claims(path.with_name(f"{path.name}-claims"), note)
        self._budget = None if policy.budget is None else Budget(policy.budget, self._calls)
        self._waits = Waits(note)
        self._batches = Batches(self._calls, self._budget, note) if policy.batch else None
        limiters: dict[tuple[str, str], ConcurrencyLimiter] = {}
        self._default_route = self._register(teacher, limiters)
        self._routes = {purpose: self._register(other, limiters) for purpose, other in (others or {}).items()}
        self._under_way: dict[tuple[str, int], asyncio.Task[Sequence[Reply] | None]] = {}
        self._sent: set[asyncio.Task[Sequence[Reply] | None]] = set()
        self._closed = False
        self._prices: dict[tuple[int, str], Price | None] = {}

    def _register(self, teacher: Plugin[TeacherSpec], limiters: dict[tuple[str, str], ConcurrencyLimiter]) -> _Route:
        identity = _identity(teacher)
        provider = (teacher.name, identity["identity"])
        if provider not in limiters:
            policy = self._policy
            limiters[provider] = ConcurrencyLimiter(
                policy.concurrency, policy.requests_per_minute, policy.tokens_per_minute
            )
        return _Route(teacher, identity, limiters[provider])

    async def complete(self, request: Request) -> Completion:
        """Give the replies to ``request``, from the store where they are there, else from the teacher of its purpose.

        Raises:
            TeacherError: the teacher cannot go on, or kept failing.
            BudgetReached: what is left of the budget may not be enough.
            RowRefused: the teacher refuses this request.
            StoreError: the reply store cannot be written.
        """
        route = self._routes.get(request.purpose, self._default_route)
        key = _key(route.identity, request)
        wanted = range(request.first, request.first + request.n)
        waited = 0
        while True:
            if self._closed:
                raise asyncio.CancelledError
            stored = self._calls.replies(key, wanted)
            missing = [number for number in wanted if number not in stored]
            if not missing:
                return Completion(tuple(stored[number] for number in wanted))
            # Whoever asks the same at the same time waits for the same call, and then reads it.
            tasks = {task for number in missing if (task := self._under_way.get((key, number)))}
            own = self._begin(route, request, key, [n for n in missing if (key, n) not in self._under_way])
            if not own and not tasks:
                await self._claims.wait(waited)
                waited += 1
                continue
            try:
                await asyncio.wait([*tasks, *own])
            except asyncio.CancelledError:
                # What is sent is paid for, and will be stored; what still waits for its turn is not needed any more.
                for task in own:
                    if task not in self._sent:
                        task.cancel()
                raise
            for task in (*own, *tasks):
                if not task.cancelled() and (fault := task.exception()):
                    raise fault
            if len(own) == 1 and not tasks and not own[0].cancelled():
                replies = own[0].result()
                if replies is not None and len(replies) == request.n:
                    return Completion(tuple(replies))

    def spending(self) -> Spending:
        """What this run has spent, earlier sittings included; nothing is counted twice."""
        return self._calls.spending()

    async def close(self, hurry: bool = False) -> None:
        """Wait for the calls under way (:data:`GRACE`), let go of the teachers and the store.

        Args:
            hurry: wait no longer for a reply store that cannot be written; what waits for it is lost.
        """
        self._closed = True
        if hurry:
            self._calls.hurry()
        tasks = set(self._under_way.values())
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
        for teacher in {
            id(route.teacher): route.teacher for route in (self._default_route, *self._routes.values())
        }.values():
            if teacher.implements("aclose"):
                await teacher.hook.aclose()
        if self._budget is not None:
            await self._budget.close()
        await self._calls.close()
        self._claims.close()

    # --- one call ----------------------------------------------------------------------------------------------------

    def _begin(
        self, route: _Route, request: Request, key: str, numbers: Sequence[int]
    ) -> list[asyncio.Task[Sequence[Reply] | None]]:
        tasks = []
        most = 1
        if request.n > 1:
            said = route.teacher.hook.max_n(model=request.model) if route.teacher.implements("max_n") else None
            most = said or request.n
        for first, n in _gaps(self._claim(key, numbers), most):
            part = request if n == request.n else replace(request, first=first, n=n)
            task = asyncio.create_task(self._ask(route, part, key))
            for number in range(first, first + n):
                self._under_way[key, number] = task

            def ended(task: asyncio.Task[Sequence[Reply] | None], first: int = first, n: int = n) -> None:
                for number in range(first, first + n):
                    del self._under_way[key, number]
                self._claims.release(key, range(first, first + n))
                if not task.cancelled():
                    task.exception()  # whoever asked may be gone

            task.add_done_callback(ended)
            tasks.append(task)
        return tasks

    def _claim(self, key: str, numbers: Sequence[int]) -> Sequence[int]:
        """Claim replies that are missing; give those that are this process's to ask for."""
        claimed = self._claims.take(key, numbers)
        if not claimed:
            return claimed
        # Another process may have stored some between the look at the store and the claim.
        stored = self._calls.replies(key, range(claimed[0], claimed[-1] + 1))
        self._claims.release(key, stored)
        return [number for number in claimed if number not in stored]

    async def _put_aside(self, usd: float) -> Hold | None:
        """Put money aside for a call; come back only while what the call brings can be stored."""
        await self._calls.ready()
        if self._budget is None:
            return None
        hold = await self._budget.hold(usd)
        try:
            await self._calls.ready()
        except BaseException:  # the call will not be made
            self._budget.settle(hold, 0.0)
            raise
        return hold

    async def _ask(self, route: _Route, request: Request, key: str) -> Sequence[Reply] | None:
        """Make one call, however often it takes, and book it; give its replies, None where others are stored."""
        price = self.price(route.teacher, request.model)
        tokens = 0
        if self._policy.tokens_per_minute:
            tokens = most_prompt_tokens(request) + request.n * request.max_tokens
        alone = request.purpose in ("keywords", "pattern")  # the road waits for the one reply
        if self._batches is not None and not alone and route.teacher.implements("submit_batch"):
            await self._batches.ask(route.teacher, route.identity["identity"], request, key, price)
            return None
        worst = worst_case(price, request) if price is not None else 0.0
        call = _Call(route, request, key, price, worst)
        this = asyncio.current_task()
        assert this is not None
        patience = Patience(route.teacher.name, self._waits)
        while True:
            permit = await route.limiter.acquire(tokens)
            left = False
            try:
                hold = await self._put_aside(worst)
                self._sent.add(this)
                permit = route.limiter.send(permit)
                began = time.monotonic()
                try:
                    completion = await route.teacher.hook.complete(request=request)
                except TransientError as error:
                    fault = error
                    if error.limited or error.retry_after:
                        route.limiter.on_rate_limited(permit, asked_wait(error.retry_after))
                    route.limiter.release(permit, None, error.rate, answered=False)
                    left = True
                    seconds = time.monotonic() - began
                    await self._book(call, hold, error, seconds)
                except BaseException as error:
                    await self._book(call, hold, error, time.monotonic() - began)
                    raise
                else:
                    seconds = time.monotonic() - began
                    used = readable_usage(completion.usage)
                    took = used.prompt_tokens + used.completion_tokens if used else None
                    route.limiter.release(permit, took, completion.rate)
                    left = True
                    good, wrong = _readable(route.teacher, request, completion)
                    own = await self._book(call, hold, completion, seconds, good)
                    if wrong:
                        raise PluginError(wrong)
                    return good if own else None
            finally:
                if not left:
                    route.limiter.release(permit, 0, answered=False)
                self._sent.discard(this)
            try:
                pause = patience.pause(fault, seconds)
            except TeacherError as error:
                raise error from fault
            await asyncio.sleep(pause)

    def price(self, teacher: Plugin[TeacherSpec], model: str) -> Price | None:
        """Give what a model costs: as the user says, else as the plugin says; None where it is not known.

        Raises:
            TeacherError: it is not known, and there is a budget to keep.
        """
        if (id(teacher), model) not in self._prices:
            self._prices[id(teacher), model] = price_of(teacher, model, self._policy.prices)
        price = self._prices[id(teacher), model]
        if price is None and self._budget is not None:
            raise TeacherError(unpriced(teacher, model))
        return price

    async def _book(
        self,
        call: _Call,
        hold: Hold | None,
        ended: Completion | BaseException,
        seconds: float,
        replies: Sequence[Reply] = (),
    ) -> bool:
        """Store what a call brought and was billed for; a call that was not billed leaves no trace.

        Returns:
            Whether what is stored are these replies.
        """
        bill = bill_of(ended, call.price)
        own = False
        if bill is not None:
            request = call.request
            row = Call(request.purpose, call.route.teacher.name, request.model, bill.usage, bill.cost, seconds)
            # Under a budget the money is on hold already.
            held = 0.0 if bill.known or hold is not None else call.worst
            own = await self._calls.book(row, call.key, request.first, replies, held)
        if hold is not None and self._budget is not None:
            if bill is None or bill.known:
                self._budget.settle(hold, bill.cost or 0.0 if bill is not None else 0.0)
            else:
                self._budget.write_off(hold)
        return own


def price_of(teacher: Plugin[TeacherSpec], model: str, prices: Mapping[str, Price]) -> Price | None:
    """Give what a model costs: as the user says, else as the plugin says; None where it is not known."""
    own: Price | None = teacher.hook.price(model=model)
    said = prices.get(model or teacher.name)
    if said is None:
        return own
    return replace(said, batch=own.batch if own else said.batch)


def unpriced(teacher: Plugin[TeacherSpec], model: str) -> str:
    """Say that a budget cannot be kept."""
    name = model or teacher.name
    return (
        f"the price of {name!r} is not known, so --budget cannot be kept; give it with --price {name}=PROMPT,COMPLETION "
        "in dollars per million tokens"
    )


def request_key(teacher: Plugin[TeacherSpec], request: Request) -> str:
    """Give the SHA-256 of what decides a reply, apart from its number."""
    return _key(_identity(teacher), request)


def _identity(teacher: Plugin[TeacherSpec]) -> dict[str, Any]:
    identity = teacher.hook.identity() if teacher.implements("identity") else ""
    return {"teacher": teacher.name, "options": dict(teacher.ref.options), "identity": identity}


def _key(identity: Mapping[str, Any], request: Request) -> str:
    decides = {
        **identity,
        "model": request.model,
        "messages": [[message.role, message.content] for message in request.messages],
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_tokens,
        "schema": request.schema,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()


def _readable(teacher: Plugin[TeacherSpec], request: Request, completion: Completion) -> tuple[tuple[Reply, ...], str]:
    """Give the replies that can be stored, and what is wrong with the others; they are paid for all the same."""
    who = f"teacher {teacher.name!r} of {teacher.distribution} gave"
    replies = completion.replies
    fault = "" if 1 <= len(replies) <= request.n else f"{who} {len(replies)} replies to a request for {request.n}"
    good = []
    for reply in replies[: request.n]:
        if not isinstance(reply, Reply) or not isinstance(reply.text, str):
            fault = f"{who} a reply that is no text"
            break
        good.append(Reply(replace_surrogates(reply.text), reply.finish_reason))
    return tuple(good), fault


def _gaps(numbers: Collection[int], most: int) -> list[tuple[int, int]]:
    """Give runs of neighbours, none longer than ``most``, as (first, how many)."""
    gaps: list[tuple[int, int]] = []
    for number in numbers:
        if gaps and sum(gaps[-1]) == number and gaps[-1][1] < most:
            gaps[-1] = (gaps[-1][0], gaps[-1][1] + 1)
        else:
            gaps.append((number, 1))
    return gaps
