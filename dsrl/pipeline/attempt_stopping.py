"""When the base model's attempts can stop (``--attempt-confidence``): more of them would hardly change the training set.

The rule is an empirical Bayes rule. The pass rates of all samples give a prior (the nonparametric maximum likelihood
estimate over a grid of rates). With it, the missing attempts of every sample are drawn many times, and each time the
selection chooses its M samples from L attempts each. The share of these draws in which a sample is chosen is its *inclusion
probability*. The attempts stop when the M samples with the highest ones would be chosen with the demanded probability, on
average. Until then, the samples whose place is most doubtful are attempted again.

These are functions of counts alone: the same counts and the same seed always give the same result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Attempts at every sample before the first decision, and attempts at a doubtful sample in a round.
FIRST_ATTEMPTS, ROUND_ATTEMPTS = 8, 8
#: Number of times that the missing attempts are drawn: at most, and at least in a pool so large that the draws would take
#: more than so many numbers.
_MOST_DRAWS, _LEAST_DRAWS, _MOST_NUMBERS = 200, 20, 4_000_000
#: A sample is doubtful if the probability of the less probable of chosen and not chosen is above this.
_DOUBT = 0.02
#: A round attempts the more doubtful half of the doubtful samples, but not fewer than one of so many samples of the pool.
_LEAST_SHARE = 50
#: Rates of the prior's grid, 0 and 1 among them; they are denser near both.
_RATES = np.sin(np.linspace(0, np.pi / 2, 65)) ** 2
_EM_STEPS = 25


@dataclass(frozen=True, slots=True)
class SelectionRule:
    """The selection as far as the attempts matter to it.

    Attributes:
        name: ``potential``, ``learnability``, ``easy``, ``hard``, ``random`` or ``full``.
        m: maximum number of samples to choose; ``full`` ignores it.
        attempts: L, the number of attempts of a full scoring.
        never_solved: ``last``, ``first`` or ``drop``.
        max_pass_rate: samples above it are left out, 0 to 1.
        is_filled: whether they are chosen after all if there are fewer than M others.
        is_balanced: whether every label has the same share of the chosen samples as of the pool.
    """

    name: str
    m: int
    attempts: int
    never_solved: str = "last"
    max_pass_rate: float = 1.0
    is_filled: bool = False
    is_balanced: bool = False


@dataclass(frozen=True, slots=True)
class AttemptCounts:
    """The attempts at the n samples of a pool, in the order in which the seed breaks ties.

    Attributes:
        passed: [n] number of right attempts.
        attempts: [n] number of attempts.
        tasks: [n] number of the task of each sample; the tasks take turns in this order.
        labels: [n] number of the label of each sample.
    """

    passed: Ints
    attempts: Ints
    tasks: Ints
    labels: Ints

    @property
    def size(self) -> int:
        """The number of samples, n."""
        return len(self.passed)


def make_counts(
    passed: Sequence[int], attempts: Sequence[int], tasks: Sequence[int] = (), labels: Sequence[int] = ()
) -> AttemptCounts:
    """Make the counts of a pool from lists; without tasks or labels, all samples have the same one."""
    none = np.zeros(len(passed), np.int64)
    return AttemptCounts(
        np.asarray(passed, np.int64),
        np.asarray(attempts, np.int64),
        np.asarray(tasks, np.int64) if tasks else none,
        np.asarray(labels, np.int64) if labels else none,
    )


def estimate_prior(passed: Ints, attempts: Ints) -> Floats:
    """Estimate the distribution of the pass rates of a pool: the weight of each rate of the grid, [G]; they sum to 1.

    It is the nonparametric maximum likelihood estimate (Kiefer and Wolfowitz 1956), by the EM algorithm.

    Args:
        passed: [n] number of right attempts.
        attempts: [n] number of attempts.
    """
    pairs, times = np.unique(np.stack([passed, attempts], axis=1), axis=0, return_counts=True)
    likelihood = _compute_likelihood(pairs)
    weights = np.full(len(_RATES), 1 / len(_RATES))
    for _ in range(_EM_STEPS):
        joint = likelihood * weights
        weights = (joint / joint.sum(axis=1, keepdims=True) * times[:, None]).sum(axis=0) / times.sum()
    return weights


def draw_full_counts(counts: AttemptCounts, total: int, draws: int, rng: np.random.Generator) -> Ints:
    """Draw how many of ``total`` attempts at each sample would be right, given those that were made.

    Returns:
        [draws, n] numbers of right attempts.
    """
    weights = estimate_prior(counts.passed, counts.attempts)
    pairs, place = np.unique(np.stack([counts.passed, counts.attempts], axis=1), axis=0, return_inverse=True)
    place = place.reshape(-1)
    posterior = _compute_likelihood(pairs) * weights
    cumulative = np.cumsum(posterior / posterior.sum(axis=1, keepdims=True), axis=1)
    uniform = rng.random((draws, counts.size))
    rates = np.empty_like(uniform)
    for pair, steps in enumerate(cumulative):
        own = place == pair
        rates[:, own] = _RATES[np.minimum(np.searchsorted(steps, uniform[:, own], side="right"), len(_RATES) - 1)]
    missing = np.maximum(total - counts.attempts, 0)
    return counts.passed + rng.binomial(missing, rates)


def choose_samples(full_counts: Ints, counts: AttemptCounts, rule: SelectionRule) -> NDArray[np.bool_]:
    """Choose the training set in each draw, as :func:`dsrl.pipeline.stages.selected.select` would.

    Args:
        full_counts: [draws, n] numbers of right attempts of L.
        counts: the pool.
        rule: the selection.

    Returns:
        [draws, n] whether the sample is chosen.
    """
    left_out = (full_counts == 0) if rule.never_solved == "drop" else np.zeros(full_counts.shape, bool)
    is_easy = full_counts > rule.max_pass_rate * rule.attempts
    keys = _compute_keys(full_counts, rule)
    if rule.is_filled:
        keys = np.where(is_easy, keys + 2.0 * rule.attempts**2, keys)
    else:
        left_out = left_out | is_easy
    chosen = ~left_out
    if rule.name == "full":
        return chosen
    for draw, (own_keys, is_out) in enumerate(zip(keys, left_out, strict=True)):
        # A stable sort keeps the order in which the seed breaks ties.
        order = np.argsort(own_keys, kind="stable")
        order = order[~is_out[order]]
        if rule.is_balanced:
            order = order[np.argsort(_spread_labels(order, counts), kind="stable")]
        turns = _count_before(counts.tasks[order])
        order = order[np.lexsort((counts.tasks[order], turns))]
        chosen[draw] = False
        chosen[draw, order[: rule.m]] = True
    return chosen


def estimate_inclusion(counts: AttemptCounts, rule: SelectionRule, seed: str) -> tuple[Floats, int]:
    """Estimate how probable it is that each sample would be chosen after L attempts at every one.

    Args:
        counts: the pool.
        rule: the selection.
        seed: a text that decides the draws, together with the number of attempts.

    Returns:
        [n] the inclusion probabilities; and the expected number of chosen samples, rounded.
    """
    if not counts.size:
        return np.zeros(0), 0
    draws = min(_MOST_DRAWS, max(_LEAST_DRAWS, _MOST_NUMBERS // counts.size))
    digest = hashlib.sha256(f"{seed}:{int(counts.attempts.sum())}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    chosen = choose_samples(draw_full_counts(counts, rule.attempts, draws, rng), counts, rule)
    return chosen.mean(axis=0), round(float(chosen.sum(axis=1).mean()))


def find_next(counts: AttemptCounts, rule: SelectionRule, confidence: float, seed: str) -> list[int]:
    """Return the positions of the samples to attempt in the next round; none if the attempts can stop.

    Args:
        counts: the pool.
        rule: the selection.
        confidence: the mean inclusion probability of the chosen samples at which the attempts stop, 0 to 1.
        seed: as in :func:`estimate_inclusion`.
    """
    inclusion, size = estimate_inclusion(counts, rule, seed)
    can_grow = counts.attempts < rule.attempts
    best = np.sort(inclusion)[::-1][:size]
    if not size or not can_grow.any() or best.mean() >= confidence:
        return []
    doubt = np.minimum(inclusion, 1 - inclusion)
    doubtful = np.flatnonzero((doubt > _DOUBT) & can_grow)
    order = doubtful[np.argsort(-doubt[doubtful], kind="stable")]
    return [int(place) for place in order[: max(counts.size // _LEAST_SHARE, (len(order) + 1) // 2, 1)]]


def _compute_likelihood(pairs: Ints) -> Floats:
    """Return the likelihood of each rate of the grid, [D, G], up to a factor for each pair (passed, attempts)."""
    passed, failed = pairs[:, :1], pairs[:, 1:] - pairs[:, :1]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(passed > 0, passed * np.log(_RATES), 0.0) + np.where(
            failed > 0, failed * np.log1p(-_RATES), 0.0
        )
    likelihood: Floats = np.exp(logs - logs.max(axis=1, keepdims=True))
    return likelihood


def _compute_keys(full_counts: Ints, rule: SelectionRule) -> Floats:
    """Return a number for each sample in each draw; the lowest are chosen."""
    counts, total = full_counts.astype(np.float64), rule.attempts
    if rule.name == "potential":
        return counts if rule.never_solved == "first" else np.where(counts == 0, total, counts)
    if rule.name == "learnability":
        return total**2 - counts * (total - counts)
    if rule.name == "easy":
        return total - counts
    return counts if rule.name == "hard" else np.zeros(counts.shape)


def _count_before(values: Ints) -> Ints:
    """Return for each place how many places before it have the same value."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(values) else np.zeros(0, np.int64)
    lengths = np.diff(np.r_[starts, len(values)])
    before = np.empty(len(values), np.int64)
    before[order] = np.arange(len(values)) - np.repeat(starts, lengths)
    return before


def _spread_labels(order: Ints, counts: AttemptCounts) -> Floats:
    """Return keys that mix the labels of each task in proportion: the first k of a task hold the share of each label."""
    labels = counts.tasks[order] * (counts.labels.max() + 1) + counts.labels[order]
    sizes = np.bincount(labels)
    keys: Floats = (_count_before(labels) + 0.5) / sizes[labels]
    return keys
