"""Selection: the M samples of highest potential (paper 4.3, Algorithm 1), and the ablations of Table 4."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from dsrl.types import Score


def select(scores: Iterable[Score], m: int, rule: str, seed: int) -> list[str]:
    """Choose the training set.

    Args:
        scores: of all samples that are left.
        m: M; fewer are given where there are fewer. ``full`` ignores it.
        rule: ``potential`` (lowest score first, the paper's), ``easy`` (highest pass rate first), ``hard`` (lowest pass
            rate first, never solved ones included), ``random``, ``full`` (all).
        seed: breaks ties, the same way every time.

    Returns:
        Ids of samples, best first.
    """
    pool = sorted(scores, key=lambda score: _lot(score.sample, seed))
    if rule == "potential":
        pool.sort(key=lambda score: score.score)
    elif rule == "easy":
        pool.sort(key=lambda score: -score.pass_rate)
    elif rule == "hard":
        pool.sort(key=lambda score: score.pass_rate)
    elif rule not in ("random", "full"):
        raise ValueError(f"no selection rule {rule!r}")
    chosen = pool if rule == "full" else pool[:m]
    return [score.sample for score in chosen]


def _lot(sample: str, seed: int) -> bytes:
    # A lot that hangs on the sample alone, not on which others are there.
    return hashlib.sha256(f"{seed}:{sample}".encode()).digest()
