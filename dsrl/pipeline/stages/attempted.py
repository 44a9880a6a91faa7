"""Attempts: the base model answers each sample greedily, which shows whether it solves the sample (paper 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

from dsrl.pipeline.sampling import AnsweringModel
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import TaskSpec
from dsrl.storage.attempts import Attempt
from dsrl.types import UNREADABLE, Answer, Sample


async def attempt(model: AnsweringModel, samples: Sequence[Sample]) -> list[Attempt]:
    """Let the base model answer each verified sample once, at temperature 0."""
    texts = await model.answer([sample.input for sample in samples])
    attempts = []
    for sample, (text,) in zip(samples, texts, strict=True):
        answer, solved = grade(model.task, text, str(sample.label), sample.input)
        attempts.append(Attempt(sample.id, text, answer, solved))
    return attempts


def grade(task: Plugin[TaskSpec], output: str, label: str, input: str) -> tuple[Answer, bool]:
    """Read the answer in an output; return it, and whether it is right. An unreadable answer is wrong."""
    answer = task.hook.process_prediction(output=output, input=input)
    return answer, answer is not UNREADABLE and task.hook.eval(prediction=answer, label=label, input=input)
