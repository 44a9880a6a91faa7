"""A slot's way from ``initial`` to ``scored`` (paper, 4.1 to 4.3), without a barrier.

Slots walk in small groups, many groups at a time, so the base model works on some while the teacher's replies for others
are under way. A group asks the sampler for the same prompts in the same order however often the run was interrupted, so
that the same command gives the same samples.

A row that there is no money for is left as it is, so that the same command with a larger budget goes on with it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Coroutine, Iterable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from dsrl.errors import BudgetReached, DsrlError
from dsrl.pipeline.instructor import Instructor
from dsrl.pipeline.stages import STAGES
from dsrl.pipeline.stages.adapted import rewrite
from dsrl.pipeline.stages.attempted import attempt
from dsrl.pipeline.stages.initial import write_initial
from dsrl.pipeline.stages.passages import passage_of
from dsrl.pipeline.stages.scored import score
from dsrl.pipeline.stages.verified import verify
from dsrl.pipeline.summary import sample_counts
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import SamplerSpec
from dsrl.types import Passage, Sample

if TYPE_CHECKING:
    from dsrl.pipeline.run import Pipeline

T = TypeVar("T")

#: Slots that walk together: large enough for the sampler to batch, small enough that nobody waits long.
GROUP = 16
#: Rounds of votes where a round takes hours.
BATCH_ROUNDS = 2


class SlotRunner:
    """Walks groups of slots from ``initial`` to ``scored``; each step is one transaction."""

    def __init__(
        self,
        road: Pipeline,
        round: int,
        instructor: Instructor,
        pattern: str,
        passages: Mapping[str, Sequence[Passage]],
        domains: Sequence[str],
    ) -> None:
        self.road, self.round, self.instructor, self.pattern = road, round, instructor, pattern
        self.passages, self.domains = passages, domains
        self.sampler: Plugin[SamplerSpec] | None = None
        #: Stage -> rows that there was no money for.
        self.unpaid: Counter[str] = Counter()

    def wanted(self, stage: str) -> bool:
        """Say whether the walk goes so far."""
        return STAGES.index(stage) <= STAGES.index(self.road.stop_after)

    def is_done(self, slots: range) -> bool:
        """Say whether nothing is left to do for these slots."""
        samples = self.road.store.samples(self.round, slots)
        if sum(sample.parent is None for sample in samples) < len(slots):
            return False
        verified = all(sample.label or sample.dropped for sample in samples)
        if not self.wanted("verified") or not verified:
            return not self.wanted("verified")
        kept = [sample for sample in samples if sample.label]
        attempted = self.road.store.greedy_attempts(self.round, slots)
        parents = {sample.parent for sample in samples}
        scored = self.road.store.scores(self.round, slots)
        return (
            (not self.wanted("attempted") or all(s.id in attempted for s in kept if s.parent is None))
            and (not self._adapts() or all(s.id in parents for s in kept if s.parent is None))
            and (not self.wanted("scored") or all(s.id in scored for s in kept))
        )

    def _adapts(self) -> bool:
        return self.road.settings.adapt and self.wanted("adapted")

    async def walk(self, slots: range) -> None:
        """Take these slots as far as ``stop_after`` says."""
        initial = [s for s in self.road.store.samples(self.round, slots) if s.parent is None]
        if len(initial) < len(slots):
            written = {sample.slot for sample in initial}
            initial += await self._write([slot for slot in slots if slot not in written])
        if not self.wanted("verified"):
            return
        initial = await self._verify(initial)
        if not self.wanted("attempted"):
            return
        solved = await self._attempt(initial, slots)
        branches = []
        if self.wanted("scored"):
            branches.append(self._score(initial, slots, "initial"))
        if self._adapts():
            branches.append(self._adapt(initial, solved, slots))
        await _together(branches)

    async def _adapt(self, initial: Sequence[Sample], solved: Mapping[str, bool], slots: range) -> None:
        rewritten = [s for s in self.road.store.samples(self.round, slots) if s.parent is not None]
        parents = {sample.parent for sample in rewritten}
        waiting = [sample for sample in initial if sample.label and sample.id not in parents]
        if waiting:
            rewritten += await self._rewrite(waiting, solved)
        rewritten = await self._verify(rewritten)
        if self.wanted("scored"):
            await self._score(rewritten, slots, "rewritten")

    async def _paid(self, stage: str, coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
        """Run all at once; give what came of those that there was money for."""

        async def one(coroutine: Coroutine[Any, Any, T]) -> T | None:
            try:
                return await coroutine
            except BudgetReached:
                self.unpaid[stage] += 1
                return None

        return [done for done in await _together(map(one, coroutines)) if done is not None]

    async def _write(self, slots: Sequence[int]) -> list[Sample]:
        with self.road.clock("initial"):
            samples = await self._paid("initial", (self._write_one(slot) for slot in slots))
        self.road.store.add_samples(samples)
        self._told("initial", len(samples))
        return samples

    async def _write_one(self, slot: int) -> Sample:
        road = self.road
        domain, place = self.domains[slot % len(self.domains)], slot // len(self.domains)
        return await write_initial(
            self.instructor,
            road.definition,
            self.pattern,
            passage_of(self.passages.get(domain, ()), place),
            self.round,
            slot,
            self._number(slot),
            Random(f"{road.settings.seed}:{self.round}:{slot}"),
        )

    def _number(self, slot: int) -> int:
        # Another seed or round is another draw; the same slot of the same seed is the reply that is already paid for.
        return (self.road.settings.seed * 1_000 + self.round - 1) * 1_000_000 + slot

    async def _verify(self, samples: Sequence[Sample]) -> list[Sample]:
        road = self.road
        waiting = [sample for sample in samples if not sample.label and not sample.dropped]
        if waiting:
            with road.clock("verified"):
                settings = road.settings
                verdicts = await self._paid(
                    "verified",
                    (
                        verify(
                            self.instructor,
                            road.definition,
                            road.task,
                            sample,
                            settings.votes,
                            settings.vote_confidence,
                            BATCH_ROUNDS if settings.batch else 0,
                        )
                        for sample in waiting
                    ),
                )
            road.store.add_verdicts(verdicts)
            settled = {sample.id: sample for sample, _ in verdicts}
            samples = [settled.get(sample.id, sample) for sample in samples]
            self._told("verified", len(verdicts))
        return list(samples)

    async def _attempt(self, initial: Sequence[Sample], slots: range) -> Mapping[str, bool]:
        road = self.road
        solved = road.store.greedy_attempts(self.round, slots)
        waiting = [sample for sample in initial if sample.label and sample.id not in solved]
        if waiting:
            assert self.sampler is not None
            with road.clock("attempted"):
                limit = road.settings.max_completion_tokens
                attempts = await attempt(self.sampler, road.definition, road.task, waiting, limit)
            road.store.add_greedy_attempts(attempts)
            solved |= {a.sample: a.solved for a in attempts}
            self._told("attempted", len(attempts))
        return solved

    async def _rewrite(self, initial: Sequence[Sample], solved: Mapping[str, bool]) -> list[Sample]:
        road = self.road
        with road.clock("adapted"):
            samples = await self._paid(
                "adapted",
                (
                    rewrite(self.instructor, road.definition, sample, solved[sample.id], self._number(sample.slot))
                    for sample in initial
                ),
            )
        road.store.add_samples(samples)
        self._told("adapted", len(samples))
        return samples

    async def _score(self, samples: Sequence[Sample], slots: range, which: str) -> None:
        road, settings = self.road, self.road.settings
        done = road.store.scores(self.round, slots)
        waiting = [sample for sample in samples if sample.label and sample.id not in done]
        if waiting:
            assert self.sampler is not None
            with road.clock("scored"):
                scored = await score(
                    self.sampler,
                    road.definition,
                    road.task,
                    waiting,
                    settings.attempts,
                    settings.attempt_temperature,
                    settings.max_completion_tokens,
                    _seed(settings.seed, self.round, slots.start, which),
                )
            road.store.add_scores(scored)
            self._told("scored", len(scored))

    def show(self) -> None:
        """Open the bars; what an earlier sitting did counts as done."""
        road = self.road
        samples = road.store.samples(self.round)
        rewritten = sum(sample.parent is not None for sample in samples)
        total = road.settings.samples
        both = total * 2 if self._adapts() else total
        done = {
            "initial": (total, len(samples) - rewritten),
            "verified": (both, sum(sample.label is not None or sample.dropped is not None for sample in samples)),
            "attempted": (total, len(road.store.greedy_attempts(self.round))),
            "adapted": (total, rewritten),
            "scored": (both, len(road.store.scores(self.round))),
        }
        for stage, (most, already) in done.items():
            if self.wanted(stage) and (stage != "adapted" or self._adapts()):
                road.progress.start(stage, most, already)

    def tell(self) -> None:
        """Close the bars with what came out."""
        counts = sample_counts(self.road.store, self.round)
        dropped = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in counts["dropped"].items())
        said = {
            "initial": f"{counts['initial']} written",
            "verified": f"{counts['verified'] + counts['harder'] + counts['easier']} kept; dropped: {dropped or 'none'}",
            "attempted": f"{counts['solved']} solved, {counts['unsolved']} unsolved",
            "adapted": f"{counts['harder']} harder, {counts['easier']} easier",
            "scored": f"{counts['scored']} samples",
        }
        for stage, text in said.items():
            if self.wanted(stage) and (stage != "adapted" or self._adapts()):
                self.road.progress.finish(stage, text)

    def _told(self, stage: str, n: int) -> None:
        self.road.progress.advance(stage, n)


def _seed(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(":".join(map(str, parts)).encode()).digest()[:6], "big")


async def _together(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all at once; the first fault stops the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except BaseExceptionGroup as faults:
        fault = _first(faults)
    else:
        return [task.result() for task in tasks]
    raise fault  # outside, so that it keeps its own cause for the traceback


async def each(at_a_time: int, awaitables: Iterable[Awaitable[None]]) -> None:
    """Run ``at_a_time`` of them at once, in their order."""
    waiting = iter(awaitables)

    async def worker() -> None:
        for awaitable in waiting:
            await awaitable

    await _together(worker() for _ in range(at_a_time))


def _first(faults: BaseExceptionGroup[BaseException]) -> BaseException:
    """Give the fault that tells most: one that the user can mend, else the first."""
    flat: list[BaseException] = []
    for fault in faults.exceptions:
        flat.append(_first(fault) if isinstance(fault, BaseExceptionGroup) else fault)
    return next((fault for fault in flat if isinstance(fault, DsrlError)), flat[0])
