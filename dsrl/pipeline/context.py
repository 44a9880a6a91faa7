"""What a run works with, resolved once from its settings.

Everything that the settings name is found here: plugins are bound, NAME:MODEL is read, prices are looked up, the user's
files are read. The checks before the run, the forecast and the stages take it from the :class:`RunContext`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsrl.corpus.reader import Corpus, embedded_library
from dsrl.datasets import read_demos
from dsrl.pipeline.instructor import Definition
from dsrl.pipeline.sampling import bind_sampler
from dsrl.pipeline.teachers import TeacherRoles, resolve_teachers
from dsrl.pipeline.workspace import Workspace
from dsrl.plugins.base_models import resolve_model
from dsrl.plugins.binding import Plugin, load
from dsrl.plugins.specs import RetrieverSpec, SamplerSpec, TaskSpec, TrainerSpec
from dsrl.settings import Settings
from dsrl.storage import STAGES
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
        task, retriever, trainer: the bound plugins.
        sampler: the sampler, bound to the base model.
        teachers: the teacher for each purpose.
        policy: limits, budget and prices of the teacher calls.
        definition: the definition of the task; the user's texts replace the task's own.
        domains: the domains of the task; empty if the teacher has to name one.
        corpus: the passage libraries.
        corpus_fingerprint: changes with the passage libraries; empty before :func:`dsrl.pipeline.setup.open_run`.
        test_items: the test items as (input, canonical label); None before :func:`dsrl.pipeline.setup.open_run`, and if
            this command neither evaluates nor compares samples with them.
    """

    settings: Settings
    workspace: Workspace
    stop_after: str
    base_model: str
    task: Plugin[TaskSpec]
    retriever: Plugin[RetrieverSpec]
    sampler: Plugin[SamplerSpec]
    trainer: Plugin[TrainerSpec]
    teachers: TeacherRoles
    policy: CallPolicy
    definition: Definition
    domains: tuple[str, ...]
    corpus: Corpus
    corpus_fingerprint: str = ""
    test_items: Sequence[tuple[str, str]] | None = None
    model_tasks: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder of the run; it may not exist yet."""
        return self.workspace.runs / self.settings.name

    @property
    def plugins(self) -> tuple[Plugin[Any], ...]:
        """All bound plugins."""
        teachers = (role.plugin for role in self.teachers.values())
        return (self.task, *teachers, self.retriever, self.trainer, self.sampler)

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
    task = load(PluginRef("task", settings.task, settings.task_option, settings.override), "task")
    policy = make_call_policy(settings)
    return RunContext(
        settings=settings,
        workspace=workspace,
        stop_after=stop_after,
        base_model=model.location,
        model_tasks=model.recipe.tasks,
        task=task,
        retriever=load(PluginRef("retriever", settings.retriever, settings.retriever_option), "retriever"),
        trainer=load(PluginRef("trainer", settings.trainer, settings.trainer_option), "trainer"),
        sampler=bind_sampler(settings, model.location),
        policy=policy,
        definition=_read_definition(settings, task),
        domains=settings.domain or tuple(task.hook.domains()),
        corpus=Corpus([Path(path) for path in settings.corpus] or [embedded_library()], settings.max_bad),
        # The last, because a teacher may look for its key and its server.
        teachers=resolve_teachers(settings, task, policy.prices),
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


def _read_definition(settings: Settings, task: Plugin[TaskSpec]) -> Definition:
    demos = read_demos(Path(settings.demos)) if settings.demos else task.hook.demos(domain="")
    return Definition(
        description=settings.task_instruction or task.hook.description(),
        input_instruction=task.hook.input_instruction(),
        output_instruction=task.hook.output_instruction(),
        demos=tuple(demos),
        system_prompt=settings.system_prompt,
    )
