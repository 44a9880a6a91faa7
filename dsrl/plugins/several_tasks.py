"""The task of each item: what a trainer gets as ``task`` in a run over several tasks, or with a judged task.

In such a run, a trainer must not use the reward of one task for every item: it would train on wrong rewards, and nobody
would see it. The same holds for a judged task, whose reward comes from a teacher and not from a hook. So the argument
``task`` is then a :class:`SeveralTasks`, which has no hooks of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from dsrl.errors import PluginError, SettingsError
from dsrl.types import BoundPlugin, TrainItem

if TYPE_CHECKING:
    from dsrl.plugins.binding import Plugin
    from dsrl.plugins.specs import TaskSpec, TrainerSpec

#: Returns the scores, 0 to 1, of outputs for items of judged tasks, in their order.
JudgeAnswers = Callable[[Sequence[tuple[TrainItem, str]]], Sequence[float]]


class SeveralTasks:
    """Stands for the argument ``task`` of a trainer in a run over several tasks, or with a judged task.

    Reading its hooks is an error. With a judged task it cannot be pickled, because a worker process cannot ask the judge.

    Args:
        tasks: the tasks by the name that items have.
        judged: the names of those that are judged.
        judge: judges outputs of these; it is called only if there are some.
    """

    def __init__(
        self,
        tasks: Mapping[str, BoundPlugin[TaskSpec]],
        judged: Collection[str] = (),
        judge: JudgeAnswers | None = None,
    ) -> None:
        self._tasks, self._judged, self._judge = dict(tasks), frozenset(judged), judge

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)  # copying and pickling look for such names
        if self._judged:
            raise PluginError(
                f"the trainer reads task.{name} in a run with a judged task ({self._name_judged()}), whose reward "
                "comes from a teacher; it must call dsrl.compute_rewards(task, answers)"
            )
        raise PluginError(
            f"the trainer reads task.{name} in a run over several tasks ({', '.join(self._tasks)}), where each item has a "
            "task of its own; it must call dsrl.compute_rewards(task, answers), or dsrl.get_task(task, item)"
        )

    def __reduce__(self) -> Any:
        self._refuse_worker()
        return type(self), (self._tasks,)

    def _refuse_worker(self) -> None:
        if self._judged:
            raise PluginError(
                f"the trainer hands the judged task {self._name_judged()} to a worker process, which cannot reach the "
                "ledger and the teacher behind it; it must call dsrl.compute_rewards(task, answers) in its own process"
            )

    def _name_judged(self) -> str:
        return ", ".join(self._tasks[name].name for name in self._tasks if name in self._judged)


def get_task(task: Any, item: TrainItem) -> BoundPlugin[TaskSpec]:
    """Return the task of an item; its reward is ``get_task(task, item).hook.reward(...)``.

    :func:`dsrl.compute_rewards` works for judged tasks too.

    Args:
        task: the argument ``task`` of the trainer's hook ``train``.
        item: an item of its job.

    Raises:
        PluginError: the item belongs to none of the tasks of the run, or its task is judged, so its hooks give no reward.
    """
    if isinstance(task, SeveralTasks):
        if item.task in task._judged:
            raise PluginError(
                f"the trainer asks for the hooks of the task {task._tasks[item.task].name!r}, which is judged: its reward "
                "comes from a teacher; it must call dsrl.compute_rewards(task, answers)"
            )
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

    Raises:
        PluginError: a task is judged, so no worker process can compute its reward.
    """
    if not isinstance(task, SeveralTasks):
        return {"": task}
    task._refuse_worker()
    return dict(task._tasks)


def judge_answers(task: Any, answers: Sequence[tuple[TrainItem, str]]) -> Sequence[float]:
    """Return the scores, 0 to 1, of those answers whose task is judged, in their order."""
    judged = [(item, output) for item, output in answers if is_judged(task, item)]
    return task._judge(judged) if judged else ()


def is_judged(task: Any, item: TrainItem) -> bool:
    """Return whether the task of an item is judged."""
    return isinstance(task, SeveralTasks) and item.task in task._judged


def join_tasks(
    tasks: Mapping[str, BoundPlugin[TaskSpec]], judged: Collection[str] = (), judge: JudgeAnswers | None = None
) -> Any:
    """Return what a trainer gets as ``task``: the only task of a run, or a :class:`SeveralTasks`.

    Args:
        tasks: the tasks by the name that items have.
        judged: the names of those that are judged.
        judge: judges outputs of these.
    """
    return SeveralTasks(tasks, judged, judge) if len(tasks) > 1 or judged else next(iter(tasks.values()))


def check_trainer_takes_tasks(
    trainer: Plugin[TrainerSpec], tasks: Mapping[str, Any], judged: Collection[str] = ()
) -> None:
    """Refuse a trainer that knows only one task in a run over several, and one that cannot get the rewards of a judge.

    Args:
        trainer: the bound trainer.
        tasks: the tasks of the run, by name.
        judged: what the user calls those that are judged.

    Raises:
        SettingsError: the trainer does not say that it can train on these tasks.
    """
    title = f"the trainer {trainer.name!r} of {trainer.distribution} {trainer.version}"
    if len(tasks) > 1 and not (trainer.implements("takes_several_tasks") and trainer.hook.takes_several_tasks()):
        raise SettingsError(
            f"{title} trains on one task only, and this run has {len(tasks)}: {', '.join(tasks)}. Give another "
            "--trainer, or one --task"
        )
    if judged and not (trainer.implements("takes_judged_tasks") and trainer.hook.takes_judged_tasks()):
        raise SettingsError(
            f"{title} cannot train on the judged task {', '.join(judged)}: it does not say (with its hook "
            "takes_judged_tasks) that it asks the judge for rewards, whom its workers may not reach. Give another --trainer"
        )
