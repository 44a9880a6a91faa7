"""An open run: what the stages read from, write to and report to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import monotonic

from dsrl.errors import StoreError
from dsrl.pipeline.context import RunContext
from dsrl.pipeline.instructor import Instructor, Requester
from dsrl.pipeline.judging import JudgeCounts, Judges, make_judges
from dsrl.pipeline.plugin_warnings import PluginWarnings
from dsrl.pipeline.progress import Progress
from dsrl.pipeline.run_tasks import list_judged
from dsrl.pipeline.sampling import AnsweringModel, bind_sampler, close_sampler
from dsrl.pipeline.teachers import TeacherRoles
from dsrl.settings import Settings
from dsrl.similarity.copies import CopyIndex
from dsrl.storage.run_store import RunStore
from dsrl.teaching.ledger import Ledger
from dsrl.teaching.reply_store import PaidCalls

#: Seconds that the end of a failed run may take before the user is told why it takes so long.
CLOSING_NOTE_DELAY = 2.0
#: Seconds between two times when the seconds of the stages are stored.
_SAVING_INTERVAL = 5.0


class StageClock:
    """Counts the seconds in which a stage is at work, once for all its groups; stages that overlap count both."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._active: dict[str, int] = {}
        self._started: dict[str, float] = {}
        self._next = monotonic() + _SAVING_INTERVAL

    def is_due(self) -> bool:
        """Return whether the seconds were not stored for a while; it is true once in each interval."""
        if monotonic() < self._next:
            return False
        self._next = monotonic() + _SAVING_INTERVAL
        return True

    @property
    def seconds(self) -> dict[str, float]:
        """Stage -> seconds until now, also of a stage that is at work."""
        now = monotonic()
        active = {stage: now - self._started[stage] for stage, count in self._active.items() if count}
        return {stage: self._seconds.get(stage, 0.0) + active.get(stage, 0.0) for stage in {**self._seconds, **active}}

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Count the seconds of a block for a stage."""
        if not self._active.get(stage):
            self._started[stage] = monotonic()
        self._active[stage] = self._active.get(stage, 0) + 1
        try:
            yield
        finally:
            self._active[stage] -= 1
            if not self._active[stage]:
                self._seconds[stage] = self._seconds.get(stage, 0.0) + monotonic() - self._started[stage]


@dataclass(frozen=True, slots=True)
class TaskItems:
    """The test items of one task.

    Attributes:
        numbers: their numbers among the test items of the run.
        index: finds copies of them, by their position in ``numbers``.
    """

    numbers: tuple[int, ...]
    index: CopyIndex


@dataclass(frozen=True)
class OpenRun:
    """A run that this process works on.

    Attributes:
        context: what the run works with.
        store: the folder and database of the run.
        progress: what the user sees.
        clock: counts the seconds of the stages.
        plugin_warnings: holds the warnings that plugins have logged until they are stored; None in tests of one stage.
    """

    context: RunContext
    store: RunStore
    progress: Progress
    clock: StageClock = field(default_factory=StageClock)
    plugin_warnings: PluginWarnings | None = None

    @property
    def settings(self) -> Settings:
        """The settings of the run."""
        return self.context.settings

    @cached_property
    def test_items(self) -> Mapping[str, TaskItems]:
        """Task of a sample -> its test items, to find copies of them.

        It is empty if this command does not know the items, or if --no-decontaminate is given.
        """
        items = self.context.test_items
        if not self.settings.decontaminate or not items:
            return {}
        return {
            key: TaskItems(
                numbers=(numbers := tuple(n for n, item in enumerate(items) if item.task == key)),
                index=CopyIndex(
                    [items[number].input for number in numbers],
                    (
                        task.definition.description,
                        task.definition.input_instruction,
                        task.definition.output_instruction,
                    ),
                    [demo.input for demo in task.definition.demos],
                ),
            )
            for key, task in self.context.tasks.items()
        }

    def add_note(self, text: str) -> None:
        """Show a note to the user and store it in the run."""
        self.store.add_event("note", text)
        self.progress.note(text)

    def add_warning(self, text: str, topic: str) -> None:
        """Show a warning to the user and store it in the run; there is one warning for each topic.

        Args:
            text: the text for the user.
            topic: ``STAGE-ITERATION:NAME``; the warning is forgotten together with the results of that stage.
        """
        if self.store.add_event("warning", text, topic):
            self.progress.note(text)

    def advance(self, stage: str, by: int = 1) -> None:
        """Show that more of a stage is done. Its seconds are stored now and then, so that a kill loses few of them."""
        self.progress.advance(stage, by)
        if self.clock.is_due():
            self.save_seconds()

    def save_seconds(self) -> None:
        """Store the seconds that the stages have worked so far, and the warnings that plugins have logged."""
        self.store.set_seconds(self.clock.seconds)
        if self.plugin_warnings is not None:
            self.plugin_warnings.save()

    @asynccontextmanager
    async def open_instructors(self, batch: bool = True) -> AsyncIterator[Mapping[str, Instructor]]:
        """Open the ledger for the length of a block, with an instructor for each task (a key of ``context.tasks``).

        At the end, wait for the calls in flight and close the teachers.

        Args:
            batch: whether requests may wait for a batch of the provider, if the settings say so.
        """
        context = self.context
        plugins = [{purpose: role.plugin for purpose, role in t.teachers.items()} for t in context.tasks.values()]
        teachers = plugins[0]
        ledger = Ledger(
            teachers["write"],
            context.workspace.reply_store,
            self.store.id,
            replace(context.policy, batch=context.policy.batch and batch),
            teachers,
            self.progress.note,
            PaidCalls(self.store.paid_calls, self._keep_paid_calls),
        )
        self.progress.watch(ledger.get_spending, context.policy.budget)
        requesters: list[Requester] = [ledger, *(ledger.route(others) for others in plugins[1:])]
        try:
            yield {
                key: self._make_instructor(requester, task.teachers)
                for (key, task), requester in zip(context.tasks.items(), requesters, strict=True)
            }
        except BaseException as error:
            await self._close_after(error, ledger)
            raise
        await ledger.close()

    @asynccontextmanager
    async def open_judges(self, counts: JudgeCounts) -> AsyncIterator[Judges]:
        """Open the judges of the judged tasks for the length of a block; without such a task, no ledger is opened.

        They wait for no batch: this is for rounds that follow each other, and each would wait for a batch of its own.

        Args:
            counts: where the judged answers are counted.
        """
        tasks = self.context.tasks
        if not list_judged(tasks):
            yield {}
            return
        async with self.open_instructors(batch=False) as instructors:
            yield make_judges(tasks, instructors, counts)

    def warn_of_judgements(self, stage: str, iteration: int, counts: JudgeCounts) -> None:
        """Warn the user if answers of a stage earned nothing because they were not judged."""
        if text := counts.describe():
            self.add_warning(f"the judge, in the stage {stage!r}: {text}", f"{stage}-{iteration}:judge")

    def _make_instructor(self, requester: Requester, teachers: TeacherRoles) -> Instructor:
        settings = self.settings
        return Instructor(
            requester,
            teachers,
            settings.teacher_temperature,
            settings.teacher_max_tokens,
            settings.retries_unreadable,
        )

    async def _close_after(self, error: BaseException, ledger: Ledger) -> None:
        """Close the ledger after an error, and tell the user why this may take a while."""
        is_stopped = isinstance(error, asyncio.CancelledError)  # Ctrl-C, SIGTERM, SIGHUP
        reason = "" if is_stopped else f" ({error})"
        text = (
            f"stopping{reason}: waiting up to a minute for calls in flight, because they are paid for; press Ctrl-C to "
            "stop at once"
        )
        delay = 0.0 if is_stopped else CLOSING_NOTE_DELAY
        note = asyncio.get_running_loop().call_later(delay, self.progress.note, text)
        try:
            await ledger.close(hurry=is_stopped)
        finally:
            note.cancel()

    def _keep_paid_calls(self, count: int) -> None:
        with suppress(StoreError):  # the next process that works on the run stores it
            self.store.keep_paid_calls(count)

    @asynccontextmanager
    async def open_model(self, model: str, judges: Judges | None = None) -> AsyncIterator[AnsweringModel]:
        """Open a model for the length of a block.

        Args:
            model: a folder or a hub id.
            judges: judge its answers to the judged tasks; None if there are no such tasks.
        """
        context = self.context
        async with close_sampler(bind_sampler(context.settings, model)) as sampler:
            tokens = context.settings.max_completion_tokens
            yield AnsweringModel(sampler, context.tasks, tokens, judges or {}, self.progress.set_status)
