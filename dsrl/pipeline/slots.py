"""The stages from ``initial`` to ``scored`` (paper, 4.1 to 4.3): each group of slots goes through them on its own.

Many groups are in progress at a time, so the base model works on some while the teacher's replies for others are on their
way. A group asks the sampler for the same prompts in the same order, however often the run was interrupted, so that the
same command makes the same samples. What is left to do is read from the stored rows of the group (:class:`SlotGroup`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from dsrl.errors import BudgetReached
from dsrl.pipeline import signals
from dsrl.pipeline.attempt_rounds import (
    attempt_in_rounds,
    count_first_attempts,
    find_round,
    make_seed,
    read_pool,
)
from dsrl.pipeline.budget import check_unpaid, describe_unpaid
from dsrl.pipeline.concurrency import run_limited, run_together
from dsrl.pipeline.contamination import drop_contaminated
from dsrl.pipeline.context import RunContext
from dsrl.pipeline.instructor import Instructor
from dsrl.pipeline.judging import JudgeCounts, Judges, make_judges
from dsrl.pipeline.runtime import OpenRun
from dsrl.pipeline.sampling import AnsweringModel
from dsrl.pipeline.slot_progress import finish_bars, start_bars
from dsrl.pipeline.stages.adapted import rewrite
from dsrl.pipeline.stages.attempted import attempt
from dsrl.pipeline.stages.initial import SampleSource, write_initial
from dsrl.pipeline.stages.passages import get_passage
from dsrl.pipeline.stages.scored import score
from dsrl.pipeline.stages.verified import VotePolicy, verify, verify_by_judge
from dsrl.storage.run_store import RunStore
from dsrl.types import Answer, Sample

T = TypeVar("T")

#: The stages that a group of slots goes through.
SLOT_STAGES = ("initial", "verified", "attempted", "adapted", "scored")
#: Slots per group: enough for the sampler to make a batch, and few enough that nothing waits long.
GROUP_SIZE = 16
#: Maximum number of rounds of votes if a round takes hours.
BATCH_ROUNDS = 2


@dataclass
class SlotGroup:
    """The stored rows of a group of slots, and what is missing.

    Attributes:
        slots: the numbers of the slots.
        samples: id -> sample, initial and rewritten ones.
        solved: id of an initial sample -> whether the base model solved it.
        scored: ids of the samples that have a score.
    """

    slots: range
    samples: dict[str, Sample]
    solved: dict[str, bool]
    scored: set[str]

    @classmethod
    def read(cls, store: RunStore, iteration: int, slots: range) -> SlotGroup:
        """Read the rows of a group from the store of the run."""
        samples = {sample.id: sample for sample in store.samples(iteration, slots)}
        return cls(slots, samples, store.greedy_attempts(iteration, slots), set(store.scores(iteration, slots)))

    @property
    def initial(self) -> list[Sample]:
        """The samples that the teacher wrote first, one for each slot."""
        return [sample for sample in self.samples.values() if sample.parent is None]

    @property
    def rewritten(self) -> list[Sample]:
        """The samples that were rewritten from the initial ones."""
        return [sample for sample in self.samples.values() if sample.parent is not None]

    def is_complete(self, stages: Collection[str]) -> bool:
        """Return whether nothing is missing in these stages."""
        every = [*self.samples.values()]
        missing: dict[str, Sequence[object]] = {
            "initial": self.find_unwritten(),
            "verified": self.find_unverified(every),
            "attempted": self.find_unattempted(),
            "adapted": self.find_unadapted(),
            "scored": self.find_unscored(every),
        }
        return not any(missing[stage] for stage in stages)

    def find_unwritten(self) -> list[int]:
        """Return the slots without an initial sample."""
        written = {sample.slot for sample in self.initial}
        return [slot for slot in self.slots if slot not in written]

    def find_unverified(self, samples: Iterable[Sample]) -> list[Sample]:
        """Return the samples that have neither a label nor a reason why they were dropped."""
        return [sample for sample in samples if not sample.label and not sample.dropped]

    def find_unattempted(self) -> list[Sample]:
        """Return the verified initial samples that the base model has not answered."""
        return [sample for sample in self.initial if sample.label and sample.id not in self.solved]

    def find_unadapted(self) -> list[Sample]:
        """Return the verified initial samples that were not rewritten."""
        parents = {sample.parent for sample in self.rewritten}
        return [sample for sample in self.initial if sample.label and sample.id not in parents]

    def find_unscored(self, samples: Iterable[Sample]) -> list[Sample]:
        """Return the verified samples without a score."""
        return [sample for sample in samples if sample.label and sample.id not in self.scored]


def make_samples(run: OpenRun, iteration: int, slots: int | None = None) -> None:
    """Take all slots of an iteration, or the first so many, through the stages that this command includes.

    Raises:
        DsrlError: something that the user can correct. :class:`BudgetReached` if the later stages need rows that the
            budget did not pay for.
    """
    store, stages = run.store, _list_stages(run.context)
    total = run.settings.samples if slots is None else min(slots, run.settings.samples)
    groups = [range(start, min(start + GROUP_SIZE, total)) for start in range(0, total, GROUP_SIZE)]
    incomplete = [g for g in groups if not SlotGroup.read(store, iteration, g).is_complete(stages)]
    if incomplete or ("scored" in stages and _needs_attempts(run, iteration)):
        counts = JudgeCounts()
        try:
            unpaid = signals.run(_run_groups(run, iteration, stages, incomplete, counts))
        finally:
            run.warn_of_judgements("scored" if "scored" in stages else "verified", iteration, counts)
        store.stages.set_unpaid(iteration, unpaid)
        finish_bars(run, iteration, stages)
        _report_unpaid(run, iteration, unpaid)
    if total == run.settings.samples and not store.stages.count_unpaid(iteration):
        for stage in stages:
            store.stages.finish(iteration, stage)


def _needs_attempts(run: OpenRun, iteration: int) -> bool:
    """Return whether samples with a score must be attempted again: before the selection, or because the user wants it."""
    is_too_late = run.store.stages.is_finished(iteration, "selected") and not run.context.is_online
    return not is_too_late and bool(find_round(run, iteration, read_pool(run, iteration)))


def _list_stages(context: RunContext) -> tuple[str, ...]:
    stages = SLOT_STAGES if context.settings.adapt else tuple(s for s in SLOT_STAGES if s != "adapted")
    return tuple(stage for stage in stages if context.includes(stage))


async def _run_groups(
    run: OpenRun, iteration: int, stages: Collection[str], groups: Sequence[range], counts: JudgeCounts
) -> Counter[str]:
    """Run groups of slots; return stage -> number of rows that the budget did not pay for."""
    settings = run.settings
    async with AsyncExitStack() as stack:
        instructors = await stack.enter_async_context(run.open_instructors())
        judges = make_judges(run.context.tasks, instructors, counts)
        start_bars(run, iteration, stages)
        model = None
        if "attempted" in stages:
            model = await stack.enter_async_context(run.open_model(run.context.get_start_model(iteration), judges))
        runner = SlotRunner(run, iteration, stages, instructors, judges, model)
        # Enough groups at a time to keep the teacher busy while others are with the sampler.
        limit = len(groups) if settings.batch else max(4, 3 * settings.concurrency // GROUP_SIZE)
        with run.clock.measure("initial_to_scored"):
            await run_limited(limit, (runner.run(slots) for slots in groups))
            if model is not None and "scored" in stages:
                await attempt_in_rounds(run, iteration, model, runner.unpaid)
    return runner.unpaid


def _report_unpaid(run: OpenRun, iteration: int, unpaid: Counter[str]) -> None:
    budget = run.settings.budget
    if not unpaid or budget is None:
        return
    has_samples = bool(run.store.scores(iteration)) or not run.context.includes("scored")
    check_unpaid(budget, unpaid, iteration == run.settings.iterations, has_samples)
    run.add_note(describe_unpaid(budget, unpaid, "; the run continues with the other samples"))


class SlotRunner:
    """Runs groups of slots through their stages; the rows of each stage are stored in one transaction.

    A row that the budget does not pay for is left out, so that the same command with a larger budget completes it.

    Args:
        run: the open run.
        iteration: from 1.
        stages: the stages to run.
        instructors: ask the teachers of each task.
        judges: judge the samples of the judged tasks.
        model: the base model; None if the stages do not need it.

    Attributes:
        unpaid: stage -> number of rows that the budget did not pay for.
    """

    def __init__(
        self,
        run: OpenRun,
        iteration: int,
        stages: Collection[str],
        instructors: Mapping[str, Instructor],
        judges: Judges,
        model: AnsweringModel | None,
    ) -> None:
        self.unpaid: Counter[str] = Counter()
        self._run, self._iteration, self._stages = run, iteration, stages
        self._store, self._settings, self._context = run.store, run.settings, run.context
        self._instructors, self._judges, self._model = instructors, judges, model
        self._passages = run.store.passages(iteration)
        self._domains = {task: list(domains) for task, domains in run.store.keywords(iteration).items()}
        self._patterns = {
            (task, domain): run.store.pattern(iteration, task, domain) or ""
            for task, domains in self._domains.items()
            for domain in domains
        }

    async def run(self, slots: range) -> None:
        """Take a group of slots through the stages."""
        group = SlotGroup.read(self._store, self._iteration, slots)
        await self._write(group)
        if "verified" in self._stages:
            await self._verify(group, group.initial)
        if "attempted" in self._stages:
            await self._attempt(group)
        branches = []
        if "scored" in self._stages:
            branches.append(self._score(group, group.initial, "initial"))
        if "adapted" in self._stages:
            branches.append(self._adapt(group))
        await run_together(branches)

    async def _adapt(self, group: SlotGroup) -> None:
        """Rewrite the initial samples; verify and score what was rewritten."""
        await self._rewrite(group)
        await self._verify(group, group.rewritten)
        if "scored" in self._stages:
            await self._score(group, group.rewritten, "rewritten")

    async def _run_paid(self, stage: str, coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
        """Run all coroutines at once; return the results of those that the budget paid for."""

        async def run_one(coroutine: Coroutine[Any, Any, T]) -> T | None:
            try:
                return await coroutine
            except BudgetReached:
                self.unpaid[stage] += 1
                return None

        results = await run_together(map(run_one, coroutines))
        return [result for result in results if result is not None]

    async def _grade_paid(self, stage: str, grading: Coroutine[Any, Any, list[T]], count: int) -> list[T]:
        """Grade samples together; return nothing if the budget did not pay for all that a judge has to judge."""
        try:
            return await grading
        except BudgetReached:
            self.unpaid[stage] += count
            return []

    # --- one stage each ----------------------------------------------------------------------------------------------

    async def _write(self, group: SlotGroup) -> None:
        if slots := group.find_unwritten():
            with self._run.clock.measure("initial"):
                samples = await self._run_paid("initial", (self._write_one(self._make_source(s)) for s in slots))
            self._add_samples(group, "initial", samples)

    async def _verify(self, group: SlotGroup, samples: Sequence[Sample]) -> None:
        if unverified := group.find_unverified(samples):
            settings = self._settings
            votes = VotePolicy(settings.votes, settings.vote_confidence, BATCH_ROUNDS if settings.batch else 0)
            with self._run.clock.measure("verified"):
                verdicts = await self._run_paid("verified", (self._verify_one(s, votes) for s in unverified))
            self._store.add_verdicts(verdicts)
            group.samples |= {sample.id: sample for sample, _ in verdicts}
            self._run.advance("verified", len(verdicts))

    async def _attempt(self, group: SlotGroup) -> None:
        if samples := group.find_unattempted():
            assert self._model is not None
            with self._run.clock.measure("attempted"):
                attempts = await self._grade_paid("attempted", attempt(self._model, samples), len(samples))
            self._store.add_greedy_attempts(attempts)
            group.solved |= {a.sample: a.solved for a in attempts}
            self._run.advance("attempted", len(attempts))

    async def _rewrite(self, group: SlotGroup) -> None:
        # The budget may not have paid for the judgement of an attempt.
        if parents := [parent for parent in group.find_unadapted() if parent.id in group.solved]:
            with self._run.clock.measure("adapted"):
                samples = await self._run_paid(
                    "adapted", (self._rewrite_one(parent, group.solved[parent.id]) for parent in parents)
                )
            self._add_samples(group, "adapted", samples)

    async def _score(self, group: SlotGroup, samples: Sequence[Sample], kind: str) -> None:
        if unscored := group.find_unscored(samples):
            assert self._model is not None
            settings, is_numbered = self._settings, self._model.numbers_attempts
            seed = (
                make_seed(settings, self._iteration)
                if is_numbered
                else _make_seed(settings.seed, self._iteration, group.slots.start, kind)
            )
            attempts = count_first_attempts(self._context)
            with self._run.clock.measure("scored"):
                scoring = score(self._model, unscored, attempts, settings.attempt_temperature, seed)
                scores = await self._grade_paid("scored", scoring, len(unscored))
            self._store.add_scores(scores)
            group.scored |= {result.sample for result, _ in scores}
            self._run.advance("scored", len(scores))

    # --- one sample each, with the teacher and the words of its task -----------------------------------------------------

    def _write_one(self, source: SampleSource) -> Coroutine[Any, Any, Sample]:
        definition = self._context.tasks[source.task].get_definition(source.domain)
        return write_initial(self._instructors[source.task], definition, source)

    def _verify_one(self, sample: Sample, votes: VotePolicy) -> Coroutine[Any, Any, tuple[Sample, list[Answer]]]:
        task = self._context.tasks[sample.task]
        if task.rubric:
            return verify_by_judge(self._judges[sample.task], sample)
        return verify(self._instructors[sample.task], task.definition, task.plugin, sample, votes)

    def _rewrite_one(self, parent: Sample, solved: bool) -> Coroutine[Any, Any, Sample]:
        task, number = self._context.tasks[parent.task], self._number_reply(parent.slot)
        domain = task.get_named_domain(parent.domain)
        return rewrite(self._instructors[parent.task], task.definition, parent, solved, number, domain)

    def _add_samples(self, group: SlotGroup, stage: str, samples: Sequence[Sample]) -> None:
        samples, matches = drop_contaminated(self._run, samples)
        self._store.add_samples(samples, matches)
        group.samples |= {sample.id: sample for sample in samples}
        self._run.advance(stage, len(samples))

    def _make_source(self, slot: int) -> SampleSource:
        task, number = self._context.place_slot(slot)
        domains = self._domains[task]  # the slots of a task take its domains in turn
        domain = domains[number % len(domains)]
        passages = self._passages.get(task, {}).get(domain, ())
        return SampleSource(
            iteration=self._iteration,
            slot=slot,
            number=self._number_reply(slot),
            pattern=self._patterns[task, domain],
            passage=get_passage(passages, number // len(domains)),
            rng=Random(f"{self._settings.seed}:{self._iteration}:{slot}"),
            task=task,
            domain=domain,
            named_domain=self._context.tasks[task].get_named_domain(domain),
        )

    def _number_reply(self, slot: int) -> int:
        # Another seed or iteration is another draw; the same slot of the same seed is the reply that is already paid for.
        return (self._settings.seed * 1_000 + self._iteration - 1) * 1_000_000 + slot


def _make_seed(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(":".join(map(str, parts)).encode()).digest()[:6], "big")
