"""How an output is scored: the one way of the pipeline, of the evaluation, of trainers and of ``dsrl tasks check``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsrl.text import replace_surrogates
from dsrl.types import UNREADABLE, Answer

if TYPE_CHECKING:
    from dsrl.plugins.specs import TaskSpec
    from dsrl.types import BoundPlugin


def grade(task: BoundPlugin[TaskSpec], output: str, label: str, input: str) -> tuple[Answer, bool]:
    """Read the answer in an output; return it, and whether it is right. An unreadable answer is wrong.

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
    """Return the reward of an output: a finite number, or a :class:`dsrl.Reward` if the task names the parts of it.

    Args:
        task: the bound task.
        output: the text of a model.
        label: the right canonical answer.
        input: the input that the output answers.

    Raises:
        PluginError: the hook failed, or returned something else than a finite number.
    """
    return task.hook.reward(output=replace_surrogates(output), label=label, input=input)
