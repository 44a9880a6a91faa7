"""Trainings that were repeated with several seeds: their mean, their spread, and the difference between two such groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev, variance


def compute_accuracy(answers: Mapping[int, bool]) -> float:
    """Return the share of right answers: item -> whether the answer is right."""
    return sum(answers.values()) / len(answers)


def compute_spread(accuracies: Sequence[float]) -> float | None:
    """Return the standard deviation of accuracies over the seeds; None if there is one seed only."""
    return stdev(accuracies) if len(accuracies) > 1 else None


def compute_repeated_gain(
    first: Sequence[Mapping[int, bool]], second: Sequence[Mapping[int, bool]]
) -> tuple[float, tuple[float, float]]:
    """Compute how much better a second group of models is than a first, and the 95% interval, on the same items.

    Each item has a difference: the share of the second group that answers it rightly, minus that of the first. Two items
    are added, with the differences 1 and -1. With one model in each group, the interval is therefore that of
    :func:`dsrl.pipeline.stages.evaluated.compute_gain` (Bonett and Price 2012). With several models, the variance of the
    mean of each group over its seeds is added, because other seeds would give other models.

    Args:
        first, second: for each model, item -> whether the answer is right.

    Raises:
        ValueError: a group is empty, or the models have not answered the same items.
    """
    if not first or not second or not first[0] or any(model.keys() != first[0].keys() for model in (*first, *second)):
        raise ValueError("all models must have answered the same items")
    differences = [fmean(model[item] for model in second) - fmean(model[item] for model in first) for item in first[0]]
    n = len(differences)
    centre = sum(differences) / (n + 2)
    of_items = ((sum(d * d for d in differences) + 2) / (n + 2) - centre**2) / (n + 2)
    of_seeds = sum(
        variance([compute_accuracy(model) for model in group]) / len(group)
        for group in (first, second)
        if len(group) > 1
    )
    half = 1.959964 * math.sqrt(of_items + of_seeds)
    return fmean(differences), (max(-1.0, centre - half), min(1.0, centre + half))
