"""The road from a task to a model (paper, Algorithm 1): every step in its order, going on from what is already there."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic
from typing import get_args

from dsrl import signals
from dsrl.corpus.index import Index, index_for, passages_for
from dsrl.corpus.reader import Corpus
from dsrl.errors import BudgetReached, DataError, StoreError
from dsrl.pipeline.instructor import Definition, Instructor
from dsrl.pipeline.progress import Progress
from dsrl.pipeline.slots import GROUP, SlotRunner, each
from dsrl.pipeline.stages import STAGES
from dsrl.pipeline.stages.evaluated import evaluate, load_items
from dsrl.pipeline.stages.keywords import find_keywords
from dsrl.pipeline.stages.passages import assign_passages
from dsrl.pipeline.stages.pattern import summarise_pattern
from dsrl.pipeline.stages.selected import select
from dsrl.pipeline.stages.trained import (
    make_job,
    output_folder,
    output_mark,
    owns_output,
    refuse_filled,
    refuse_no_model,
    work_folder,
    write_parquet,
)
from dsrl.plugins.binding import Plugin, PluginRef, load, takes_option
from dsrl.plugins.specs import RetrieverSpec, SamplerSpec, TaskSpec, TeacherSpec, TrainerSpec
from dsrl.settings import Settings
from dsrl.storage.metrics import Metrics
from dsrl.storage.run_store import RunStore
from dsrl.teaching.budget import describe_budget_reached
from dsrl.teaching.ledger import CallPolicy, Ledger
from dsrl.teaching.reply_store import PaidCalls
from dsrl.types import Passage, Purpose, TrainStep

#: Test items a call of the sampler.
EVALUATED_TOGETHER = 256


class StageLimitReached(Exception):
    """The stage of ``--stop-after`` is done."""


class StageClock:
    """Counts the seconds in which at least one group is at work in a stage; stages that overlap count both."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._busy: dict[str, int] = {}
        self._since: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        if not self._busy.get(stage):
            self._since[stage] = monotonic()
        self._busy[stage] = self._busy.get(stage, 0) + 1
        try:
            yield
        finally:
            self._busy[stage] -= 1
            if not self._busy[stage]:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + monotonic() - self._since[stage]


