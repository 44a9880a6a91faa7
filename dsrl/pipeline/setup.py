"""From settings to a road that can be walked: plugins are bound, inputs are looked at, the run's folder is opened.

Everything that can be wrong with a user's input is found before a teacher is asked for anything
(:mod:`dsrl.pipeline.preflight`).
"""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

import dsrl
from dsrl.corpus.reader import Corpus, embedded_library
from dsrl.datasets import read_demos
from dsrl.errors import SettingsError
from dsrl.pipeline.forecast import Job, forecast, total
from dsrl.pipeline.inputs import Given, keep_inputs
from dsrl.pipeline.instructor import Definition
from dsrl.pipeline.preflight import Inputs, check_files, check_inputs, check_teachers
from dsrl.pipeline.progress import Progress
from dsrl.pipeline.run import Pipeline, bind_sampler
from dsrl.pipeline.stages import STAGES
from dsrl.pipeline.summary import summarise
from dsrl.plugins.base_models import resolve_model
from dsrl.plugins.binding import Plugin, PluginRef, load
from dsrl.plugins.specs import TaskSpec, TeacherSpec
from dsrl.settings import Settings, differences, parse_settings, read_settings, resolve, to_toml
from dsrl.storage.run_store import RunStore
from dsrl.teaching.ledger import CallPolicy
from dsrl.teaching.pricing import get_price, read_prices
from dsrl.teaching.reply_store import Spending, read_spending, read_statistics
from dsrl.types import Purpose

