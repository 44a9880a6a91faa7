"""The task of each item in a run over several tasks: what a trainer gets as ``task``, and how it finds an item's reward.

In such a run, a trainer must not use the reward of one task for every item: it would train on wrong rewards, and nobody
would see it. So the argument ``task`` is then a :class:`SeveralTasks`, which has no hooks of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from dsrl.errors import PluginError, SettingsError
from dsrl.types import BoundPlugin, TrainItem

if TYPE_CHECKING:
    from dsrl.plugins.binding import Plugin
    from dsrl.plugins.specs import TaskSpec, TrainerSpec


class SeveralTasks:
    """Stands for the argument ``task`` of a trainer in a run over several tasks. Reading its hooks is an error.

    Args:
        tasks: the tasks by the name that items have.
    """

    def __init__(self, tasks: Mapping[str, BoundPlugin[TaskSpec]]) -> None:
        self._tasks = dict(tasks)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)  # copying and pickling look for such names
        raise PluginError(
            f"the trainer reads task.{name} in a run over several tasks ({', '.join(self._tasks)}), where each item has a "
            "task of its own; it must call dsrl.get_task(task, item)"
        )


def get_task(task: Any, item: TrainItem) -> BoundPlugin[TaskSpec]:
    """Return the task of an item; its reward is ``get_task(task, item).hook.reward(...)``.

    Args:
        task: the argument ``task`` of the trainer's hook ``train``.
        item: an item of its job.

    Raises:
        PluginError: the item belongs to none of the tasks of the run.
    """
    if isinstance(task, SeveralTasks):
        if item.task in task._tasks:
            return task._tasks[item.task]
        names = ", ".join(task._tasks)
    else:
        own: BoundPlugin[TaskSpec] = task
        if not item.task or item.task == own.name:
            return own
        names = own.name
    raise PluginError(
        f"the item {item.id!r} has the task {item.task!r}, which is none of the tasks of the run ({names})"
    )


def list_tasks(task: Any) -> dict[str, BoundPlugin[TaskSpec]]:
    """Return the tasks of a run by the name that items have; it is the empty text in a run of one task.

    A worker process binds each again with its ``ref``.

    Args:
        task: the argument ``task`` of the trainer's hook ``train``.
    """
    return dict(task._tasks) if isinstance(task, SeveralTasks) else {"": task}


def join_tasks(tasks: Mapping[str, BoundPlugin[TaskSpec]]) -> Any:
    """Return what a trainer gets as ``task``: the only task of a run, or a :class:`SeveralTasks`."""
    return SeveralTasks(tasks) if len(tasks) > 1 else next(iter(tasks.values()))


def check_trainer_takes_tasks(trainer: Plugin[TrainerSpec], tasks: Mapping[str, Any]) -> None:
    """Refuse a trainer that knows only one task in a run over several.

    Args:
        trainer: the bound trainer.
        tasks: the tasks of the run, by name.

    Raises:
        SettingsError: the trainer does not say that it finds the task of each item.
    """
    if len(tasks) > 1 and not (trainer.implements("takes_several_tasks") and trainer.hook.takes_several_tasks()):
        raise SettingsError(
            f"the trainer {trainer.name!r} of {trainer.distribution} {trainer.version} trains on one task only, and this "
            f"run has {len(tasks)}: {', '.join(tasks)}. Give another --trainer, or one --task"
        )
