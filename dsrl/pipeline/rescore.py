"""Stored answers to test items are graded again, after the task's parser or reward was changed. Nothing is generated."""

from __future__ import annotations

from dataclasses import dataclass

from dsrl.errors import DataError
from dsrl.pipeline.hook_watch import watch_hooks
from dsrl.pipeline.progress import Progress
from dsrl.pipeline.run_tasks import bind_tasks, list_judged
from dsrl.pipeline.summary import load_settings
from dsrl.plugins.scoring import compute_reward, grade
from dsrl.storage.evaluations import Evaluation
from dsrl.storage.run_store import RunStore


@dataclass(frozen=True, slots=True)
class Rescore:
    """The grades of one model, before and now.

    Attributes:
        model: ``base``, ``trained`` or ``teacher``.
        items: number of answers.
        before, now: share of right answers.
        changed: number of answers that are read differently, or graded differently.
        reward: mean reward of the answers by the task's present code.
    """

    model: str
    items: int
    before: float
    now: float
    changed: int
    reward: float


def rescore(store: RunStore, progress: Progress) -> list[Rescore]:
    """Grade the stored answers to test items by the present code of the tasks, and store the new grades.

    The labels of the test items stay as they were read when the items were loaded.

    Args:
        store: the run, opened for work.
        progress: what the user sees.

    Raises:
        DataError: there are no answers, or a judge has graded them: it would have to be asked again.
        DsrlError: a hook of a task failed, or worked on one text for too long.
    """
    settings = load_settings(store)
    tasks = bind_tasks(settings)
    if judged := list_judged(tasks):
        raise DataError(f"the answers to the task {tasks[judged[0]].name} are judged, and --rescore asks no judge")
    items, results = store.items(), []
    with watch_hooks(settings.hook_timeout, store.folder, progress.note):
        for model in ("base", "trained", "teacher"):
            before = store.read_evaluations(model)
            if not before:
                continue
            now, rewards = [], []
            for each in before:
                item = items[each.item]
                task = tasks[item.task].plugin
                now.append(Evaluation(model, each.item, each.output, *grade(task, each.output, item.label, item.input)))
                rewards.append(compute_reward(task, each.output, item.label, item.input))
            results.append(
                Rescore(
                    model=model,
                    items=len(now),
                    before=sum(each.correct for each in before) / len(before),
                    now=sum(each.correct for each in now) / len(now),
                    changed=sum(old != new for old, new in zip(before, now, strict=True)),
                    reward=sum(rewards) / len(rewards),
                )
            )
            store.replace_grades(now)
    if not results:
        raise DataError("the run has no answers to test items yet; evaluate it first")
    for result in results:
        if result.changed:
            store.add_event(
                "note",
                f"--rescore has graded the answers of the {result.model} model again: {result.before:.1%} before, "
                f"{result.now:.1%} now; {result.changed} of {result.items} are read or graded differently",
            )
    return results
