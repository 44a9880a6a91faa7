"""Runs beside each other: the same test items, paired differences, and what each run has cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any

from dsrl.errors import DataError
from dsrl.pipeline.stages.evaluated import compute_gain
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
        cost_usd: None if the cost of a call is not known.
        seconds: time of the whole run.
        tokens: tokens of the teachers, in and out.
    """

    run: str
    task: str
    base_accuracy: float | None
    trained_accuracy: float | None
    teacher_accuracy: float | None
    cost_usd: float | None
    seconds: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Difference:
    """The trained model of a second run against that of a first run, or the teacher of a run, on the same items.

    Attributes:
        first, second: names of the runs.
        difference: accuracy of the second minus that of the first.
        interval: bounds of its paired 95% interval (Bonett and Price 2012), for this pair alone.
        p: probability of a difference that is at least so large if both are equally good (exact McNemar test).
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
    answers = {name: store.evaluations("trained") for name, store in stores.items()}
    teachers = {name: store.evaluations("teacher") for name, store in stores.items()}
    answers |= {f"teacher of {name}": own for name, own in teachers.items()}
    whole = {name: own for name, own in answers.items() if own and len(own) == len(items[first])}
    results = {name: load_result(store, workspace) for name, store in stores.items()}
    return Comparison(
        n_test=len(items[first]),
        runs=tuple(_describe_run(name, result, whole.get(f"teacher of {name}")) for name, result in results.items()),
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


def _describe_run(name: str, result: Mapping[str, Any], teacher: Mapping[int, bool] | None) -> ComparedRun:
    return ComparedRun(
        run=name,
        task=result["task"],
        base_accuracy=result["base_accuracy"],
        trained_accuracy=result["trained_accuracy"],
        teacher_accuracy=sum(teacher.values()) / len(teacher) if teacher else None,
        cost_usd=result["cost_usd"],
        seconds=result["seconds"].get("total", 0.0),
        tokens=sum(line["prompt_tokens"] + line["completion_tokens"] for line in result["spending"]),
    )


def _compare_pairs(answers: Mapping[str, Mapping[int, bool]]) -> list[Difference]:
    pairs = list(combinations(answers, 2))
    chances = [compute_mcnemar(answers[first], answers[second]) for first, second in pairs]
    differences = []
    for (first, second), p, adjusted in zip(pairs, chances, adjust_holm(chances), strict=True):
        difference, interval = compute_gain(answers[first], answers[second])
        differences.append(Difference(first, second, difference, interval, p, adjusted))
    return differences


def compute_mcnemar(first: Mapping[int, bool], second: Mapping[int, bool]) -> float:
    """Compute the p-value of the exact two-sided McNemar test: a binomial test on the items on which two models disagree.

    Args:
        first, second: number of an item -> whether the answer is right; the same items.
    """
    lost = sum(first[item] and not second[item] for item in first)
    gained = sum(second[item] and not first[item] for item in first)
    n, less = lost + gained, min(lost, gained)
    return float(min(1.0, 2 * sum(comb(n, k) for k in range(less + 1)) / 2**n))


def adjust_holm(chances: Sequence[float]) -> list[float]:
    """Adjust p-values for the number of tests (Holm 1979), in their order."""
    adjusted = [0.0] * len(chances)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        highest = max(highest, min(1.0, (len(chances) - rank) * chances[index]))
        adjusted[index] = highest
    return adjusted
