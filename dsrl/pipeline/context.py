"""What a run works with, resolved once from its settings.

Everything that the settings name is found here: plugins are bound, NAME:MODEL is read, prices are looked up, the user's
files are read. The checks before the run, the forecast and the stages take it from the :class:`RunContext`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsrl.corpus.embedded import embedded_library
from dsrl.corpus.named import NamedIndex, find_named
from dsrl.corpus.ranking import check_encoder
from dsrl.corpus.reader import Corpus
from dsrl.errors import SettingsError
from dsrl.pipeline.run_tasks import RunTasks, add_teachers, bind_tasks
from dsrl.pipeline.sampling import bind_sampler
from dsrl.pipeline.teachers import TeacherRoles
from dsrl.pipeline.workspace import Workspace
from dsrl.plugins.base_models import resolve_model
from dsrl.plugins.binding import Plugin, load
from dsrl.plugins.specs import RetrieverSpec, SamplerSpec, TrainerSpec
from dsrl.settings import ONLINE, STATIC_SELECTION, Settings
from dsrl.storage import STAGES
from dsrl.storage.evaluations import EvalItem
from dsrl.teaching.ledger import CallPolicy
from dsrl.teaching.pricing import read_prices
from dsrl.types import PluginRef


@dataclass(frozen=True)
class RunContext:
    """What a run works with.

    Attributes:
        settings: the resolved settings.
        workspace: the folders of runs and caches.
        stop_after: the last stage of this command.
        base_model: folder or hub id of the base model.
        model_tasks: names of the tasks that the base model was trained for; empty if that is not known.
        tasks: the tasks of the run, by the name that a sample has; ``context.tasks[sample.task]`` is its task.
        retriever: the bound retriever; None with ``--passages 0``.
        trainer: the bound trainer.
        sampler: the sampler, bound to the base model.
        policy: limits, budget and prices of the teacher calls.
        corpus: the passage libraries, or the index that the user named.
        corpus_fingerprint: changes with the passage libraries; empty before :func:`dsrl.pipeline.setup.open_run`.
        test_items: the test items of all tasks; None before :func:`dsrl.pipeline.setup.open_run`, and if this command
            neither evaluates nor compares samples with them.
    """

    settings: Settings
    workspace: Workspace
    stop_after: str
    base_model: str
    tasks: RunTasks
    retriever: Plugin[RetrieverSpec] | None
    sampler: Plugin[SamplerSpec]
    trainer: Plugin[TrainerSpec]
    policy: CallPolicy
    corpus: Corpus | NamedIndex
    corpus_fingerprint: str = ""
    test_items: Sequence[EvalItem] | None = None
    model_tasks: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder of the run; it may not exist yet."""
        return self.workspace.runs / self.settings.name

    @property
    def is_online(self) -> bool:
        """Whether the trainer chooses the samples of each step out of all that can be selected."""
        trainer = self.trainer
        is_wanted = self.settings.selection == ONLINE
        return is_wanted and trainer.implements("can_choose") and trainer.hook.can_choose()

    @property
    def selection_rule(self) -> str:
        """The rule that selects before the training; :data:`STATIC_SELECTION` if the trainer should choose, but cannot."""
        return STATIC_SELECTION if self.settings.selection == ONLINE else self.settings.selection

    @property
    def plugins(self) -> tuple[Plugin[Any], ...]:
        """All bound plugins."""
        tasks = self.tasks.values()
        teachers = (role.plugin for task in tasks for role in task.teachers.values())
        retrievers = (self.retriever,) if self.retriever else ()
        return (*(task.plugin for task in tasks), *teachers, *retrievers, self.trainer, self.sampler)

    @property
    def teachers(self) -> TeacherRoles:
        """The teacher for each purpose, with its name, model and price, which are the same for all tasks.

        To ask one, take it from :attr:`dsrl.pipeline.run_tasks.RunTask.teachers`: a teacher can be prepared for one task.
        """
        return next(iter(self.tasks.values())).teachers

    @property
    def is_chat(self) -> bool:
        """Whether the base model is asked through its chat template."""
        return all(task.definition.is_chat for task in self.tasks.values())

    def place_slot(self, slot: int) -> tuple[str, int]:
        """Return the task of a slot (a key of ``tasks``), and its number among the slots of this task.

        The slots take the tasks in turn, so N is divided evenly.
        """
        keys = list(self.tasks)
        return keys[slot % len(keys)], slot // len(keys)

    def count_slots(self, task: str) -> int:
        """Return how many of the N slots belong to a task."""
        keys = list(self.tasks)
        return len(range(keys.index(task), self.settings.samples, len(keys)))

    def includes(self, stage: str) -> bool:
        """Return whether this command runs a stage."""
        return STAGES.index(stage) <= STAGES.index(self.stop_after)

    def get_start_model(self, iteration: int) -> str:
        """Return the model that an iteration starts from: the base model, then the model of the iteration before."""
        return self.base_model if iteration == 1 else str(self.get_output_folder(iteration - 1))

    def get_output_folder(self, iteration: int) -> Path:
        """Return the folder for the trained model of an iteration; the last one is the result of the run."""
        if iteration < self.settings.iterations:
            return self.folder / "rounds" / str(iteration) / "model"
        return Path(self.settings.output_model) if self.settings.output_model else self.folder / "model"

    def get_work_folder(self, iteration: int) -> Path:
        """Return the folder in which the trainer keeps the checkpoints of an iteration."""
        return self.folder / "rounds" / str(iteration) / "training"


