"""Scores: the base model's pass rate over L attempts (paper, Equation 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dsrl.pipeline.sampling import AnsweringModel
from dsrl.types import Answer, Sample, Score


async def score(
    model: AnsweringModel, samples: Sequence[Sample], attempts: int, temperature: float, seed: int
) -> list[tuple[Score, Mapping[Answer, tuple[int, bool]]]]:
    """Let the base model answer each sample ``attempts`` times.

    Returns:
        For each sample its score and the distinct answers: answer -> (times, whether it is right).
    """
    texts = await model.answer(samples, attempts, temperature, seed)
    # Many attempts are equal; each text is graded once.
    distinct = [
        (sample, text) for sample, outputs in zip(samples, texts, strict=True) for text in dict.fromkeys(outputs)
    ]
    grades = await model.grade([(sample, text, str(sample.label)) for sample, text in distinct])
    graded = {(sample.id, text): grade for (sample, text), grade in zip(distinct, grades, strict=True)}
    scores: list[tuple[Score, Mapping[Answer, tuple[int, bool]]]] = []
    for sample, outputs in zip(samples, texts, strict=True):
        answers: dict[Answer, tuple[int, bool]] = {}
        for output in outputs:
            answer, right = graded[sample.id, output]
            answers[answer] = (answers.get(answer, (0, False))[0] + 1, right)
        passed = sum(times for times, right in answers.values() if right)
        scores.append((Score(sample.id, attempts, passed, compute_score(passed, attempts)), answers))
    return scores


def compute_score(passed: int, attempts: int) -> float:
    """Compute the score of Equation 7: the pass rate, or 1 for a sample that was never solved."""
    return passed / attempts if passed else 1.0