#: Libraries whose versions decide a result.
_LIBRARIES = ("torch", "transformers", "datasets", "pluggy")


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where runs and shared caches are kept.

    Attributes:
        runs: folder of run folders.
        cache: ``calls.db`` and indexes.
    """

    runs: Path = Path("runs")
    cache: Path = Path(".dsrl")


def resolve_settings(config: Path | None, flags: dict[str, Any]) -> Settings:
    """Resolve a run's settings: the paper's, the base model's recipe, the settings file, the flags.

    Raises:
        SettingsError, DataError: what is wrong, and where.
    """
    file = read_settings(config) if config else {}
    named = flags.get("base_model") or file.get("base_model") or Settings.base_model
    return resolve(resolve_model(named).recipe.settings, file, flags)


@contextmanager
def open_run(
    settings: Settings, place: Workspace, progress: Progress, stop_after: str = STAGES[-1]
) -> Iterator[Pipeline]:
    """Open a run for work; it goes on where it was.

    Raises:
        DsrlError: whatever is wrong with the settings, the inputs, the plugins or the folder.
    """
    model = resolve_model(settings.base_model).location
    task = load(PluginRef("task", settings.task, settings.task_options, settings.override), "task")
    policy = call_policy_of(settings)
    teachers = teachers_of(settings)
    retriever = load(PluginRef("retriever", settings.retriever, settings.retriever_options), "retriever")
    trainer = load(PluginRef("trainer", settings.trainer, settings.trainer_options), "trainer")
    sampler = bind_sampler(settings, model)
    plugins = (task, *teachers.values(), retriever, trainer, sampler)
    definition = _definition(settings, task)
    corpus = Corpus([Path(path) for path in settings.corpus] or [embedded_library()], settings.max_bad)
    inputs = Inputs(
        settings=settings,
        model=model,
        folder=place.runs / settings.name,
        cache=place.cache,
        task=task,
        sampler=sampler,
        trainer=trainer,
        teachers=teachers,
        policy=policy,
        definition=definition,
        stop_after=stop_after,
    )
    items = check_inputs(inputs)
    store = RunStore(inputs.folder)
    try:
        _note(store, progress, _keep_settings(store, settings, plugins))
        fingerprint = corpus.fingerprint()
        _note(store, progress, keep_inputs(store, Given(settings, task, definition, fingerprint)))
        yield Pipeline(
            settings=settings,
            model=model,
            store=store,
            cache=place.cache,
            task=task,
            teachers=teachers,
            policy=policy,
            retriever=retriever,
            trainer=trainer,
            definition=definition,
            corpus=corpus,
            fingerprint=fingerprint,
            progress=progress,
            stop_after=stop_after,
            items=items,
        )
    finally:
        store.close()


def call_policy_of(settings: Settings) -> CallPolicy:
    """Give the terms that teachers are asked on.

    Raises:
        SettingsError: a price that is none.
    """
    return CallPolicy(
        concurrency=settings.concurrency,
        requests_per_minute=settings.requests_per_minute,
        tokens_per_minute=settings.tokens_per_minute,
        budget=None if math.isinf(settings.budget) else settings.budget,
        prices=read_prices(settings.price),
        batch=settings.batch,
    )


def teachers_of(settings: Settings) -> dict[Purpose, Plugin[TeacherSpec]]:
    """Bind the teacher of every purpose; those that are the same are one.

    Raises:
        PluginError, SettingsError: a plugin or its options are wrong.
    """
    bound: list[tuple[PluginRef, Plugin[TeacherSpec]]] = []
    teachers: dict[Purpose, Plugin[TeacherSpec]] = {}
    for purpose in get_args(Purpose):
        name, _, options = settings.teacher_of(purpose)
        ref = PluginRef("teacher", name, options)
        teacher = next((plugin for known, plugin in bound if known == ref), None) or load(ref, "teacher")
        bound.append((ref, teacher))
        teachers[purpose] = teacher
    return teachers


def plan(settings: Settings, place: Workspace) -> dict[str, Any]:
    """Give the object of ``dsrl plan --json``; nothing is asked, nothing written.

    Raises:
        DsrlError: what is wrong with the settings, the inputs or the plugins, as for the run.
    """
    task = load(PluginRef("task", settings.task, settings.task_options, settings.override), "task")
    policy, teachers = call_policy_of(settings), teachers_of(settings)
    check_teachers(settings, teachers, policy, task)
    check_files(settings)
    jobs: dict[Purpose, Job] = {}
    for purpose, teacher in teachers.items():
        name, model, options = settings.teacher_of(purpose)
        means = read_statistics(place.cache / "calls.db", purpose, name, model)
        most = teacher.hook.max_n(model=model) if teacher.implements("max_n") else 0
        jobs[purpose] = Job(
            f"{name}:{model}".rstrip(":"),
            f"{name} {dict(options)}",
            get_price(teacher, model, policy.prices),
            most or 0,
            means,
        )
    domains = len(settings.domain or tuple(task.hook.domains()))
    stages = forecast(settings, _definition(settings, task), jobs, domains)
    budget = None if math.isinf(settings.budget) else settings.budget
    return {
        "run": settings.name,
        "stages": [asdict(stage) for stage in stages],
        "total": total(stages, jobs),
        "budget_usd": budget,
    }


def result(store: RunStore, place: Workspace) -> dict[str, Any]:
    """Give the object of ``dsrl run --json`` for a run that is open."""
    return summarise(store, kept_settings(store), spending(store, place))


def spending(store: RunStore, place: Workspace) -> Spending:
    """What a run has asked of its teachers; not priced where calls that it has paid for are not in the reply store."""
    found = read_spending(place.cache / "calls.db", store.id)
    return replace(found, priced=False) if found.calls < store.paid_calls else found


def notes(store: RunStore, place: Workspace) -> list[str]:
    """Give what was told while the run was under way, and what must be known of what is left of it."""
    lost = store.paid_calls - read_spending(place.cache / "calls.db", store.id).calls
    said = f"{lost} calls that this run has paid for are not in {place.cache / 'calls.db'}, so its cost is not known"
    return [text for _, _, text in store.events()] + ([said] if lost > 0 else [])


def kept_settings(store: RunStore) -> Settings:
    """Read back the settings that a run was started with.

    Raises:
        StoreError: it holds none.
        SettingsError: they cannot be read.
    """
    source = "run.db" if store.marked("settings") is not None else "run.toml"
    return resolve(parse_settings(store.settings_text, str(store.folder / source)))


def _definition(settings: Settings, task: Plugin[TaskSpec]) -> Definition:
    demos = read_demos(Path(settings.demos)) if settings.demos else task.hook.demos()
    return Definition(
        description=settings.task_instruction or task.hook.description(),
        input_instruction=task.hook.input_instruction(),
        output_instruction=task.hook.output_instruction(),
        demos=tuple(demos),
    )


def _keep_settings(store: RunStore, settings: Settings, plugins: tuple[Plugin[Any], ...]) -> list[str]:
    """Refuse other settings than a run was started with, and keep them; give what the user should know."""
    now = versions = _versions(plugins)
    notes = []
    # A run that failed before anything was made (a wrong model, say) may go on with other settings.
    if store.reached("keywords"):
        changed = differences(kept_settings(store), settings)
        if changed:
            raise SettingsError(
                f"run {settings.name!r} was started with other settings ({'; '.join(changed)}). Give those again to go "
                "on with it, or another --name to start a new run."
            )
        versions = store.read_versions()
        others = [
            f"{name} {versions.get(name, '(none)')} -> {now.get(name, '(none)')}"
            for name in {**versions, **now}
            if versions.get(name) != now.get(name)
        ]
        if others:
            notes.append(f"versions have changed since this run began: {', '.join(others)}")
    edited = store.keep_settings({**to_toml(settings), "versions": versions})
    if edited:
        notes.append(
            f"{store.settings_file} was edited; it is only a copy of the settings that this run keeps, so it was written "
            f"anew, and the edited one is {edited}"
        )
    return notes


def _note(store: RunStore, progress: Progress, notes: list[str]) -> None:
    for note in notes:
        store.add_event("note", note)
        progress.note(note)


def _versions(plugins: tuple[Plugin[Any], ...]) -> dict[str, str]:
    versions = {"dsrl": dsrl.__version__, "python": platform.python_version()}
    versions |= {plugin.distribution: plugin.version for plugin in plugins}
    for library in _LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return versions