def resolve_run(settings: Settings, workspace: Workspace, stop_after: str = STAGES[-1]) -> RunContext:
    """Bind the plugins that the settings name and read the files that they name.

    Raises:
        DsrlError: a plugin, an option, a price or a file is wrong.
    """
    model = resolve_model(settings.base_model)
    tasks = bind_tasks(settings)
    policy = make_call_policy(settings)
    if settings.passage_rerank and settings.passages:
        check_encoder(settings.passage_rerank)
        if settings.passages >= settings.passage_rerank_top:
            raise SettingsError(
                f"--passage-rerank would change nothing: the samples are written from any of the best {settings.passages:,} "
                f"passages, and only the order of the best {settings.passage_rerank_top:,} would change. Give --passages as "
                "many as a domain has samples, and --passage-rerank-top some times more."
            )
    corpus = open_corpus(settings, workspace)
    return RunContext(
        settings=settings,
        workspace=workspace,
        stop_after=stop_after,
        base_model=model.location,
        model_tasks=model.recipe.tasks,
        retriever=bind_retriever(settings, corpus) if settings.passages else None,
        trainer=load(PluginRef("trainer", settings.trainer, settings.trainer_option), "trainer"),
        sampler=bind_sampler(settings, model.location),
        policy=policy,
        corpus=corpus,
        # The last, because a teacher may look for its key and its server.
        tasks=add_teachers(tasks, settings, policy.prices),
    )


def make_call_policy(settings: Settings) -> CallPolicy:
    """Return the limits, the budget and the prices of the teacher calls.

    Raises:
        SettingsError: a price cannot be read.
    """
    return CallPolicy(
        concurrency=settings.concurrency,
        requests_per_minute=settings.requests_per_minute,
        tokens_per_minute=settings.tokens_per_minute,
        budget=settings.budget,
        prices=read_prices(settings.price),
        batch=settings.batch,
    )


def open_corpus(settings: Settings, workspace: Workspace) -> Corpus | NamedIndex:
    """Open the passage libraries of a run: an index that the user named, files and folders, or the embedded library.

    Raises:
        DataError: a library is missing or cannot be read.
        SettingsError: an index is named together with other libraries.
        StoreError: the named index cannot be used.
    """
    named = [index for name in settings.corpus if (index := find_named(workspace.indexes, name))]
    if named and len(settings.corpus) > 1:
        raise SettingsError(
            f"--corpus {named[0].name} is an index, and a run searches one index. Build one of all libraries: dsrl index "
            f"build PATH... --name NAME (a file or folder of this name is ./{named[0].name})"
        )
    if named:
        return named[0]
    paths = [Path(path) for path in settings.corpus] or [embedded_library()]
    return Corpus(paths, settings.max_bad, settings.passage_length)


def bind_retriever(settings: Settings, corpus: Corpus | NamedIndex) -> Plugin[RetrieverSpec]:
    """Bind the retriever. For a named index, it has the options that the index was made with; those of the run are stronger.

    Raises:
        DsrlError: there is no such retriever, an option is wrong, or another retriever made the index.
    """
    options = settings.retriever_option
    if isinstance(corpus, NamedIndex) and corpus.manifest.retriever == settings.retriever:
        options = {**corpus.manifest.options, **options}
    retriever = load(PluginRef("retriever", settings.retriever, options), "retriever")
    if isinstance(corpus, NamedIndex):
        corpus.open(retriever)
    return retriever
