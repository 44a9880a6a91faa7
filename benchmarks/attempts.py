"""How many attempts of the base model the selection needs, and whether stopping early changes the training set.

    python benchmarks/attempts.py [--seeds 5] [--runs RUN.DB ...]

Pools with known pass rates: five simulated ones of 1,000 samples, of which 500 are selected by the paper's score; and
those of finished runs, whose measured pass rates are taken for the true ones: the samples that the run could select,
and its M. Every sample has 64 drawn attempts. A rule takes a prefix of them; the table has the share of the attempts
that it takes, and the agreement: the share of the training set of all 64 attempts that it selects too. The first line
is the A/A test: 64 new attempts. Means over the seeds, with the lowest agreement of a seed in brackets.
"""

from __future__ import annotations

import argparse
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import fmean

import numpy as np

from dsrl.pipeline.attempt_stopping import FIRST_ATTEMPTS, ROUND_ATTEMPTS, SelectionRule, find_next, make_counts
from dsrl.pipeline.stages.scored import compute_score
from dsrl.pipeline.stages.selected import draw_order, select
from dsrl.types import Score

L, N = 64, 1000
CONFIDENCES = (0.9, 0.93, 0.94, 0.95, 0.97, 0.99)
#: Samples in each tenth of the pass rates of a run with an earlier base model.
TENTHS = np.array([76, 49, 103, 143, 180, 245, 130, 65, 6, 3]) / 1000


def draw_bimodal(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draw rates of which most are near 0 or 1."""
    kind = rng.random(n)
    rates = np.where(kind < 0.25, rng.beta(0.3, 12, n), rng.beta(12, 0.4, n))
    return np.where(kind < 0.7, rates, rng.random(n))


#: Name -> draws the pass rates of a pool of n samples. The tests of the rule use the same pools.
POOLS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "embedded": lambda rng, n: (rng.choice(10, size=n, p=TENTHS) + rng.random(n)) / 10,
    "bimodal": draw_bimodal,
    "easy": lambda rng, n: rng.beta(1.2, 0.35, n),
    "hard": lambda rng, n: rng.beta(0.5, 1.3, n),
    "U-shaped": lambda rng, n: rng.beta(0.35, 0.35, n),
}


def read_run(path: str) -> tuple[np.ndarray, int]:
    """Return the measured pass rates of the samples that a run could select, and how many it selected."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        rows = database.execute(
            "SELECT passed * 1.0 / attempts FROM scores WHERE sample NOT IN (SELECT sample FROM matches) ORDER BY sample"
        ).fetchall()
        ((m,),) = database.execute("SELECT count(*) FROM selected").fetchall()
    return np.array([rate for (rate,) in rows]), m


def choose(passed: np.ndarray, attempts: np.ndarray, m: int) -> set[str]:
    """Return what the product selects."""
    pairs = zip(passed.tolist(), attempts.tolist(), strict=True)
    return set(select([Score(f"s{i}", t, c, compute_score(c, t)) for i, (c, t) in enumerate(pairs)], m, "potential", 0))


def stop_early(made: np.ndarray, rule: SelectionRule, confidence: float, seed: str) -> np.ndarray:
    """Return how many attempts at each sample the product makes.

    Args:
        made: [n, L] which attempts are right; the samples stand in the order in which the seed breaks ties.
        rule: the selection.
        confidence: of ``--attempt-confidence``.
        seed: a text that decides the draws of the rule.
    """
    attempts = np.full(len(made), FIRST_ATTEMPTS)
    while True:
        passed = [int(row[:t].sum()) for row, t in zip(made, attempts, strict=True)]
        places = find_next(make_counts(passed, attempts.tolist()), rule, confidence, seed)
        if not places:
            return attempts
        attempts[places] = np.minimum(attempts[places] + ROUND_ATTEMPTS, rule.attempts)


def measure(rates: np.ndarray, m: int, seed: int) -> dict[str, tuple[float, float]]:
    """Return rule -> share of the attempts, and agreement with all of them."""
    rng, size = np.random.default_rng([seed, 1]), len(rates)
    made, again = (rng.random((size, L)) < rates[:, None] for _ in range(2))
    full = np.full(size, L)
    reference = choose(made.sum(axis=1), full, m)

    def compare(attempts: np.ndarray, of: np.ndarray = made) -> tuple[float, float]:
        passed = np.array([of[i, :t].sum() for i, t in enumerate(attempts)])
        return attempts.sum() / (size * L), len(choose(passed, attempts, m) & reference) / m

    results = {"64 again (A/A)": compare(full, again), "32 at every sample": compare(full // 2)}
    order = sorted(range(size), key=lambda i: draw_order(f"s{i}", 0))
    for confidence in CONFIDENCES:
        attempts = np.empty(size, int)
        attempts[order] = stop_early(made[order], SelectionRule("potential", m, L), confidence, "0")
        results[f"`--attempt-confidence {confidence}`"] = compare(attempts)
    return results


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", nargs="*", default=[], metavar="RUN.DB")
    options = parser.parse_args()
    start = time.process_time()
    table: dict[str, list[str]] = {}
    names = [*POOLS, *(Path(path).resolve().parent.name for path in options.runs)]
    for source in (*POOLS.values(), *options.runs):
        by_rule: dict[str, list[tuple[float, float]]] = {}
        for seed in range(options.seeds):
            if isinstance(source, str):
                rates, m = read_run(source)
            else:
                rates, m = source(np.random.default_rng([seed, 0]), N), N // 2
            for rule, result in measure(rates, m, seed).items():
                by_rule.setdefault(rule, []).append(result)
        for rule, results in by_rule.items():
            share, agreement = (fmean(values) for values in zip(*results, strict=True))
            lowest = min(agreement for _, agreement in results)
            table.setdefault(rule, []).append(f"{share:.2f} ({agreement:.1%}, {lowest:.1%})")
    print(f"| rule | {' | '.join(names)} |\n| --- |{' --- |' * len(names)}")
    for rule, cells in table.items():
        print(f"| {rule} | {' | '.join(cells)} |")
    print(f"\n{options.seeds} seeds, {time.process_time() - start:.0f} CPU seconds.")


if __name__ == "__main__":
    main()
