"""Labels: how few samples have one, which labels the selection starves, and how to keep them in proportion."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dsrl.text import printable

#: With more labels than this, the answers are no classes, and nothing is said about them.
MOST_LABELS = 20
#: Labels in the table for the user.
_SHOWN_LABELS = 8
_LONGEST_LABEL = 30
#: A label is starved only if chance gives it so few samples more rarely than this.
SIGNIFICANCE = 0.01
#: If a smaller share of the initial samples gets a label, the user is told.
_USUAL_YIELD = 0.5


def describe_unlabelled(counts: Mapping[str, Any]) -> str:
    """Return how few of the samples that the teacher wrote first have a label, and why; empty if it is as many as usual.

    Args:
        counts: what :meth:`dsrl.storage.run_store.RunStore.count_samples` returns.
    """
    is_usual = counts["verified"] >= _USUAL_YIELD * counts["initial"]
    if is_usual or "budget" in counts["dropped"]:  # what a budget leaves out says nothing about the teacher
        return ""
    reasons = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in counts["dropped"].items())
    return (
        f"only {counts['verified']} of the {counts['initial']} initial samples got a label (dropped in all: {reasons})"
    )


def find_starved(pool: Mapping[str, int], selected: Mapping[str, int]) -> list[str]:
    """Return the labels that the selection starves, most frequent first; none if there are more than :data:`MOST_LABELS`.

    A label is starved if its share of the selected samples is below half of its share of the pool, and if a draw of as many
    samples at random would give it as few with a probability below :data:`SIGNIFICANCE` (binomial test, one-sided).

    Args:
        pool: label -> number of samples that could be selected.
        selected: label -> number of selected samples.
    """
    chosen, total = sum(selected.values()), sum(pool.values())
    if not chosen or len(pool) > MOST_LABELS:
        return []
    starved = []
    for label in sorted(pool, key=lambda label: (-pool[label], label)):
        share, count = pool[label] / total, selected.get(label, 0)
        if count / chosen < share / 2 and compute_tail(count, chosen, share) < SIGNIFICANCE:
            starved.append(label)
    return starved


def compute_tail(successes: int, draws: int, probability: float) -> float:
    """Compute the probability of at most so many successes in independent draws (binomial distribution)."""
    if probability >= 1:
        return float(successes >= draws)
    log_p, log_q = math.log(probability), math.log1p(-probability)
    log_ways = [math.lgamma(draws + 1) - math.lgamma(k + 1) - math.lgamma(draws - k + 1) for k in range(successes + 1)]
    return min(1.0, sum(math.exp(ways + k * log_p + (draws - k) * log_q) for k, ways in enumerate(log_ways)))


def describe_starved(
    starved: Sequence[str], pool: Mapping[str, int], selected: Mapping[str, int], unsolved: Mapping[str, int]
) -> str:
    """Return the text for the user about starved labels, with a table of the most frequent labels.

    Args:
        starved: the labels that the selection starves.
        pool: label -> number of samples that could be selected.
        selected: label -> number of selected samples.
        unsolved: label -> number of samples of the pool that the base model never solved.
    """
    names = ", ".join(map(_shorten, starved))
    head = (
        f"the selection takes too few samples with the label{'' if len(starved) == 1 else 's'} {names}: less than half of "
        "their share of all samples. --balance keeps the labels in proportion (in a new run)"
    )
    first = sorted(pool, key=lambda label: (-pool[label], label))[:_SHOWN_LABELS]
    rows = [("label", "samples", "never solved", "selected")]
    rows += [
        (_shorten(label), str(pool[label]), str(unsolved.get(label, 0)), str(selected.get(label, 0))) for label in first
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    if len(pool) > len(first):
        lines.append(f"and {len(pool) - len(first)} more labels")
    return "\n  ".join([head, *lines])


def balance(order: Sequence[str], labels: Mapping[str, str], m: int) -> list[str]:
    """Choose m samples so that every label has the same share of them as of all samples.

    The parts are rounded by the largest remainders; of equal remainders, the label whose best sample comes first wins.

    Args:
        order: ids of all samples, best first.
        labels: id of a sample -> its label.
        m: the number of samples to choose; all are chosen if there are fewer.

    Returns:
        The ids of the chosen samples, best first.
    """
    if m >= len(order):
        return list(order)
    counts = Counter(labels[sample] for sample in order)  # in the order of each label's best sample
    room = {label: m * count // len(order) for label, count in counts.items()}
    by_remainder = sorted(counts, key=lambda label: -(m * counts[label] % len(order)))
    for label in by_remainder[: m - sum(room.values())]:
        room[label] += 1
    chosen = []
    for sample in order:
        if room[labels[sample]]:
            room[labels[sample]] -= 1
            chosen.append(sample)
    return chosen


def _shorten(label: str) -> str:
    text = " ".join(printable(label).split())
    return repr(text if len(text) <= _LONGEST_LABEL else text[: _LONGEST_LABEL - 1] + "…")
