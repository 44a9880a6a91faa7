"""The way of a call through a batch: find its batch or put it into a new one, and wait until the batch is booked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from dsrl.errors import TeacherError, TransientError
from dsrl.teaching.batches import limits
from dsrl.teaching.batches.gathering import Gatherer
from dsrl.teaching.batches.polling import Poller
from dsrl.teaching.batches.retries import Retrier
from dsrl.teaching.batches.store import BatchStore
from dsrl.teaching.batches.submission import Submitter
from dsrl.teaching.budget import Budget, compute_worst_cost
from dsrl.teaching.calls import TeacherCall
from dsrl.teaching.reply_store import ReplyStore


@dataclass(slots=True)
class _Tries:
    """How many batches a request was put into, and why the last one did not answer it."""

    count: int = 0
    reason: str = "no reason is given"


class Batches:
    """The batches of a run.

    Args:
        store: the reply store.
        budget: of the run.
        note: receives texts for the user.
    """

    def __init__(self, store: ReplyStore, budget: Budget, note: Callable[[str], None]) -> None:
        self._batches, self._budget = BatchStore(store), budget
        self._retrier = Retrier(note)
        self._submitter = Submitter(self._batches, budget, self._retrier, note)
        self._gatherer = Gatherer(self._submitter.submit, budget)
        self._poller = Poller(store, self._batches, budget, self._retrier, note)
        self._tries: dict[tuple[str, int], _Tries] = {}

    async def request(self, call: TeacherCall) -> None:
        """Put a call into a batch, or find the batch that has it; return when that has ended and is booked.

        Raises:
            RowRefused: the provider refused this request.
            TeacherError: the batch failed or was cancelled, or several batches did not answer the request.
            BudgetReached: there is no money for it.
            StoreError: the batch cannot be written down.
        """
        teacher, request = call.route.teacher, call.request
        await self._submitter.recover(call.route)
        tries = self._tries.setdefault((call.key, request.first), _Tries())
        row = self._batches.find_running(call.key, request)
        if row is None:
            if tries.count == limits.MAX_BATCHES:
                raise TeacherError(
                    f"{limits.MAX_BATCHES} batches of teacher {teacher.name!r} did not answer a request ({tries.reason}); "
                    "try without --batch"
                )
            tries.count += 1
            if call.price is not None:  # written down together with the batch, since its bill may never be known
                worst = compute_worst_cost(call.price, request, batch=True)
                call = replace(call, hold=await self._budget.reserve(worst))
            row = await self._gatherer.add(call)
        errors = await self._poller.wait(row, teacher, call.price)
        error = errors.get((call.key, request.first))
        if isinstance(error, TransientError):
            tries.reason = str(error)
        elif error is not None:
            raise error

    async def close(self) -> None:
        """Finish the submissions in progress, and stop polling. Batches go on; the next command waits for them."""
        self._retrier.closing.set()
        self._submitter.stop_searching()
        await self._gatherer.close()
        tasks: list[asyncio.Task[object]] = [*self._poller.get_tasks(), *self._submitter.get_recoveries()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()  # those who waited for it are gone
