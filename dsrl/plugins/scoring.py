"""How an output is scored: the one way of the pipeline, of the evaluation, of trainers and of ``dsrl tasks check``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dsrl.answers.places import read_whole_answer
from dsrl.plugins.several_tasks import get_task, is_judged, judge_answers
from dsrl.text import replace_surrogates
from dsrl.types import RIGHT_SCORE, UNREADABLE, Answer, Reward, TrainItem

if TYPE_CHECKING:
    from dsrl.plugins.specs import TaskSpec
    from dsrl.types import BoundPlugin


def grade(task: BoundPlugin[TaskSpec], output: str, label: str, input: str) -> tuple[Answer, bool]:
    """Read the answer in an output by the rules of a task; return it, and whether it is right.

    An unreadable answer is wrong. A judged task has no such rules; see :func:`grade_all`.

    Args:
        task: the bound task.
        output: the text of a model.
        label: the right canonical answer.
        input: the input that the output answers.

    Raises:
        PluginError: a hook of the task failed, or returned something that its contract does not allow.
    """
    answer = task.hook.process_prediction(output=replace_surrogates(output), input=input)
    return answer, answer is not UNREADABLE and bool(task.hook.eval(prediction=answer, label=label, input=input))


def compute_reward(task: BoundPlugin[TaskSpec], output: str, label: str, input: str) -> float:
    """Return the reward of an output by the rules of a task.

    It is a finite number, or a :class:`dsrl.Reward` if the task names the parts of it. A judged task has no such rules; see
    :func:`compute_rewards`.

    Args:
        task: the bound task.
        output: the text of a model.
        label: the right canonical answer.
        input: the input that the output answers.

    Raises:
        PluginError: the hook failed, or returned something else than a finite number.
    """
    return task.hook.reward(output=replace_surrogates(output), label=label, input=input)


def compute_rewards(task: Any, answers: Sequence[tuple[TrainItem, str]]) -> list[float]:
    """Return the rewards of outputs, in their order, each by the rules or by the judge of its item's task.

    Give it all answers of a step at once: a judge works on many at a time. The reward of a judge is a :class:`dsrl.Reward`
    with the part ``judge``.

    Args:
        task: the argument ``task`` of the trainer's hook ``train``.
        answers: pairs of an item of the job and the text of a model.

    Raises:
        DsrlError: a hook of a task failed, an item belongs to none of the tasks, or the judge cannot go on (the budget is
            reached, the provider cannot be asked). Let the error pass; the same command continues from the checkpoint.
    """
    scores = iter(judge_answers(task, answers))
    return [
        _make_judged_reward(next(scores))
        if is_judged(task, item)
        else compute_reward(get_task(task, item), output, item.label, item.input)
        for item, output in answers
    ]


def _make_judged_reward(score: float) -> Reward:
    return Reward(score, {"judge": score})


def grade_all(task: Any, answers: Sequence[tuple[TrainItem, str]]) -> list[tuple[Answer, bool]]:
    """Return the answers in outputs, and whether each is right, by the rules or by the judge of its item's task.

    The answer of a judged task is the whole output without its thinking part. It is right if its score is at least 0.5.

    Args:
        task: the argument ``task`` of the trainer's hook ``train``.
        answers: pairs of an item of the job and the text of a model.

    Raises:
        DsrlError: as in :func:`compute_rewards`.
    """
    scores = iter(judge_answers(task, answers))
    return [
        (read_whole_answer(replace_surrogates(output)), next(scores) >= RIGHT_SCORE)
        if is_judged(task, item)
        else grade(get_task(task, item), output, item.label, item.input)
        for item, output in answers
    ]
