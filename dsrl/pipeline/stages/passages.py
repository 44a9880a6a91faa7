"""Passages: the retriever finds what the samples will rest on (paper 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from dsrl.types import Passage

#: Characters of a passage that a prompt shows (as the original does).
PASSAGE_LENGTH = 2048


def assign_passages(passages: Sequence[Passage], n: int, rng: Random) -> list[Passage]:
    """Shuffle passages and give at most ``n``: one for each sample, no passage twice."""
    return rng.sample(list(passages), min(n, len(passages)))


def passage_of(passages: Sequence[Passage], number: int) -> Passage | None:
    """Give the passage that sample ``number`` rests on; with too few, they go round again. None if there are none."""
    return passages[number % len(passages)] if passages else None
