"""Runs beside each other: the same test items, paired differences, and what each run has cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb, erfc, sqrt
from typing import Any

from dsrl.errors import DataError
from dsrl.pipeline.repeats import read_repeats
from dsrl.pipeline.spread import compute_accuracy, compute_repeated_gain, compute_spread
from dsrl.pipeline.summary import load_result
from dsrl.pipeline.workspace import Workspace
from dsrl.storage.evaluations import EvalItem
from dsrl.storage.run_store import RunStore


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One of the runs.

    Attributes:
        run, task: names of the run and of its task.
        base_accuracy, trained_accuracy: share of right answers; None if the model was not evaluated.
        teacher_accuracy: the same of the teacher (``dsrl eval --teacher``).
        gain_ci95: bounds of the paired 95% interval of trained minus base.
        seeds: number of trainings on the same samples (``--repeats``), 1 if it was not repeated; 0 if there is no trained
            model that was evaluated.
        mean_accuracy, spread: mean and standard deviation of the accuracies of these trainings, over all test items; None
            if there are not several.
        cost_usd: None if the cost of a call is not known.
        seconds: time of the whole run.
        tokens: tokens of the teachers, in and out.
    """

    run: str
    task: str
    base_accuracy: float | None
    trained_accuracy: float | None
    teacher_accuracy: float | None
    gain_ci95: tuple[float, float] | None
    seeds: int
    mean_accuracy: float | None
    spread: float | None
    cost_usd: float | None
    seconds: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Difference:
    """The trained model of a second run against that of a first run, or the teacher of a run, on the same items.

    If the training of a run was repeated with other seeds, all its models stand for it
    (:func:`dsrl.pipeline.spread.compute_repeated_gain`).

    Attributes:
        first, second: names of the runs.
        difference: accuracy of the second minus that of the first.
        interval: bounds of its paired 95% interval (Bonett and Price 2012), for this pair alone.
        p: probability of a difference that is at least so large if both are equally good: the exact McNemar test; for
            repeated trainings, the normal distribution that the interval comes from.
        adjusted_p: ``p`` after Holm's correction for all pairs of the comparison.
    """

    first: str
    second: str
    difference: float
    interval: tuple[float, float]
    p: float
    adjusted_p: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        n_test: number of test items.
        runs: the runs in the order in which they were named.
        differences: each pair of runs whose trained models were evaluated.
    """

    n_test: int
    runs: tuple[ComparedRun, ...]
    differences: tuple[Difference, ...]


def compare_runs(stores: Mapping[str, RunStore], workspace: Workspace) -> Comparison:
    """Compare runs.

    Args:
        stores: name of a run -> its store; at least two.
        workspace: the folders of runs and replies.

    Raises:
        DataError: the runs were not evaluated on the same test items; the text says in what they differ.
        StoreError, SettingsError: a run cannot be read.
    """
    items = {name: store.items() for name, store in stores.items()}
    first = next(iter(items))
    for name, own in items.items():
        if fault := _find_difference(items[first], own):
            raise DataError(f"the runs {first!r} and {name!r} cannot be compared: {fault}")
    models: dict[str, list[Mapping[int, bool]]] = {
        name: [store.evaluations("trained"), *read_repeats(store).values()] for name, store in stores.items()
    }
    models |= {f"teacher of {name}": [store.evaluations("teacher")] for name, store in stores.items()}
    whole = {name: own for name, own in models.items() if len(own[0]) == len(items[first])}
    results = {name: load_result(store, workspace) for name, store in stores.items()}
    return Comparison(
        n_test=len(items[first]),
        runs=tuple(
            _describe_run(name, result, whole.get(name, ()), whole.get(f"teacher of {name}", ()))
            for name, result in results.items()
        ),
        differences=tuple(_compare_pairs(whole)),
    )


def _find_difference(first: Sequence[EvalItem], second: Sequence[EvalItem]) -> str:
    """Return in what two lists of test items differ; empty if they are the same."""
    if not first or not second:
        return "a run without test items has nothing to compare; evaluate it with --dataset-path first"
    if len(first) != len(second):
        return f"one has {len(first)} test items and the other {len(second)}"
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        if (one.input, one.label) != (other.input, other.label):
            part = "label" if one.input == other.input else "input"
            return f"their test items are not the same; the first that differs, in its {part}, is item {number}"
    return ""


def _describe_run(
    name: str,
    result: Mapping[str, Any],
    trainings: Sequence[Mapping[int, bool]],
    teacher: Sequence[Mapping[int, bool]],
) -> ComparedRun:
    accuracies = list(map(compute_accuracy, trainings))
    return ComparedRun(
        run=name,
        task=result["task"],
        base_accuracy=result["base_accuracy"],
        trained_accuracy=result["trained_accuracy"],
        teacher_accuracy=compute_accuracy(teacher[0]) if teacher else None,
        gain_ci95=result["gain_ci95"],
        seeds=len(accuracies),
        mean_accuracy=sum(accuracies) / len(accuracies) if len(accuracies) > 1 else None,
        spread=compute_spread(accuracies),
        cost_usd=result["cost_usd"],
        seconds=result["seconds"].get("total", 0.0),
        tokens=sum(line["prompt_tokens"] + line["completion_tokens"] for line in result["spending"]),
    )


def _compare_pairs(models: Mapping[str, Sequence[Mapping[int, bool]]]) -> list[Difference]:
    pairs = list(combinations(models, 2))
    gains = [compute_repeated_gain(models[first], models[second]) for first, second in pairs]
    chances = [
        _compute_p(models[first], models[second], interval)
        for (first, second), (_, interval) in zip(pairs, gains, strict=True)
    ]
    return [
        Difference(first, second, difference, interval, p, adjusted)
        for (first, second), (difference, interval), p, adjusted in zip(
            pairs, gains, chances, adjust_holm(chances), strict=True
        )
    ]


def _compute_p(
    first: Sequence[Mapping[int, bool]], second: Sequence[Mapping[int, bool]], interval: tuple[float, float]
) -> float:
    if len(first) == len(second) == 1:
        return compute_mcnemar(first[0], second[0])
    low, high = interval
    return erfc(1.959964 * abs(low + high) / (high - low) / sqrt(2))


def compute_mcnemar(first: Mapping[int, bool], second: Mapping[int, bool]) -> float:
    """Compute the p-value of the exact two-sided McNemar test: a binomial test on the items on which two models disagree.

    Args:
        first, second: number of an item -> whether the answer is right; the same items.
    """
    lost = sum(first[item] and not second[item] for item in first)
    gained = sum(second[item] and not first[item] for item in first)
    n, less = lost + gained, min(lost, gained)
    return float(min(1.0, 2 * sum(comb(n, k) for k in range(less + 1)) / 2**n))


def format_p(p: float) -> str:
    """Return a p-value for a person."""
    return f"{p:.2g}" if p >= 0.0001 else "< 0.0001"


def adjust_holm(chances: Sequence[float]) -> list[float]:
    """Adjust p-values for the number of tests (Holm 1979), in their order."""
    adjusted = [0.0] * len(chances)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        highest = max(highest, min(1.0, (len(chances) - rank) * chances[index]))
        adjusted[index] = highest
    return adjusted
