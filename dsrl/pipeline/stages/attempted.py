"""Attempts: the base model answers greedily; a sample is solved or unsolved (paper 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

from dsrl.errors import PluginError
from dsrl.pipeline.instructor import Definition
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import SamplerSpec, TaskSpec
from dsrl.storage.attempts import Attempt
from dsrl.types import UNREADABLE, Answer, Prompt, Sample


async def sample_texts(
    sampler: Plugin[SamplerSpec], prompts: Sequence[Prompt], n: int, temperature: float, max_tokens: int, seed: int
) -> list[list[str]]:
    """Let the base model complete prompts; there are ``n`` for each prompt.

    Raises:
        PluginError: the sampler gave something else.
    """
    texts = await sampler.hook.sample(
        prompts=prompts,
        n=n,
        temperature=temperature,
        top_p=1.0,
        max_tokens=max_tokens,
        seed=seed,
        first=0,
        adapter=None,
    )
    found = [list(completions) for completions in texts]
    if len(found) != len(prompts) or any(len(completions) != n for completions in found):
        raise PluginError(
            f"sampler {sampler.name!r} of {sampler.distribution} did not give {n} texts for each of {len(prompts)} prompts"
        )
    return found


async def attempt(
    sampler: Plugin[SamplerSpec],
    definition: Definition,
    task: Plugin[TaskSpec],
    samples: Sequence[Sample],
    max_tokens: int,
) -> list[Attempt]:
    """Let the base model answer each verified sample once, at temperature 0."""
    prompts = [definition.prompt(sample.input) for sample in samples]
    texts = await sample_texts(sampler, prompts, n=1, temperature=0.0, max_tokens=max_tokens, seed=0)
    attempts = []
    for sample, (text,) in zip(samples, texts, strict=True):
        answer, solved = grade(task, text, str(sample.label), sample.input)
        attempts.append(Attempt(sample.id, text, answer, solved))
    return attempts


def grade(task: Plugin[TaskSpec], output: str, label: str, input: str) -> tuple[Answer, bool]:
    """Read the answer in an output and say whether it is right; an unreadable one is not."""
    answer = task.hook.process_prediction(output=output, input=input)
    return answer, answer is not UNREADABLE and task.hook.eval(prediction=answer, label=label, input=input)
