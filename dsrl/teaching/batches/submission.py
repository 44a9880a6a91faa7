"""Submits batches, and finds those again whose submission was interrupted."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from dsrl.errors import StoreError, TeacherError, TransientError
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import TeacherSpec
from dsrl.teaching.batches import limits
from dsrl.teaching.batches.retries import Retrier
from dsrl.teaching.batches.store import BatchStore, Submission
from dsrl.teaching.budget import Budget
from dsrl.teaching.calls import Route, TeacherCall


class _SearchError(TeacherError):
    """Nobody can say now whether the provider has a batch; the next command that continues the run looks for it."""


class Submitter:
    """Submits batches for one run.

    Args:
        batches: writes down what is submitted.
        budget: holds the money.
        retrier: repeats questions to the provider.
        note: receives texts for the user.
    """

    def __init__(self, batches: BatchStore, budget: Budget, retrier: Retrier, note: Callable[[str], None]) -> None:
        self._batches, self._budget, self._retrier, self._note = batches, budget, retrier, note
        self._searching: set[asyncio.Task[Any]] = set()
        self._recoveries: dict[int, asyncio.Task[None]] = {}  # by teacher

    async def submit(self, calls: Sequence[TeacherCall]) -> int:
        """Submit calls as a batch; return its row.

        Args:
            calls: all to one teacher and model; their holds are reserved, and not written down yet.

        Raises:
            TeacherError: the provider refuses the batch, or cannot be reached.
            StoreError: the batch cannot be written down.
        """
        teacher = calls[0].route.teacher
        try:
            submission = await self._batches.add(secrets.token_hex(8), calls)
        except Exception:
            for call in calls:
                self._budget.unreserve(call.hold)
            raise
        for row, hold in zip(submission.holds, [call.hold for call in calls if call.hold], strict=True):
            self._budget.add_row(row, hold)
        try:
            provider_id = await self._send(teacher, submission, calls)
            await self._batches.set_provider_id(submission, provider_id)
        except Exception as error:
            is_refused = isinstance(error, TeacherError) and not isinstance(error, _SearchError)
            if is_refused or not (teacher.implements("find_batch") or isinstance(error, StoreError)):
                await self._give_up(submission)
            else:
                self._recoveries.pop(id(teacher), None)  # the next request looks for the batch
            raise
        finally:
            self._batches.end_submission(submission)
        self._note(
            f"batch {provider_id}: {len(calls)} requests are submitted; you may stop the run and continue it later"
        )
        return submission.row

    async def recover(self, route: Route) -> None:
        """Find the batches to a teacher that this run was submitting when it was stopped; once for each teacher.

        Raises:
            TeacherError: the provider cannot be asked.
        """
        task = self._recoveries.get(id(route.teacher))
        if task is None:
            task = self._recoveries[id(route.teacher)] = asyncio.create_task(self._recover(route))
        await asyncio.wait([task])
        task.result()

    def stop_searching(self) -> None:
        """Cancel the searches in progress; the next command that continues the run repeats them."""
        for task in self._searching:
            task.cancel()

    def get_recoveries(self) -> list[asyncio.Task[None]]:
        """Return the recoveries, done or not."""
        return list(self._recoveries.values())

    async def _send(self, teacher: Plugin[TeacherSpec], submission: Submission, calls: Sequence[TeacherCall]) -> str:
        """Send a batch to the provider; return the provider's id."""
        requests = [call.request for call in calls]

        async def submit() -> str:
            try:
                return await teacher.hook.submit_batch(requests=requests, token=submission.token)
            except TransientError as error:
                # If a connection breaks, the provider may have the batch all the same. A rate limit is a plain no.
                if not error.limited and (provider_id := await self._find(teacher, submission)):
                    return provider_id
                raise

        return await self._retrier.repeat(submit, teacher.name)

    async def _find(self, teacher: Plugin[TeacherSpec], submission: Submission) -> str | None:
        """Look for a batch that the provider may have; return the provider's id, None if it does not have the batch.

        Raises:
            _SearchError: the provider cannot be asked.
        """
        if not teacher.implements("find_batch"):
            return None
        task = asyncio.current_task()
        assert task is not None
        self._searching.add(task)

        async def look() -> str | None:
            return await teacher.hook.find_batch(
                token=submission.token, submitted=submission.submitted, requests=submission.requests
            )

        try:
            for search in range(limits.MAX_SEARCHES):
                if search:
                    await asyncio.sleep(limits.POLL_PAUSES[0])
                if self._retrier.closing.is_set():
                    raise asyncio.CancelledError
                if provider_id := await self._retrier.repeat(look, teacher.name):
                    return provider_id
        except TeacherError as error:
            raise _SearchError(
                f"the provider may have received a batch, and dsrl cannot find out whether it has: {error}"
            ) from error
        finally:
            self._searching.discard(task)
        return None

    async def _recover(self, route: Route) -> None:
        if not route.teacher.implements("find_batch"):
            return
        for submission in self._batches.read_interrupted(route):
            self._note(
                f"this run was stopped while it submitted a batch of {submission.requests} requests; looking for the batch"
            )
            provider_id = await self._find(route.teacher, submission)
            if provider_id is None:
                await self._give_up(submission)
                self._note("the provider has no such batch; its requests are sent again")
            else:
                await self._batches.set_provider_id(submission, provider_id)
                self._note(f"batch {provider_id} is found again")

    async def _give_up(self, submission: Submission) -> None:
        """Take back the money held for a batch that was not submitted."""
        for hold in await self._batches.give_up(submission):
            self._budget.settle_row(hold, 0.0)
