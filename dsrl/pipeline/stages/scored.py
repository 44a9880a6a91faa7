"""Scores: the base model's pass rate over L attempts (paper, Equation 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dsrl.pipeline.sampling import AnsweringModel
from dsrl.types import Answer, Sample, Score

#: A score, and the distinct answers behind it: answer -> (times, whether it is right).
Scored = tuple[Score, Mapping[Answer, tuple[int, bool]]]


async def score(
    model: AnsweringModel, samples: Sequence[Sample], attempts: int, temperature: float, seed: int, first: int = 0
) -> list[Scored]:
    """Let the base model answer each sample ``attempts`` times.

    If the sampler numbers its attempts, samples with the same prompt share them: an attempt then depends on the prompt, the
    seed and its number only, whatever else is asked in the same call.

    Args:
        model: the base model.
        samples: the samples; all have a label.
        attempts: number of attempts at each.
        temperature: of the attempts.
        seed: of the attempts.
        first: number of the first attempt; above 0 only if the sampler numbers its attempts.

    Returns:
        For each sample the score of these attempts, and their distinct answers.
    """
    places = {sample.id: (sample.task, sample.input) if model.numbers_attempts else sample.id for sample in samples}
    questions = {places[sample.id]: sample for sample in reversed(samples)}
    asked = list(reversed(questions.values()))
    answered = await model.answer(asked, attempts, temperature, seed, first)
    by_question = {places[sample.id]: texts for sample, texts in zip(asked, answered, strict=True)}
    texts = [by_question[places[sample.id]] for sample in samples]
    # Many attempts are equal; each text is graded once.
    distinct = [
        (sample, text) for sample, outputs in zip(samples, texts, strict=True) for text in dict.fromkeys(outputs)
    ]
    grades = await model.grade([(sample, text, str(sample.label)) for sample, text in distinct])
    graded = {(sample.id, text): grade for (sample, text), grade in zip(distinct, grades, strict=True)}
    scores: list[Scored] = []
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