@dataclass(frozen=True)
class Pipeline:
    """All that the steps need from outside.

    Attributes:
        settings: as resolved.
        model: folder or hub id of the base model.
        store: the run's folder, open for work.
        cache: ``.dsrl``: reply store and indexes, shared by the runs of a working folder.
        task, retriever, trainer: bound plugins. The sampler is bound when a model is to be run.
        teachers: bound plugins, by what they do.
        terms: on which they are asked.
        definition: the task in words; the user's words where given.
        corpus: the passage libraries.
        fingerprint: the corpus's, taken once for the whole run.
        progress: what the user sees.
        stop_after: the last stage to walk.
        items: test items as (input, label) where they are loaded already; None: they are loaded when they are needed.
    """

    settings: Settings
    model: str
    store: RunStore
    cache: Path
    task: Plugin[TaskSpec]
    teachers: Mapping[Purpose, Plugin[TeacherSpec]]
    policy: CallPolicy
    retriever: Plugin[RetrieverSpec]
    trainer: Plugin[TrainerSpec]
    definition: Definition
    corpus: Corpus
    fingerprint: str
    progress: Progress
    stop_after: str = STAGES[-1]
    items: Sequence[tuple[str, str]] | None = None
    clock: StageClock = field(default_factory=StageClock)

    def walk(self) -> bool:
        """Walk the road to its end or to ``stop_after``; False if it was stopped there.

        Raises:
            DsrlError: what the user must mend; the same command goes on afterwards.
        """
        started = monotonic()
        try:
            for round in range(1, self.settings.iterations + 1):
                self._synthesise(round)
                self._select(round)
                self._train(round)
            self._evaluate()
        except StageLimitReached:
            return False
        finally:
            self.clock.seconds["total"] = monotonic() - started
            self.store.set_seconds(self.clock.seconds)
        return True

    def starting_model(self, round: int) -> str:
        """The model that a round starts from: the base model, then what the round before trained."""
        return self.model if round == 1 else str(self.trained_model(round - 1))

    def trained_model(self, round: int) -> Path:
        """Where a round's model goes; the last one is the run's result."""
        return output_folder(self.settings, self.store.folder, round)

    def _done(self, stage: str) -> None:
        self.store.set_seconds(self.clock.seconds)  # a killed sitting has told its time up to here
        if stage == self.stop_after:
            raise StageLimitReached

    # --- keywords to scored ------------------------------------------------------------------------------------------

    def _synthesise(self, round: int) -> None:
        with self.clock("passages"):
            index = self._index_library(round)  # first: a broken one should be told before a teacher is paid
        signals.run(self._find_keywords(round))
        self._done("keywords")
        with self.clock("passages"):
            passages = self._find_passages(round, index)
        self._done("passages")
        signals.run(self._walk_slots(round, passages))

    def _index_library(self, round: int) -> Index | None:
        """Make the index of the passage libraries if it is not there; None where the passages are found already."""
        if self.store.has_passages(round):
            return None
        corpus = self.corpus
        self.progress.start("passages", None)
        told = 0

        def on_progress(indexed: int) -> None:
            nonlocal told
            self.progress.advance("passages", indexed - told)
            told = indexed

        index = index_for(self.retriever, corpus, self.cache / "index", on_progress, self.fingerprint)
        if corpus.bad:
            self._note(f"{corpus.bad} line(s) of the passage library were left out: {'; '.join(corpus.faults[:3])}")
        return index

    async def _find_keywords(self, round: int) -> None:
        if self.store.keywords(round):
            return
        domains = self.settings.domain or tuple(self.task.hook.domains())
        found = {domain: [domain] for domain in domains}
        if not found:
            with self.clock("keywords"):
                async with self._instructor() as instructor:
                    keywords = await find_keywords(instructor, self.definition)
            if not keywords:
                self._note("the teacher named no keywords; passages are searched with the task's description")
                keywords = [self.definition.description]
            found = {keywords[0]: keywords}
        self.store.add_keywords(round, found)
        self.progress.finish("keywords", "; ".join(", ".join(words[:4]) for words in found.values()))

    def _find_passages(self, round: int, index: Index | None) -> dict[str, list[Passage]]:
        if index is None:
            return self.store.passages(round)
        settings = self.settings
        keywords = self.store.keywords(round)
        share = -(-settings.samples // len(keywords))
        found: dict[str, list[Passage]] = {}
        total = 0
        for domain, words in keywords.items():
            hits = passages_for(self.retriever, index, words, settings.passages)
            total += len(hits)
            found[domain] = assign_passages(hits, share, Random(f"{settings.seed}:{round}:{domain}"))
            if len(hits) < share:
                least = f"only {len(hits)} passages" if hits else "no passages"
                more = "; samples share them" if hits else "; samples rest on none"
                self._note(f"{least} were found for {share} samples of the domain {domain!r}{more}")
        self.store.add_passages(round, found)
        self.progress.finish("passages", f"{total} found")
        return found

    def probe(self, slots: int) -> None:
        """Walk the first so many slots of the run to ``verified``, to see what the teacher's replies take.

        They are the run's own; it goes on from them.

        Raises:
            DsrlError: as :meth:`walk`.
        """
        with self.clock("passages"):
            index = self._index_library(1)
        signals.run(self._find_keywords(1))
        with self.clock("passages"):
            passages = self._find_passages(1, index)
        with suppress(StageLimitReached):
            signals.run(self._walk_slots(1, passages, slots))

    async def _walk_slots(
        self, round: int, passages: Mapping[str, Sequence[Passage]], slots: int | None = None
    ) -> None:
        settings, store = self.settings, self.store
        async with AsyncExitStack() as stack:
            instructor = await stack.enter_async_context(self._instructor())
            pattern = store.pattern(round)
            if pattern is None:
                with self.clock("pattern"):
                    pattern = await summarise_pattern(instructor, self.definition)
                store.add_pattern(round, pattern)
            self._done("pattern")
            last = settings.samples if slots is None else min(slots, settings.samples)
            groups = [range(i, min(i + GROUP, last)) for i in range(0, last, GROUP)]
            walk = SlotRunner(self, round, instructor, pattern, passages, list(store.keywords(round)))
            left = [group for group in groups if not walk.is_done(group)]
            if left:
                walk.show()
                if walk.wanted("attempted"):
                    walk.sampler = self.sampler(self.starting_model(round))
                    stack.callback(close, walk.sampler)
                # Enough groups at a time to keep the teacher busy while others are with the sampler.
                at_once = len(left) if settings.batch else max(4, 3 * settings.concurrency // GROUP)
                with self.clock("initial_to_scored"):
                    await each(at_once, (walk.walk(group) for group in left))
                self.store.set_unpaid(round, walk.unpaid)
                walk.tell()
                self._tell_unpaid(round, walk.unpaid)
        for stage in ("initial", "verified", "attempted", "adapted", "scored"):
            self._done(stage)

    def _tell_unpaid(self, round: int, unpaid: Mapping[str, int]) -> None:
        """Say for how many rows there was no money."""
        if not unpaid:
            return
        words = {"initial": "not written", "verified": "not verified", "adapted": "not rewritten"}
        left = ", ".join(f"{count} {words[stage]}" for stage, count in unpaid.items())
        budget = self.settings.budget
        if round < self.settings.iterations:
            # What the next round makes would hang on a model that a larger budget trains anew.
            where = f"in round {round} of {self.settings.iterations}"
            raise BudgetReached(describe_budget_reached(budget, f"{left}, {where}"))
        if not self.store.scores(round) and self.stop_after in STAGES[STAGES.index("scored") :]:
            raise BudgetReached(describe_budget_reached(budget, f"{left}, and no sample is left to go on with"))
        self._note(describe_budget_reached(budget, f"{left}. The run goes on with what it has"))

    # --- selected, trained, evaluated --------------------------------------------------------------------------------

    def _select(self, round: int) -> None:
        if self.store.selected(round) and self.store.marked(f"selected-{round}") != str(len(self.store.scores(round))):
            self._forget_training(round)  # a larger budget brought more samples to choose from
        if not self.store.selected(round):
            settings = self.settings
            with self.clock("selected"):
                scores = self.store.scores(round)
                chosen = select(scores.values(), settings.select, settings.selection, settings.seed)
            if not chosen:
                raise DataError(
                    "no sample is left to train on; "
                    f"`dsrl show {settings.name}` says where they went. Another teacher or task description may help."
                )
            if len(chosen) < settings.select and settings.selection != "full":
                self._note(
                    f"{len(chosen)} samples are there to select from, fewer than M = {settings.select}; all go on"
                )
            self.store.add_selected(round, chosen)
            self.store.mark(f"selected-{round}", str(len(scores)))
            self.progress.finish("selected", f"{len(chosen)} of {len(scores)}")
        self._done("selected")

    def _forget_training(self, round: int) -> None:
        if self.store.marked(f"training-{round}"):
            folders = [work_folder(self.store.folder, round)]
            if self._owns_output(round):
                folders.append(self.trained_model(round))
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
            Metrics(self.store.folder / "metrics.jsonl", self._note).forget(round)
        self.store.forget_training(round)

    def _owns_output(self, round: int) -> bool:
        return owns_output(self.store.marked(f"training-{round}"), self.settings, round)

    def _train(self, round: int) -> None:
        if not self.store.marked(f"trained-{round}"):
            samples = {sample.id: sample for sample in self.store.samples(round)}
            chosen = [samples[id] for id in self.store.selected(round)]
            folder = self.store.folder
            output = self.trained_model(round)
            work = work_folder(folder, round)
            if not self._owns_output(round):
                refuse_filled(output)
                self.store.mark(f"training-{round}", output_mark(self.settings, round))
            job = make_job(self.settings, self.definition, self.starting_model(round), chosen, output, work)
            rows = [(item.prompt, item.input, item.label) for item in job.items]
            write_parquet(folder / "data" / "train.parquet", self.task.name, "train", rows)
            metrics = Metrics(folder / "metrics.jsonl", self._note)
            shown = False

            def on_step(step: TrainStep) -> None:
                nonlocal shown
                if not shown:
                    self.progress.start("trained", step.steps, step.step - 1)
                    shown = True
                self.progress.advance("trained")
                self.progress.train_step(step)
                self.store.add_rewards(step.step, step.rewards)
                metrics.add(round, step.step, {"epoch": step.epoch, **step.metrics})

            with self.clock("trained"):
                self.trainer.hook.train(job=job, task=self.task, on_step=on_step)
            refuse_no_model(self.trainer, output)
            self.store.mark(f"trained-{round}")
            self.progress.finish("trained", str(output))
        if round == self.settings.iterations:
            self._done("trained")

    def _evaluate(self) -> None:
        items = self.items
        if items is None:
            with self.clock("evaluated"):
                items = load_items(self.task, self.settings.dataset_path, self.settings.test_size)
        self._keep_items(items)
        numbered = self.store.items()
        models = {"base": self.model, "trained": str(self.trained_model(self.settings.iterations))}
        answered = {name: self.store.evaluations(name) for name in models}
        done = sum(map(len, answered.values()))
        if done < 2 * len(numbered):
            self.progress.start("evaluated", 2 * len(numbered), done)
            for name, model in models.items():
                left = [item for item in numbered if item[0] not in answered[name]]
                with self.clock("evaluated"):
                    signals.run(self._answer(name, model, left))
            self.progress.finish("evaluated")

    def _keep_items(self, items: Sequence[tuple[str, str]]) -> None:
        """Keep the test items; where they are others than before, only what the models have not answered is left to do."""
        before = [(input, label) for _, input, label in self.store.items()]
        path = self.store.folder / "data" / "test.parquet"
        if list(items) != before or not path.is_file():
            rows = [(self.definition.prompt(input), input, label) for input, label in items]
            write_parquet(path, self.task.name, "test", rows)
        if list(items) != before:
            self.store.replace_items(items)
            if before:
                answered = set(self.store.evaluations("base")) & set(self.store.evaluations("trained"))
                self._note(
                    f"the test items have changed ({len(before)} before, {len(items)} now); both models answer the "
                    f"{len(items) - len(answered)} that are new to them"
                )

    async def _answer(self, name: str, model: str, items: Sequence[tuple[int, str, str]]) -> None:
        if not items:
            return
        sampler = self.sampler(model)
        try:
            for start in range(0, len(items), EVALUATED_TOGETHER):
                batch = items[start : start + EVALUATED_TOGETHER]
                limit = self.settings.max_completion_tokens
                self.store.add_evaluations(await evaluate(sampler, self.definition, self.task, name, batch, limit))
                self.progress.advance("evaluated", len(batch))
        finally:
            close(sampler)

    # --- what comes from outside -------------------------------------------------------------------------------------

    def _instructor(self) -> _ClosingInstructor:
        settings = self.settings
        ledger = Ledger(
            self.teachers["write"],
            self.cache / "calls.db",
            self.store.id,
            self.policy,
            self.teachers,
            self.progress.note,
            PaidCalls(self.store.paid_calls, self._keep_paid_calls),
        )
        self.progress.watch(ledger.get_spending, self.policy.budget)
        return _ClosingInstructor(instructor_of(settings, ledger), self.progress.note)

    def _keep_paid_calls(self, count: int) -> None:
        with suppress(StoreError):  # the next sitting keeps it
            self.store.keep_paid_calls(count)

    def sampler(self, model: str) -> Plugin[SamplerSpec]:
        """Bind the sampler to a model."""
        return bind_sampler(self.settings, model)

    def _note(self, text: str) -> None:
        self.store.add_event("note", text)
        self.progress.note(text)


def bind_sampler(settings: Settings, model: str) -> Plugin[SamplerSpec]:
    """Bind the sampler of a run to a model; a sampler that has no device of its own is not given one.

    Raises:
        DsrlError: no such sampler, or an option is wrong.
    """
    options = {"model": model, **settings.sampler_options}
    for name in ("device", "dtype"):
        value = getattr(settings, name)
        if value != "auto" and takes_option("sampler", settings.sampler, name):
            options[name] = value
    return load(PluginRef("sampler", settings.sampler, options), "sampler")


def instructor_of(settings: Settings, ledger: Ledger) -> Instructor:
    """Put the settings of all requests together."""
    models = {purpose: settings.teacher_of(purpose)[1] for purpose in get_args(Purpose)}
    return Instructor(
        ledger,
        models["write"],
        settings.teacher_temperature,
        settings.teacher_max_tokens,
        models,
        settings.retries_unreadable,
    )


def close(sampler: Plugin[SamplerSpec]) -> None:
    """Let go of a model."""
    if sampler.implements("close"):
        sampler.hook.close()


#: Seconds that the end of a run takes without a word.
_QUIET = 2.0


class _ClosingInstructor:
    """An instructor whose ledger is closed at the end."""

    def __init__(self, instructor: Instructor, note: Callable[[str], None]) -> None:
        self._instructor, self._note = instructor, note

    async def __aenter__(self) -> Instructor:
        return self._instructor

    async def __aexit__(self, kind: type[BaseException] | None, fault: BaseException | None, _: object) -> None:
        stopped = kind is asyncio.CancelledError  # Ctrl-C, SIGTERM, SIGHUP
        why = "" if stopped else f" ({fault})"
        said = f"stopping{why}: waits up to a minute for calls under way, which are paid for; Ctrl-C ends that"
        late = asyncio.get_running_loop().call_later(0.0 if stopped else _QUIET, self._note, said) if fault else None
        try:
            await self._instructor.ledger.close(hurry=stopped)
        finally:
            if late is not None:
                late.cancel()
