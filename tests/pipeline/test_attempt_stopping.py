"""When attempts stop: simulated pools, whose full scorings are known."""

from __future__ import annotations

import numpy as np
import pytest
from benchmark_modules import import_benchmark

from dsrl.pipeline.attempt_stopping import (
    FIRST_ATTEMPTS,
    ROUND_ATTEMPTS,
    AttemptCounts,
    SelectionRule,
    choose_samples,
    draw_full_counts,
    estimate_inclusion,
    estimate_prior,
    find_next,
    make_counts,
)
from dsrl.pipeline.stages.scored import compute_score
from dsrl.pipeline.stages.selected import draw_order, filter_scores, select
from dsrl.settings import SELECTIONS, resolve
from dsrl.types import Score

L, N, M = 64, 300, 150
POOLS = import_benchmark("attempts").POOLS


def choose(passed: np.ndarray, attempts: np.ndarray) -> set[str]:
    scores = [
        Score(f"s{i}", int(t), int(c), compute_score(int(c), int(t)))
        for i, (c, t) in enumerate(zip(passed, attempts, strict=True))
    ]
    return set(select(scores, M, "potential", 0))


def stop_early(made: np.ndarray, seed: str) -> np.ndarray:
    """Return how many of the drawn attempts are made."""
    order = sorted(range(N), key=lambda i: draw_order(f"s{i}", 0))
    attempts = np.full(N, FIRST_ATTEMPTS)
    while True:
        passed = np.array([made[i, :t].sum() for i, t in enumerate(attempts)])
        counts = make_counts(passed[order].tolist(), attempts[order].tolist())
        places = find_next(counts, SelectionRule("potential", M, L), 0.95, seed)
        if not places:
            return attempts
        asked = [order[place] for place in places]
        attempts[asked] = np.minimum(attempts[asked] + ROUND_ATTEMPTS, L)


@pytest.mark.parametrize("pool", POOLS)
def test_half_of_the_attempts_agree_with_all_of_them_as_much_as_a_second_scoring_does(pool: str) -> None:
    agreement = second = used = 0.0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        rates = POOLS[pool](rng, N)
        made, again = (rng.random((N, L)) < rates[:, None] for _ in range(2))
        attempts = stop_early(made, str(seed))
        passed, full = np.array([made[i, :t].sum() for i, t in enumerate(attempts)]), np.full(N, L)
        reference = choose(made.sum(axis=1), full)
        agreement += len(choose(passed, attempts) & reference) / M
        second += len(choose(again.sum(axis=1), full) & reference) / M
        used += attempts.sum() / (N * L)
    assert used / 3 <= 0.5
    assert agreement >= second


def test_the_prior_finds_the_samples_that_are_never_and_always_solved() -> None:
    passed = np.array([0] * 300 + [16] * 500 + [8] * 200)
    prior = estimate_prior(passed, np.full(1000, 16))
    assert prior.sum() == pytest.approx(1)
    assert prior[:8].sum() == pytest.approx(0.3, abs=0.02), "rates below 0.03"
    assert prior[-8:].sum() == pytest.approx(0.5, abs=0.02), "rates above 0.97"


def test_attempts_that_were_made_are_kept_and_the_missing_ones_are_drawn() -> None:
    counts = make_counts([0, 3, 64], [8, 8, 64])
    full = draw_full_counts(counts, L, 500, np.random.default_rng(0))
    assert (full[:, 2] == 64).all()
    assert full[:, 1].min() >= 3
    assert (full <= L - np.array([8, 5, 0])).all()


RULES = [
    {"selection": name, "never_solved": never_solved, "max_pass_rate": rate, "balance": balance}
    for name in SELECTIONS
    for never_solved, rate, balance in (("last", 1.0, False), ("drop", 0.9, False), ("first", 1.0, True))
]


@pytest.mark.parametrize("changed", RULES)
def test_it_chooses_as_the_selection_does(changed: dict) -> None:
    """If all attempts are made, the inclusion probabilities are those of the selection: 0 or 1."""
    rng = np.random.default_rng(1)
    settings = resolve({"task": "t", "select": 40, "attempts": L, **changed})
    passed = rng.integers(0, L + 1, 120) * rng.integers(0, 2, 120)
    names = sorted((f"s{i}" for i in range(120)), key=lambda name: draw_order(name, 0))
    scores = [Score(name, L, int(c), compute_score(int(c), L)) for name, c in zip(names, passed, strict=True)]
    tasks = {name: "ab"[int(name[1:]) % 3 == 0] for name in names}
    labels = {name: "xyz"[int(name[1:]) % 7 % 3] for name in names}
    kept, _ = filter_scores(scores, settings, {})
    expected = select(
        kept,
        settings.select,
        settings.selection,
        0,
        labels if settings.balance else None,
        tasks,
        settings.never_solved,
    )
    counts = make_counts(
        passed.tolist(), [L] * 120, ["ab".index(tasks[n]) for n in names], ["xyz".index(labels[n]) for n in names]
    )
    rule = SelectionRule(
        settings.selection, 40, L, settings.never_solved, settings.max_pass_rate, is_balanced=settings.balance
    )
    inclusion, size = estimate_inclusion(counts, rule, "0")
    chosen = {name for name, share in zip(names, inclusion, strict=True) if share}
    assert set(inclusion) <= {0.0, 1.0}
    assert size == len(expected) == len(chosen)
    # A balanced training set may differ by the rounding of a label's share.
    assert len(chosen ^ set(expected)) <= (4 if settings.balance else 0)
    assert find_next(counts, rule, 0.99, "0") == [], "there are no more attempts to make"


def test_samples_that_are_too_easy_fill_up_if_that_is_wanted() -> None:
    counts = make_counts([64, 64, 10, 63], [64] * 4)
    full = counts.passed[None]
    names = ("potential", 3, 64, "last", 0.9)
    assert choose_samples(full, counts, SelectionRule(*names)).tolist() == [[False, False, True, False]]
    assert choose_samples(full, counts, SelectionRule(*names, True)).tolist() == [[True, False, True, True]]


def make_pool() -> AttemptCounts:
    rng = np.random.default_rng(2)
    return make_counts(rng.binomial(8, rng.beta(0.5, 0.5, 200)).tolist(), [8] * 200)


def test_the_same_counts_and_seed_ask_for_the_same_samples() -> None:
    counts, rule = make_pool(), SelectionRule("potential", 100, L)
    places = find_next(counts, rule, 0.99, "3:1")
    assert places == find_next(counts, rule, 0.99, "3:1")
    assert len(set(places)) == len(places) > 0
    assert places != find_next(counts, rule, 0.99, "4:1")


@pytest.mark.parametrize("name", ["random", "full"])
def test_a_selection_that_does_not_depend_on_pass_rates_needs_no_more_attempts(name: str) -> None:
    assert find_next(make_pool(), SelectionRule(name, 100, L), 0.99, "0") == []


def test_an_empty_pool_needs_none() -> None:
    assert find_next(make_counts([], []), SelectionRule("potential", 5, L), 0.99, "0") == []
