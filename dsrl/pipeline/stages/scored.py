"""Scores: the base model's pass rate over L attempts (paper, Equation 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dsrl.pipeline.instructor import Definition
from dsrl.pipeline.stages.attempted import grade, sample_texts
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import SamplerSpec, TaskSpec
from dsrl.types import Answer, Sample, Score


async def score(
    sampler: Plugin[SamplerSpec],
    definition: Definition,
    task: Plugin[TaskSpec],
    samples: Sequence[Sample],
    attempts: int,
    temperature: float,
    max_tokens: int,
    seed: int,
) -> list[tuple[Score, Mapping[Answer, tuple[int, bool]]]]:
    """Let the base model answer each sample ``attempts`` times.

    Returns:
        For each sample its score and the distinct answers: answer -> (times, whether right).
    """
    prompts = [definition.prompt(sample.input) for sample in samples]
    texts = await sample_texts(sampler, prompts, attempts, temperature, max_tokens, seed)
    scored: list[tuple[Score, Mapping[Answer, tuple[int, bool]]]] = []
    for sample, outputs in zip(samples, texts, strict=True):
        graded: dict[str, tuple[Answer, bool]] = {}  # attempts repeat each other; each text is graded once
        answers: dict[Answer, tuple[int, bool]] = {}
        for output in outputs:
            if output not in graded:
                graded[output] = grade(task, output, str(sample.label), sample.input)
            answer, right = graded[output]
            answers[answer] = (answers.get(answer, (0, False))[0] + 1, right)
        passed = sum(times for times, right in answers.values() if right)
        scored.append((Score(sample.id, attempts, passed, equation_7(passed, attempts)), answers))
    return scored


def equation_7(passed: int, attempts: int) -> float:
    """Give the score: the pass rate; 1 for a sample that was never solved."""
    return passed / attempts if passed else 1.0
