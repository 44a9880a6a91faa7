"""Ablation: a finished run is repeated with other settings, one by one, from the replies and attempts that are stored.

Each variant is a run of its own below the folder of the run (``ablations/``). Its database is a copy of the run's, without
what the variant would make differently, and the pipeline continues from there (:func:`dsrl.pipeline.run.run_pipeline`). A
variant that changes the samples first makes a *pool* of samples, with the seed of the run; its trainings start from copies
of the pool. No teacher is asked for a reply that is not stored, unless a budget allows it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from dsrl.errors import BudgetReached, DataError, StoreError
from dsrl.pipeline.context import RunContext, resolve_run
from dsrl.pipeline.progress import Progress
from dsrl.pipeline.repeats import AS_THE_RUN, FOLDER, compute_origin
from dsrl.pipeline.run import run_pipeline
from dsrl.pipeline.run_tasks import list_judged
from dsrl.pipeline.setting_paths import keep_paths
from dsrl.pipeline.setup import open_run
from dsrl.pipeline.slots import SLOT_STAGES
from dsrl.pipeline.spread import compute_accuracy, compute_repeated_gain, compute_spread
from dsrl.pipeline.stages.verified import count_needed_votes, find_majority
from dsrl.pipeline.summary import load_settings
from dsrl.pipeline.variants import Variant, list_default_variants
from dsrl.pipeline.workspace import Workspace
from dsrl.settings import ONLINE, Settings, to_toml
from dsrl.storage import STAGES
from dsrl.storage.files import ProcessLock
from dsrl.storage.run_store import RunStore, run_folders
from dsrl.storage.sqlite import store_errors
from dsrl.teaching.pricing import dollars
from dsrl.teaching.reply_store import read_spending

T = TypeVar("T")

#: The run itself as a variant: the same samples, trained again with other seeds.
UNCHANGED = Variant(AS_THE_RUN, {})
#: Reasons why a verified sample has no label that fewer votes can change.
_VOTED_REASONS = (None, "no_majority", "no_readable_answer")
_POOL = "pool"
#: The copy of a run with all attempts, if the run itself has made the first ones only.
_ATTEMPTS = "all-attempts"
_JUDGED = "a judge rewards the training, and its replies are not stored"


@dataclass(frozen=True, slots=True)
class VariantPlan:
    """What a variant needs.

    Attributes:
        variant: the variant.
        trainings: number of trainings that are left to do.
        missing: stage -> number of rows for which a reply is not stored; what follows from these rows is not counted.
        left_out: why the variant is left out; empty if it is not.
    """

    variant: str
    trainings: int
    missing: Mapping[str, int] = field(default_factory=dict)
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class VariantResult:
    """The result of a variant.

    Attributes:
        variant: the variant.
        samples: number of samples in the training set.
        seeds: the seeds of the trainings.
        accuracies: accuracy of the model of each seed on the test items.
        mean: mean of these.
        spread: their standard deviation; None if there is one seed only.
        difference: mean minus that of the run as it is; None for the run itself.
        interval: its 95% interval (:func:`dsrl.pipeline.spread.compute_repeated_gain`); None for the run itself.
        cost_usd: dollars of new replies.
    """

    variant: str
    samples: int
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    mean: float
    spread: float | None
    difference: float | None
    interval: tuple[float, float] | None
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Ablation:
    """The result of an ablation.

    Attributes:
        run: name of the run.
        n_test: number of test items.
        base_accuracy: accuracy of the base model.
        plans: what each variant needed, the run itself first.
        results: the variants that were trained; none if only the plan was asked for.
    """

    run: str
    n_test: int
    base_accuracy: float
    plans: tuple[VariantPlan, ...]
    results: tuple[VariantResult, ...]


@dataclass(frozen=True, slots=True)
class AblationOrder:
    """What the user wants.

    Attributes:
        variants: the variants; None: those of the paper's Table 4 that differ from the run.
        seeds: number of trainings of each variant; the first has the seed of the run.
        budget: dollars for replies that are not stored; None: none is asked for, free ones neither.
        plan_only: train nothing.
        keep_models: keep the trained models; without it, only what they answered stays.
    """

    variants: Sequence[Variant] | None = None
    seeds: int = 3
    budget: float | None = None
    plan_only: bool = False
    keep_models: bool = False


def ablate(
    store: RunStore,
    workspace: Workspace,
    order: AblationOrder,
    progress: Progress,
    on_plan: Callable[[Sequence[VariantPlan]], None] = lambda plans: None,
) -> Ablation:
    """Train and evaluate the variants of a run. What is stored from an earlier call is not repeated.

    Args:
        store: the run, opened to read.
        workspace: the folders of runs and replies.
        order: what to do.
        progress: what the user sees.
        on_plan: receives the plan before anything is trained or paid.

    Raises:
        StoreError: the run is not finished.
        DataError: it has several iterations, so nothing stored tells what another selection would have led to.
        DsrlError: as in :func:`dsrl.pipeline.setup.open_run`.
    """
    work = _Ablation(store, workspace, order, progress)
    with work.lock():
        plans = [work.plan(variant) for variant in work.variants]
        on_plan(plans)
        results = [] if order.plan_only else work.train([plan.variant for plan in plans if not plan.left_out])
    return Ablation(store.folder.name, len(work.items), compute_accuracy(work.base), tuple(plans), tuple(results))


class _Ablation:
    def __init__(self, store: RunStore, workspace: Workspace, order: AblationOrder, progress: Progress) -> None:
        self.items, self.base, self.trained = store.items(), store.evaluations("base"), store.evaluations("trained")
        name = store.folder.name
        if not self.items or not len(self.items) == len(self.base) == len(self.trained):
            raise StoreError(f"run {name!r} has no evaluated model yet; finish it with its own command first")
        settings = load_settings(store)
        if settings.iterations > 1:
            raise DataError(
                f"run {name!r} has {settings.iterations} iterations: another selection in the first one would change all "
                "that follows. Give a run with --iterations 1"
            )
        self.store, self.order, self.progress = store, order, progress
        self.settings = replace(settings, output_model="")
        self.replies = workspace.reply_store
        self.folders = Workspace(store.folder / FOLDER, workspace.cache)
        chosen = order.variants
        if chosen is None:
            has_pattern = any(store.pattern(1, task) for task in store.keywords(1))
            is_given = store.data is not None
            chosen = [] if is_given else list_default_variants(settings, len(store.scores(1)), has_pattern)
        self.variants = (UNCHANGED, *chosen)
        self.is_judged = bool(list_judged(resolve_run(self.settings, workspace).tasks))
        self.origin = compute_origin(store)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes away from the variants for the length of a block.

        Raises:
            StoreError: another process works on them.
        """
        with store_errors(self.folders.runs):
            self.folders.runs.mkdir(parents=True, exist_ok=True)
        lock = ProcessLock(self.folders.runs / ".lock")
        if not lock.acquire(wait=False):
            raise StoreError(
                f"the variants of run {self.store.folder.name!r} are being worked on by {lock.read_owner()}"
            )
        try:
            yield
        finally:
            lock.release()

    # --- the plan ----------------------------------------------------------------------------------------------------

    def plan(self, variant: Variant) -> VariantPlan:
        """Find out what a variant needs; make its samples as far as this needs no reply that is not stored."""
        left = sum(not self._is_done(variant, seed) for seed in self._list_seeds(variant))
        if not left:
            return VariantPlan(variant.name, 0)
        missing: dict[str, int] = {}
        if variant.changes_samples:
            self._prepare_pool(variant)
            missing = self._make_samples(variant, None)
        if self.order.budget is None and (missing or self.is_judged):
            reason = _JUDGED if self.is_judged else "it needs replies that are not stored"
            return VariantPlan(variant.name, left, missing, f"{reason}; --budget allows them")
        return VariantPlan(variant.name, left, missing)

    def _prepare_pool(self, variant: Variant) -> None:
        settings = variant.apply(replace(self.settings, name=f"{variant.folder}-{_POOL}"))
        self._prepare(self.store, settings, lambda copy: self._cut_samples(copy, variant))

    def _cut_samples(self, copy: RunStore, variant: Variant) -> None:
        """Remove the samples, or their labels, that a variant makes differently."""
        copy.forget_training(1)
        copy.stages.reset(1, SLOT_STAGES)
        samples = copy.samples(1)
        if variant.without_pattern:
            copy.clear_patterns(1)
            copy.forget_samples(sample.id for sample in samples if sample.parent is None)
            return
        if variant.settings.get("adapt") is False:
            copy.forget_samples(sample.id for sample in samples if sample.parent is not None)
        if "votes" in variant.settings:
            self._cut_votes(copy, variant.settings["votes"])

    def _cut_votes(self, copy: RunStore, votes: int) -> None:
        """Remove the labels that another number of votes does not give. Their first votes are stored replies."""
        judged = {key for key, task in resolve_run(self.settings, self.folders).tasks.items() if task.rubric}
        stored, changed = copy.list_votes(1), []
        for sample in copy.samples(1):
            answers = stored.get(sample.id, [])[: votes + 1]
            if not answers or sample.task in judged or sample.dropped not in _VOTED_REASONS:
                continue
            is_open = count_needed_votes(answers, votes, self.settings.vote_confidence) > 0
            if is_open or find_majority(answers) != (sample.label, sample.dropped):
                changed.append(sample.id)
        copy.forget_labels(changed)
        copy.keep_first_votes(1, votes)

    def _make_samples(self, variant: Variant, budget: float | None) -> dict[str, int]:
        """Make the samples of a variant; return stage -> rows for which a reply is missing."""
        settings = variant.apply(replace(self.settings, name=f"{variant.folder}-{_POOL}"))
        if self._read(settings.name, lambda pool: pool.stages.is_finished(1, "scored")):
            return {}
        try:
            self._run(settings, "scored", budget)
        except BudgetReached as error:
            self.progress.note(f"{variant.name}: {error}")
        return self._read(settings.name, lambda pool: pool.stages.count_unpaid(1))

    # --- the trainings -----------------------------------------------------------------------------------------------

    def train(self, names: Sequence[str]) -> list[VariantResult]:
        """Train and evaluate what is missing of these variants, and compare them with the run."""
        variants = [variant for variant in self.variants if variant.name in names]
        jobs = [(v, seed) for v in variants for seed in self._list_seeds(v) if not self._is_done(v, seed)]
        unpaid = set()
        for number, (variant, seed) in enumerate(jobs, 1):
            if variant.changes_samples and variant.name not in unpaid and not self._complete_pool(variant):
                unpaid.add(variant.name)
            if variant.name in unpaid:
                continue
            self.progress.note(f"training {number} of {len(jobs)}: {variant.name}, seed {seed}")
            settings = self._prepare_training(variant, seed)
            self._run(settings, STAGES[-1], self._get_budget(settings.name))
            self._drop_model(settings.name)
        reference: list[Mapping[int, bool]] = []
        results = []
        for variant in variants:
            seeds = self._list_seeds(variant)
            if any(not self._is_done(variant, seed) for seed in seeds):
                continue
            models: list[Mapping[int, bool]] = [self._read_answers(variant, seed) for seed in seeds]
            if variant is UNCHANGED:
                models = [self.trained, *models]
                seeds, reference = [self.settings.seed, *seeds], models
            results.append(self._make_result(variant, seeds, models, reference))
        return results

    def _make_result(
        self,
        variant: Variant,
        seeds: Sequence[int],
        models: Sequence[Mapping[int, bool]],
        reference: Sequence[Mapping[int, bool]],
    ) -> VariantResult:
        accuracies = tuple(map(compute_accuracy, models))
        gain = None if variant is UNCHANGED else compute_repeated_gain(reference or [self.trained], models)
        folders = [self._name(variant, seed) for seed in seeds]
        return VariantResult(
            variant=variant.name,
            samples=len(self.store.selected(1))
            if variant is UNCHANGED
            else self._read(folders[0], lambda run: len(run.selected(1))),
            seeds=tuple(seeds),
            accuracies=accuracies,
            mean=sum(accuracies) / len(accuracies),
            spread=compute_spread(accuracies),
            difference=gain[0] if gain else None,
            interval=gain[1] if gain else None,
            cost_usd=sum(map(self._read_cost, [f"{variant.folder}-{_POOL}", *folders])),
        )

    def _complete_pool(self, variant: Variant) -> bool:
        """Let the teachers make what is missing of the samples of a variant; return whether the budget was enough."""
        missing = self._make_samples(variant, self._get_budget(f"{variant.folder}-{_POOL}"))
        if missing:
            self.progress.note(
                f"{variant.name} is left out: the budget of {dollars(self.order.budget or 0)} is not enough"
            )
        return not missing

    def _prepare_training(self, variant: Variant, seed: int) -> Settings:
        """Make the run of one training, unless it is there."""
        settings = variant.apply(replace(self.settings, name=self._name(variant, seed), seed=seed))
        if variant is UNCHANGED:
            self._prepare(self.store, settings, lambda copy: copy.forget_trained(1))
        elif variant.changes_samples:
            self._copy_pool(f"{variant.folder}-{_POOL}", settings)
        elif settings.selection != ONLINE and self.settings.selection == ONLINE:
            self._copy_pool(self._make_attempts(), settings)
        else:
            self._prepare(self.store, settings, lambda copy: copy.forget_training(1))
        return settings

    def _copy_pool(self, pool: str, settings: Settings) -> None:
        source = RunStore(self.folders.runs / pool, work=False)
        try:
            self._prepare(source, settings, lambda copy: copy.forget_training(1))
        finally:
            source.close()

    def _make_attempts(self) -> str:
        """Make a copy of a run whose trainer chose the samples, with all the attempts that a selection needs; once."""
        settings = replace(self.settings, name=_ATTEMPTS)
        self._prepare(self.store, settings, lambda copy: copy.forget_training(1))
        self._run(settings, "scored", self._get_budget(_ATTEMPTS))
        return _ATTEMPTS

    # --- the runs below the run --------------------------------------------------------------------------------------

    def _list_seeds(self, variant: Variant) -> list[int]:
        """Return the seeds of the trainings; the run itself is already trained with the first one."""
        first = self.settings.seed
        return list(range(first + (variant is UNCHANGED), first + self.order.seeds))

    def _name(self, variant: Variant, seed: int) -> str:
        return f"{variant.folder}-seed-{seed}"

    def _prepare(self, source: RunStore, settings: Settings, cut: Callable[[RunStore], None]) -> None:
        """Make a run as a copy of another one, whole or not at all, unless it is there."""
        folder = self.folders.runs / settings.name
        if folder.exists() and self._read(settings.name, lambda run: run.origin) == self.origin:
            return
        partial = folder.with_name(f"{folder.name}.part")
        for each in (folder, partial):
            shutil.rmtree(each, ignore_errors=True)
        source.copy_to(partial, self.origin)
        copy = RunStore(partial)
        try:
            cut(copy)
            tables = {name: source.read_table(name) for name in ("versions", "model")}
            copy.keep_settings({**to_toml(keep_paths(settings, folder, self.folders.indexes)), **tables})
        finally:
            copy.close()
        partial.rename(folder)

    def _run(self, settings: Settings, stop_after: str, budget: float | None) -> None:
        context: RunContext = resolve_run(replace(settings, budget=budget), self.folders, stop_after)
        context = replace(context, policy=replace(context.policy, only_stored=budget is None))
        with open_run(context, self.progress) as run:
            run_pipeline(run)

    def _is_done(self, variant: Variant, seed: int) -> bool:
        name = self._name(variant, seed)
        if not (self.folders.runs / name / "run.db").is_file():
            return False
        is_done = self._read(
            name, lambda run: run.origin == self.origin and len(run.evaluations("trained")) == len(self.items)
        )
        if is_done:
            self._drop_model(name)
        return is_done

    def _drop_model(self, name: str) -> None:
        if not self.order.keep_models:
            for part in ("model", "rounds"):
                shutil.rmtree(self.folders.runs / name / part, ignore_errors=True)

    def _read_answers(self, variant: Variant, seed: int) -> dict[int, bool]:
        return self._read(self._name(variant, seed), lambda run: run.evaluations("trained"))

    def _read_cost(self, name: str) -> float:
        if not (self.folders.runs / name / "run.db").is_file():
            return 0.0
        return read_spending(self.replies, self._read(name, lambda run: run.id)).cost_usd

    def _get_budget(self, name: str) -> float | None:
        """Return what a run may have cost at its end, so that all runs together keep the budget."""
        if self.order.budget is None:
            return None
        others = [folder.name for folder in run_folders(self.folders.runs) if folder.name != name]
        return max(0.0, self.order.budget - sum(map(self._read_cost, others)))

    def _read(self, name: str, read: Callable[[RunStore], T]) -> T:
        run = RunStore(self.folders.runs / name, work=False)
        try:
            return read(run)
        finally:
            run.close()
