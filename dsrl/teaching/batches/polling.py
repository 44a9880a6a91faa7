"""Polls batches until they end, and books what they brought."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from dsrl.errors import TeacherError, TransientError
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import TeacherSpec
from dsrl.teaching.batches import limits
from dsrl.teaching.batches.retries import Retrier
from dsrl.teaching.batches.store import BatchItem, BatchStore, RunningBatch
from dsrl.teaching.budget import Budget
from dsrl.teaching.outcomes import NOT_ANSWERED, Billing, Outcome, read_outcome
from dsrl.teaching.reply_store import CallRecord, ReplyStore
from dsrl.types import BatchState, Completion, Price

#: Key and first number of a request -> the exception that its part of a batch ended with.
BatchErrors = Mapping[tuple[str, int], Exception]


class Poller:
    """Polls the batches that a run waits for.

    Args:
        store: counts what is booked.
        batches: the tables of batches.
        budget: settles the holds.
        retrier: repeats questions to the provider.
        note: receives texts for the user.
    """

    def __init__(
        self, store: ReplyStore, batches: BatchStore, budget: Budget, retrier: Retrier, note: Callable[[str], None]
    ) -> None:
        self._store, self._batches, self._budget = store, batches, budget
        self._retrier, self._note = retrier, note
        self._tasks: dict[int, asyncio.Task[BatchErrors]] = {}

    async def wait(self, row: int, teacher: Plugin[TeacherSpec], price: Price | None) -> BatchErrors:
        """Wait until a batch has ended and is booked; return the errors of its requests.

        Args:
            row: of the batch.
            teacher: that has the batch.
            price: of its model; None if it is unknown.

        Raises:
            TeacherError: the batch failed or was cancelled, or the provider cannot be asked.
        """
        if row not in self._tasks:
            self._tasks[row] = asyncio.create_task(self._await_end(row, teacher, price))
        task = self._tasks[row]
        await asyncio.wait([task])
        return {} if task.cancelled() else task.result()

    def get_tasks(self) -> list[asyncio.Task[BatchErrors]]:
        """Return the tasks that poll, done or not."""
        return list(self._tasks.values())

    async def _await_end(self, row: int, teacher: Plugin[TeacherSpec], price: Price | None) -> BatchErrors:
        batch = self._batches.read_running(row)
        state = await self._poll(batch, teacher)
        errors = await self._book(batch, state, teacher, price)
        if state.status == "failed":
            raise TeacherError(
                f"teacher {teacher.name!r}: batch {batch.provider_id} failed: {state.message or 'no reason is given'}"
            )
        if state.status == "cancelled":
            raise TeacherError(
                f"batch {batch.provider_id} was cancelled; its answers are kept. The same command requests the rest"
            )
        reasons = [str(error) for error in state.results.values() if isinstance(error, TransientError)]
        details = "; ".join(dict.fromkeys([state.message, *reasons] if state.message else reasons))
        answered = f"{_count_answers(state)} requests are answered"
        self._note(
            f"batch {batch.provider_id} has ended: {answered}{'; ' if details else ''}{details[: limits.MAX_MESSAGE]}"
        )
        return errors

    async def _poll(self, batch: RunningBatch, teacher: Plugin[TeacherSpec]) -> BatchState:
        """Return the state of a batch when it has ended."""
        pause, done = limits.POLL_PAUSES[0], -1
        while True:
            state: BatchState = await self._retrier.repeat(
                lambda: teacher.hook.poll_batch(batch=batch.provider_id, model=batch.model), teacher.name
            )
            if state.status != "in_progress":
                return state
            if state.done != done:
                done = state.done
                await self._batches.set_done(batch.row, done)
                if state.total:
                    self._note(f"batch {batch.provider_id}: {done} of {state.total} requests are done")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, limits.POLL_PAUSES[1])

    async def _book(
        self, batch: RunningBatch, state: BatchState, teacher: Plugin[TeacherSpec], price: Price | None
    ) -> BatchErrors:
        """Store what a batch brought, and settle its holds."""
        errors: dict[tuple[str, int], Exception] = {}
        records: list[CallRecord] = []
        costs: dict[int, float] = {}  # by hold
        write_offs: list[int] = []  # holds
        for item in self._batches.read_items(batch.row):
            result = state.results.get(item.number)
            outcome = NOT_ANSWERED if result is None else read_outcome(result, item.n, price, batch=True)
            if isinstance(outcome.error, Exception):
                errors[item.key, item.first] = outcome.error
            elif outcome.defect:
                errors[item.key, item.first] = TransientError(f"the plugin {outcome.defect}")
            if outcome.bill.billing is not Billing.NONE:
                records.append(_make_record(batch, item, teacher.name, outcome))
            if item.hold is None:
                continue
            if outcome.bill.billing is Billing.UNKNOWN:
                write_offs.append(item.hold)
            else:
                costs[item.hold] = outcome.bill.cost or 0.0
        await self._batches.finish(batch, state.status, _count_answers(state), records, costs)
        if batch.run == self._store.run:  # also if another process has booked it
            for record in records:
                self._store.count(record)
            for hold, cost in costs.items():
                self._budget.settle_row(hold, cost)
            for hold in write_offs:
                self._budget.write_off_row(hold)
        return errors


def _make_record(batch: RunningBatch, item: BatchItem, teacher: str, outcome: Outcome) -> CallRecord:
    return CallRecord(
        item.purpose,
        teacher,
        batch.model,
        item.key,
        item.first,
        outcome.replies,
        outcome.bill.usage,
        outcome.bill.cost,
        batch=batch.provider_id,
    )


def _count_answers(state: BatchState) -> int:
    return sum(isinstance(result, Completion) for result in state.results.values())
