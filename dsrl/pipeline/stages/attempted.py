"""Attempts: the base model answers each sample greedily, which shows whether it solves the sample (paper 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

from dsrl.pipeline.sampling import AnsweringModel
from dsrl.storage.attempts import Attempt
from dsrl.types import Sample


async def attempt(model: AnsweringModel, samples: Sequence[Sample]) -> list[Attempt]:
    """Let the base model answer each verified sample once, at temperature 0."""
    texts = [text for (text,) in await model.answer(samples)]
    graded = await model.grade([(sample, text, str(sample.label)) for sample, text in zip(samples, texts, strict=True)])
    return [
        Attempt(sample.id, text, answer, solved)
        for sample, text, (answer, solved) in zip(samples, texts, graded, strict=True)
    ]
