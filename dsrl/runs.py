"""From settings to a road that can be walked: plugins are bound, inputs are looked at, the run's folder is opened.

Everything that can be wrong with a user's input is found here, before a teacher is asked for anything.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import dsrl
from dsrl.config import RECIPE_SECTIONS, Settings, differences, read_settings, resolve, to_toml
from dsrl.corpus import Corpus
from dsrl.datasets import read_demos
from dsrl.errors import DataError, SettingsError, StoreError
from dsrl.hookspecs import TaskSpec
from dsrl.instructor import Definition
from dsrl.ledger import Spending, spending_of
from dsrl.models import resolve_model
from dsrl.pipeline import Road
from dsrl.plugins import Plugin, PluginRef, load
from dsrl.progress import Progress
from dsrl.stages import STAGES
from dsrl.store import Store
from dsrl.summary import summarise

#: Libraries whose versions decide a result.
_LIBRARIES = ("torch", "transformers", "datasets", "pluggy")


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where runs and shared caches are kept.

    Attributes:
        runs: folder of run folders.
        cache: ``calls.db`` and indexes.
    """

    runs: Path = Path("runs")
    cache: Path = Path(".dsrl")


def settle(config: Path | None, flags: dict[str, Any]) -> Settings:
    """Resolve a run's settings: the paper's, the base model's recipe, the settings file, the flags.

    Raises:
        SettingsError, DataError: what is wrong, and where.
    """
    file = read_settings(config) if config else {}
    named = flags.get("base_model") or file.get("base_model") or Settings.base_model
    recipe = resolve_model(named).recipe
    return resolve(read_settings(recipe, RECIPE_SECTIONS) if recipe else {}, file, flags)


@contextmanager
def opened(settings: Settings, place: Workplace, progress: Progress, stop_after: str = STAGES[-1]) -> Iterator[Road]:
    """Open a run for work; it goes on where it was.

    Raises:
        DsrlError: whatever is wrong with the settings, the inputs, the plugins or the folder.
    """
    model = resolve_model(settings.base_model).location
    task = load(PluginRef("task", settings.task, settings.task_options, settings.override), "task")
    teacher = load(PluginRef("teacher", settings.teacher_plugin, settings.teacher_options), "teacher")
    retriever = load(PluginRef("retriever", settings.retriever, settings.retriever_options), "retriever")
    trainer = load(PluginRef("trainer", settings.trainer, settings.trainer_options), "trainer")
    sampler = PluginRef("sampler", settings.sampler, {"model": model, **settings.sampler_options})
    plugins = (task, teacher, retriever, trainer, load(sampler, "sampler"))
    if teacher.answers("prepare"):
        teacher.hook.prepare(task=task)
    definition = _definition(settings, task)
    _look_at(settings)
    store = Store(place.runs / settings.name)
    try:
        _keep_settings(store, settings, plugins)
        yield Road(
            settings=settings,
            model=model,
            store=store,
            cache=place.cache,
            task=task,
            teacher=teacher,
            retriever=retriever,
            trainer=trainer,
            definition=definition,
            progress=progress,
            stop_after=stop_after,
        )
    finally:
        store.close()


def result(store: Store, place: Workplace) -> dict[str, Any]:
    """Give the object of ``dsrl run --json`` for a run that is open."""
    return summarise(store, kept_settings(store), spending(store, place))


def spending(store: Store, place: Workplace) -> Spending:
    """What a run has asked of its teachers."""
    return spending_of(place.cache / "calls.db", store.id)


def kept_settings(store: Store) -> Settings:
    """Read back the settings that a run was started with."""
    if not store.settings_file.is_file():
        raise StoreError(f"{store.settings_file} is missing, so {store.folder} is no run that can be read")
    return resolve(read_settings(store.settings_file))


def _definition(settings: Settings, task: Plugin[TaskSpec]) -> Definition:
    demos = read_demos(Path(settings.demos)) if settings.demos else task.hook.demos()
    return Definition(
        description=settings.task_instruction or task.hook.description(),
        input_instruction=task.hook.input_instruction(),
        output_instruction=task.hook.output_instruction(),
        demos=tuple(demos),
    )


def _look_at(settings: Settings) -> None:
    """Refuse inputs that are not there before anything is paid for."""
    if settings.corpus:
        Corpus([Path(path) for path in settings.corpus])
    path = settings.dataset_path
    if path and (path.startswith((".", "/", "~")) or path.endswith((".jsonl", ".json"))) and not Path(path).exists():
        raise DataError(f"data set {path} is not there")
    output = Path(settings.output_model) if settings.output_model else None
    if output and output.exists() and not output.is_dir():
        raise DataError(f"--output-model {output} is a file; name a folder")


def _keep_settings(store: Store, settings: Settings, plugins: tuple[Plugin[Any], ...]) -> None:
    if store.settings_file.is_file():
        changed = differences(kept_settings(store), settings)
        if changed:
            raise SettingsError(
                f"run {settings.name!r} was started with other settings ({'; '.join(changed)}). Give those again to go "
                "on with it, or another --name to start a new run."
            )
        return
    store.write_settings({**to_toml(settings), "versions": _versions(plugins)})


def _versions(plugins: tuple[Plugin[Any], ...]) -> dict[str, str]:
    versions = {"dsrl": dsrl.__version__, "python": platform.python_version()}
    versions |= {plugin.distribution: plugin.version for plugin in plugins}
    for library in _LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return versions
