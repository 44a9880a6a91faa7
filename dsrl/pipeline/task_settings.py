"""The settings of each task in a run over several tasks: which value belongs to which task.

In a run of one task, the settings of the table ``task`` are that task's. In a run over several, each value names its task:
``--dataset-path gsm8k=test.jsonl``, ``--task-option math.level=3``. A task file is named without its folder
(:func:`name_task`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from dsrl.errors import SettingsError
from dsrl.plugins.task_files import is_task_file
from dsrl.plugins.words_task import NAME as WORDS
from dsrl.settings import Settings

#: Settings of which each task has its own values, and whether a task can have more than one.
TASK_SETTINGS = {
    "task_instruction": False,
    "rubric": False,
    "dataset_path": False,
    "input_column": True,
    "output_column": False,
    "demos": False,
    "domain": True,
    "override": True,
}


def name_task(task: str) -> str:
    """Return what a task is called beside its samples and values in a run over several tasks.

    A task file is called by its name without its folder, so that the run holds in another folder, too.
    """
    return os.path.basename(task) if is_task_file(task) else task


def split_owner(text: str, separator: str, tasks: Sequence[str]) -> tuple[str, str]:
    """Split ``TASK=VALUE`` or ``TASK.KEY``.

    Args:
        text: what the user wrote. A task file may stand there with any folder.
        separator: what stands behind the task.
        tasks: the tasks of the run.

    Returns:
        What the task is called (:func:`name_task`), and the rest; the first is empty if no task of the run stands there.
    """
    found = []
    for name in map(name_task, tasks):
        folder, owner, rest = text.partition(name + separator)
        if owner and rest and (not folder or (folder.endswith("/") and "=" not in folder and is_task_file(name))):
            found.append((name, rest))
    # The name of one task can begin with the name of another.
    return max(found, key=lambda pair: len(pair[0]), default=("", text))


def get_task_values(settings: Settings, name: str, task: str) -> tuple[str, ...]:
    """Return the values of a setting for one task of the run.

    Args:
        settings: the settings of the run.
        name: one of :data:`TASK_SETTINGS`.
        task: the name of the task.

    Raises:
        SettingsError: it is not clear which task a value belongs to, or a task has too many values.
    """
    values: tuple[str, ...] = getattr(settings, name)
    if len(settings.task) > 1:
        pairs = (_split(value, "=", name, settings.task) for value in values)
        values = tuple(rest for owner, rest in pairs if owner == name_task(task))
    if len(values) > 1 and not TASK_SETTINGS[name]:
        raise SettingsError(f"{_get_flag(name)} is given more than once for the task {task!r}; give one value")
    return values


def get_task_value(settings: Settings, name: str, task: str) -> str:
    """Return the only value of a setting for one task; empty if there is none. See :func:`get_task_values`."""
    return next(iter(get_task_values(settings, name, task)), "")


def get_task_options(settings: Settings, task: str) -> Mapping[str, Any]:
    """Return the options of one task of the run.

    With several tasks, the user wrote ``TASK.KEY=VALUE``, or in a settings file a table for each task.

    Raises:
        SettingsError: it is not clear which task an option belongs to.
    """
    if len(settings.task) == 1:
        return settings.task_option
    options: dict[str, Any] = {}
    for key, value in settings.task_option.items():
        if isinstance(value, Mapping) and name_task(key) in map(name_task, settings.task):
            options |= value if name_task(key) == name_task(task) else {}
            continue
        owner, rest = _split(key, ".", "task_option", settings.task)
        if owner == name_task(task):
            options[rest] = value
    return options


def check_task_settings(settings: Settings) -> None:
    """Refuse tasks that are named twice or not described, and values of which it is not clear which task they belong to.

    Raises:
        SettingsError: names the flag, and says how to write it.
    """
    tasks = settings.task
    if repeated := [task for task in dict.fromkeys(tasks) if tasks.count(task) > 1]:
        raise SettingsError(f"--task {repeated[0]} is given twice; name each task once")
    names = [name_task(task) for task in tasks]
    if repeated := [task for task, name in zip(tasks, names, strict=True) if names.count(name) > 1]:
        raise SettingsError(
            f"the task files {' and '.join(repeated)} have the same name, by which a run over several tasks knows them; "
            "rename one of them"
        )
    for task in tasks:
        if task == WORDS:
            raise SettingsError(
                'the task "words" is described by you: give --task-instruction "..." and --answer FORM:CHOICES, for example '
                "--answer tag:yes,no"
            )
        get_task_options(settings, task)
        for name in TASK_SETTINGS:
            get_task_values(settings, name, task)


def _split(text: str, separator: str, name: str, tasks: Sequence[str]) -> tuple[str, str]:
    """Split ``TASK=VALUE`` or ``TASK.KEY`` into what the task is called and the rest."""
    owner, rest = split_owner(text, separator, tasks)
    if not owner:
        flag, form = _get_flag(name), "TASK.KEY=VALUE" if separator == "." else "TASK=VALUE"
        raise SettingsError(
            f"{flag} {text!r}: it is not clear which task this is for. In a run over several tasks, write {flag} {form}; "
            f"TASK is one of {', '.join(map(name_task, tasks))}"
        )
    return owner, rest


def _get_flag(name: str) -> str:
    return "--" + name.replace("_", "-")
