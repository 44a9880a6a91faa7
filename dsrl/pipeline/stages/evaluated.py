"""Evaluation: base and trained model on the same test items, compared in pairs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from dsrl.errors import DataError
from dsrl.pipeline.instructor import Definition
from dsrl.pipeline.stages.attempted import grade, sample_texts
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import SamplerSpec, TaskSpec
from dsrl.storage.evaluations import Evaluation
from dsrl.types import UNREADABLE, Example


def load_items(task: Plugin[TaskSpec], path: str, size: int) -> list[tuple[str, str]]:
    """Load the test split as (input, canonical label).

    Args:
        path: ``--dataset-path``; empty for the task's own.
        size: take the first so many; 0 for all.

    Raises:
        DataError: there is no test data, or the gold answer of an item cannot be read.
    """
    examples: Iterable[Example] | None = task.hook.load_dataset(path=path, split="test")
    if examples is None:
        raise DataError(f"task {task.name!r} has no test set of its own; give one with --dataset-path")
    items: list[tuple[str, str]] = []
    for number, example in enumerate(examples, 1):
        if size and len(items) == size:
            break
        label = task.hook.process_label(output=example.output, input=example.input)
        if label is UNREADABLE:
            raise DataError(
                f"test item {number} of {path or task.name}: no answer can be read in the gold output "
                f"{example.output[-80:]!r}"
            )
        items.append((example.input, str(label)))
    if not items:
        raise DataError(f"the test set {path or 'of task ' + task.name} is empty")
    return items


async def evaluate(
    sampler: Plugin[SamplerSpec],
    definition: Definition,
    task: Plugin[TaskSpec],
    model: str,
    items: Sequence[tuple[int, str, str]],
    max_tokens: int,
) -> list[Evaluation]:
    """Let a model answer test items (number, input, label) greedily."""
    prompts = [definition.prompt(input) for _, input, _ in items]
    texts = await sample_texts(sampler, prompts, n=1, temperature=0.0, max_tokens=max_tokens, seed=0)
    evaluated = []
    for (number, input, label), (text,) in zip(items, texts, strict=True):
        answer, correct = grade(task, text, label, input)
        evaluated.append(Evaluation(model, number, text, answer, correct))
    return evaluated


def paired_gain(base: Mapping[int, bool], trained: Mapping[int, bool]) -> tuple[float, tuple[float, float]]:
    """Give the gain in accuracy and its 95% interval for two models on the same items.

    The interval is that of Bonett and Price (2012) for paired proportions: Wald's on the two counts of disagreement with
    one added to each, which holds its level for small counts, also where the models never disagree.

    Returns:
        Trained minus base, and (low, high); all between -1 and 1.
    """
    if base.keys() != trained.keys() or not base:
        raise ValueError("both models must have answered the same items")
    n = len(base)
    won = sum(trained[item] and not right for item, right in base.items())
    lost = sum(right and not trained[item] for item, right in base.items())
    up, down = (won + 1) / (n + 2), (lost + 1) / (n + 2)
    half = 1.959964 * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    return (won - lost) / n, (max(-1.0, up - down - half), min(1.0, up - down + half))
