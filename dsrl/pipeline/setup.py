"""From settings to an open run: settings are resolved, inputs are checked, the folder of the run is opened.

Everything that can be wrong with the user's input is found before a teacher is asked (:mod:`dsrl.pipeline.preflight`).
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import dsrl
from dsrl.datasets import list_local_splits
from dsrl.errors import DataError, PluginError, SettingsError
from dsrl.pipeline.context import RunContext
from dsrl.pipeline.hook_watch import watch_hooks
from dsrl.pipeline.inputs import record_inputs
from dsrl.pipeline.paper import PAPER_NUMBERS, fix_method
from dsrl.pipeline.plugin_warnings import collect_warnings
from dsrl.pipeline.preflight import check_inputs, describe_foreign_task
from dsrl.pipeline.progress import Progress
from dsrl.pipeline.run_tasks import find_base_model
from dsrl.pipeline.runtime import OpenRun
from dsrl.pipeline.sampling import decide_chat
from dsrl.pipeline.setting_paths import keep_paths, read_file_paths
from dsrl.pipeline.stages.evaluated import load_all_items
from dsrl.pipeline.summary import load_settings
from dsrl.pipeline.task_data import list_choices
from dsrl.pipeline.task_settings import check_task_settings, get_task_value
from dsrl.plugins.base_models import resolve_model
from dsrl.plugins.binding import find_own_settings
from dsrl.plugins.recipes import RECIPE_SETTINGS
from dsrl.settings import (
    ONLINE,
    Settings,
    check,
    convert,
    differences,
    read_settings,
    resolve,
    to_toml,
)
from dsrl.storage.run_store import RunStore

#: Libraries whose versions influence the results.
_LIBRARIES = ("torch", "transformers", "datasets", "pluggy")


def resolve_settings(config: Path | None, flags: dict[str, Any], paper: bool = False) -> Settings:
    """Resolve the settings of a run: the defaults, the base model of the task, its recipe, the settings file, the flags.

    Args:
        config: the settings file; None if there is none.
        flags: setting -> value for the flags that the user gave.
        paper: whether the method is that of the paper (:mod:`dsrl.pipeline.paper`).

    Raises:
        SettingsError, DataError: the text says what is wrong, and where.
    """
    written, flags = _read_choice(read_settings(config) if config else {}), _read_choice(flags)
    file = read_file_paths(written, config) if config else {}
    chosen = {**file, **flags}
    numbers, method = (PAPER_NUMBERS, fix_method(chosen)) if paper else ({}, {})
    base_model = chosen.get("base_model") or _find_task_model(chosen) or Settings.base_model
    recipe = {**resolve_model(base_model).recipe.settings, **find_trainer_settings(str(chosen.get("trainer", "")))}
    settings = resolve({"base_model": base_model}, numbers, recipe, file, flags, method)
    if config and not chosen.get("name"):
        # The name of the run is the same from every folder.
        named = resolve({"base_model": base_model}, numbers, recipe, written, flags, method)
        settings = replace(settings, name=named.name)
    check_task_settings(settings)
    return settings


def _read_choice(values: dict[str, Any]) -> dict[str, Any]:
    """Return settings in which ``--trainer-option choose=online`` is written as ``--selection online``, its other form.

    Raises:
        SettingsError: the option has another value, or both forms contradict each other.
    """
    options = dict(values.get("trainer_option", {}))
    if "choose" not in options:
        return values
    choice, selection = options.pop("choose"), values.get("selection", ONLINE)
    if choice != ONLINE or selection != ONLINE:
        raise SettingsError(
            f"--trainer-option choose={choice} must be choose=online, which is the same as --selection online"
            + (f", but --selection {selection} is given" if selection != ONLINE else "")
        )
    return {**values, "trainer_option": options, "selection": ONLINE}


def find_trainer_settings(trainer: str) -> dict[str, Any]:
    """Return the numbers that a trainer gives where the user gives none. They are stronger than those of a base model.

    Args:
        trainer: the value of ``--trainer``; empty for the usual one.

    Raises:
        PluginError: it gives a number that a base model may not give either (:mod:`dsrl.plugins.recipes`).
        SettingsError: a number is not possible.
    """
    if not trainer:
        return {}
    settings = {}
    for name, value in find_own_settings("trainer", trainer).items():
        place = f"the settings of the trainer {trainer!r}, {name}"
        if name not in RECIPE_SETTINGS:
            raise PluginError(f"{place}: a trainer may only give {', '.join(RECIPE_SETTINGS)}")
        settings[name] = convert(RECIPE_SETTINGS[name], value, place)
        check(RECIPE_SETTINGS[name], settings[name], place)
    return settings


def _find_task_model(chosen: dict[str, Any]) -> str:
    """Return the base model that the tasks name; empty if they name none, or if no task is chosen."""
    if not any(chosen.get("task", ())):
        return ""
    named = {name: value for name, value in chosen.items() if name in ("task", "task_option", "override")}
    settings = resolve(named)
    check_task_settings(settings)
    return find_base_model(settings)


@contextmanager
def open_run(context: RunContext, progress: Progress) -> Iterator[OpenRun]:
    """Check a run and open it for the length of a block; it continues from the results that it already has.

    Raises:
        DsrlError: something is wrong with the settings, the inputs, the plugins or the folder.
    """
    with (
        watch_hooks(context.settings.hook_timeout, context.folder, progress.note),
        collect_warnings(context.plugins, progress.note) as warnings,
    ):
        context = replace(context, test_items=check_inputs(context))
        store = RunStore(context.folder)
        try:
            context = _resolve_chat_template(context, store)
            run = OpenRun(context, store, progress, plugin_warnings=warnings)
            warnings.store = partial(store.add_event, "warning")
            for note in _record_settings(store, context):
                run.add_note(note)
            # Not before: to compute the fingerprint, all passage libraries are read. Without passages they do not matter.
            if context.settings.passages:
                context = replace(context, corpus_fingerprint=context.corpus.fingerprint())
            for note in record_inputs(store, context):
                run.add_note(note)
            context, note = _add_test_items(context)
            if note:
                run.add_note(note)
            for note in (*_describe_replaced_words(context), *_describe_unused_train(context)):
                run.add_note(note)
            if note := _describe_missing_items(context):
                run.add_note(note)
            if text := describe_foreign_task(context):
                run.add_warning(text, "attempted-0:model_tasks")
            yield replace(run, context=context)
        finally:
            warnings.save()
            store.close()


def _describe_missing_items(context: RunContext) -> str:
    """Return a sentence about the tasks that have no test set; empty if this command does not evaluate."""
    if context.test_items is None or not context.includes("evaluated"):
        return ""
    known = {item.task for item in context.test_items}
    missing = [task.name for key, task in context.tasks.items() if key not in known]
    if not missing:
        return ""
    tasks = f"the task {missing[0]} has" if len(missing) == 1 else f"the tasks {', '.join(missing)} have"
    return (
        f"not evaluated: {tasks} no test set. Give one with --dataset-path, now or later: the same command then "
        "evaluates the trained model"
    )


def _describe_replaced_words(context: RunContext) -> list[str]:
    """Return a sentence for each task whose description the user has replaced, while its answers stay as they were."""
    sentences = []
    for task in context.tasks.values():
        own = get_task_value(context.settings, "task_instruction", task.name)
        if own and not task.name.startswith("words:"):
            names = ", ".join(list_choices(task.plugin))
            choices = f" ({names})" if names else ""
            sentences.append(
                f"--task-instruction replaces the description of the task {task.name!r}; its answers{choices}, "
                "instructions, demonstrations, data and reward stay. For a task of your own, give --answer "
                "in place of --task"
            )
    return sentences


def _describe_unused_train(context: RunContext) -> list[str]:
    """Return a sentence for each data set whose train split this run does not use."""
    settings = context.settings
    if settings.demos_from_train or settings.eval_data == "train" or not context.includes("initial"):
        return []
    return [
        f"the train split of {task.dataset_path} is not used: --demos-from-train 3 takes demonstrations from it, and "
        "--eval-every 5 --eval-data train evaluates on it during the training"
        for task in context.tasks.values()
        if "train" in list_local_splits(task.dataset_path)
    ]


def _add_test_items(context: RunContext) -> tuple[RunContext, str]:
    """Load the test items for the comparison with the samples, also if this command does not evaluate.

    Returns:
        The context with the items, and a note for the user if they cannot be loaded: the evaluation needs them, but not
        this command.
    """
    settings = context.settings
    if context.test_items is not None or not settings.decontaminate or not context.includes("initial"):
        return context, ""
    try:
        items = load_all_items(context.tasks, context.settings.test_size)
    except DataError as error:
        return context, f"this command does not compare the samples with test items: {error}"
    return replace(context, test_items=items), ""


def _record_settings(store: RunStore, context: RunContext) -> list[str]:
    """Refuse other settings than those that the run was started with, and store them; return notes for the user."""
    settings, indexes = context.settings, context.workspace.indexes
    now = versions = _list_versions(context)
    notes = []
    # A run that failed before it made anything (because of a wrong model, say) may continue with other settings.
    if store.stages.has_reached("keywords"):
        before, now_given = (keep_paths(each, Path.cwd(), indexes) for each in (load_settings(store), settings))
        changed = differences(before, now_given)
        if changed:
            raise SettingsError(
                f"run {settings.name!r} was started with other settings ({'; '.join(changed)}). Give the settings that it "
                "was started with, or another --name for a new run"
            )
        versions = store.read_table("versions")
        updates = [
            f"{name} {versions.get(name, '(none)')} -> {now.get(name, '(none)')}"
            for name in {**versions, **now}
            if versions.get(name) != now.get(name)
        ]
        if updates:
            notes.append(f"versions have changed since this run began: {', '.join(updates)}")
    model = {"chat_template": "on" if context.is_chat else "off"} if context.includes("attempted") else {}
    kept = keep_paths(settings, store.folder, indexes)
    edited = store.keep_settings({**to_toml(kept), "versions": versions, "model": model})
    if edited:
        notes.append(
            f"{store.settings_file} was edited, but it is only a copy of the settings of this run; it was written again, "
            f"and the edited file is now {edited}"
        )
    return notes


def _resolve_chat_template(context: RunContext, store: RunStore) -> RunContext:
    """Decide whether the base model is asked through its chat template.

    Once the base model was asked, the decision stays.

    Raises:
        SettingsError: the user demands a template, and the model has none or the sampler cannot use it.
    """
    if not context.includes("attempted"):
        return context
    is_chat = (
        store.read_table("model").get("chat_template") == "on"
        if store.stages.has_reached("attempted")
        else decide_chat(context.settings, context.sampler, context.base_model)
    )
    tasks = {
        key: replace(task, definition=replace(task.definition, is_chat=is_chat)) for key, task in context.tasks.items()
    }
    return replace(context, tasks=tasks)


def _list_versions(context: RunContext) -> dict[str, str]:
    versions = {"dsrl": dsrl.__version__, "python": platform.python_version()}
    versions |= {plugin.distribution: plugin.version for plugin in context.plugins}
    for library in _LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return versions
