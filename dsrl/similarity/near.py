"""Near duplicates: texts whose sets of word 5-grams have a Jaccard similarity of at least 0.8.

MinHash with locality-sensitive hashing (datasketch) finds candidates, and the exact similarity decides. 32 bands of 4 hashes
miss a pair with a similarity of 0.8 once in 20 million pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsrl.similarity.grams import LONG, SHORT, HashedText

if TYPE_CHECKING:
    from datasketch import MinHash

    from dsrl.similarity.grams import Hashes

#: The least Jaccard similarity of near duplicates.
NEAR = 0.8
#: A longer text is compared only exactly and by its 13-grams: its time and memory stay bounded.
MOST_WORDS = 20_000
_BANDS, _ROWS = 32, 4
_SEED = 1


class NearIndex:
    """Finds the texts that are nearly the same as another one. Texts of fewer than 13 words are never near duplicates."""

    def __init__(self) -> None:
        from datasketch import MinHash, MinHashLSH

        # The n-grams are hashes already, so they need no hash function.
        self._empty = MinHash(num_perm=_BANDS * _ROWS, seed=_SEED, hashfunc=int)
        self._tables = MinHashLSH(num_perm=_BANDS * _ROWS, params=(_BANDS, _ROWS))
        self._grams: list[Hashes] = []
        self._numbers: list[int] = []

    def add(self, number: int, text: HashedText) -> None:
        """Add a text under a number."""
        if not _is_comparable(text):
            return
        grams = _get_grams(text)
        self._tables.insert(len(self._grams), self._make_minhash(grams), check_duplication=False)
        self._grams.append(grams)
        self._numbers.append(number)

    def find(self, text: HashedText) -> list[tuple[int, float]]:
        """Return (number, similarity) of the texts that are near, in the order in which they were added."""
        if not _is_comparable(text):
            return []
        grams = _get_grams(text)
        near = []
        for place in sorted(self._tables.query(self._make_minhash(grams))):
            similarity = compute_jaccard(grams, self._grams[place])
            if similarity >= NEAR:
                near.append((self._numbers[place], similarity))
        return near

    def _make_minhash(self, grams: Hashes) -> MinHash:
        minhash = self._empty.copy()
        minhash.update_batch((grams >> 32).tolist())  # datasketch takes numbers of 32 bits
        return minhash


def compute_jaccard(grams: Hashes, others: Hashes) -> float:
    """Compute the Jaccard similarity of two sets, given as arrays without repetitions; 0 if both are empty."""
    import numpy as np

    shared = len(np.intersect1d(grams, others, assume_unique=True))
    union = len(grams) + len(others) - shared
    return shared / union if union else 0.0


def _is_comparable(text: HashedText) -> bool:
    return text.length >= LONG and len(text.hashes) <= MOST_WORDS


def _get_grams(text: HashedText) -> Hashes:
    import numpy as np

    return np.unique(text.find_windows(SHORT).hashes)
