"""N-grams of words as numbers, and the template of a task: the n-grams that many texts share.

A text is an array of hashes, one for each word, and so are its n-grams, so that 10,000 texts are compared in seconds. The
hashes are the same in every process. A character of a script without spaces counts as half a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from dsrl.similarity.words import is_character

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Positions = NDArray[np.int64]

#: Words of an n-gram that shows a copy, and of the n-grams whose sets are compared.
LONG, SHORT = 13, 5
#: An n-gram belongs to the template if more than this share of the texts have it.
TEMPLATE_SHARE = 0.02
#: An odd number: the powers of it have inverses modulo 2^64.
_BASE = 0x9E3779B97F4A7C15


class Windows(NamedTuple):
    """The n-grams of a text, in the order in which they start.

    Attributes:
        hashes: one number for each n-gram.
        starts, ends: the position of the first word of each, and the one after its last word.
    """

    hashes: Hashes
    starts: Positions
    ends: Positions


@dataclass(frozen=True, slots=True)
class HashedText:
    """The words of a text as numbers.

    Attributes:
        hashes: one number for each word.
        halves: of each word its length in half words, 1 or 2; None if all are whole words.
    """

    hashes: Hashes
    halves: NDArray[np.uint8] | None = None

    @property
    def length(self) -> float:
        """The number of words; a character of a script without spaces is half a word."""
        return len(self.hashes) if self.halves is None else int(self.halves.sum()) / 2

    def select(self, positions: Any) -> HashedText:
        """Return the words at some positions."""
        return HashedText(self.hashes[positions], None if self.halves is None else self.halves[positions])

    def find_windows(self, size: int) -> Windows:
        """Return all n-grams of ``size`` words."""
        import numpy as np

        count = len(self.hashes)
        if self.halves is None:
            starts = np.arange(max(0, count - size + 1))
            ends = starts + size
        else:
            position = np.concatenate(([0], np.cumsum(self.halves, dtype=np.int64)))
            starts = np.flatnonzero(position[:-1] + 2 * size <= position[-1])
            ends = np.searchsorted(position, position[starts] + 2 * size)
        return Windows(self._hash(starts, ends), starts, ends)

    def find_windows_of(self, words: int) -> Windows:
        """Return all n-grams of so many words, where a single character is a word."""
        import numpy as np

        starts = np.arange(max(0, len(self.hashes) - words + 1))
        return Windows(self._hash(starts, starts + words), starts, starts + words)

    def _hash(self, starts: Positions, ends: Positions) -> Hashes:
        """Hash the words between positions: the difference of two sums, moved to the same power."""
        import numpy as np

        powers, inverse = _get_powers(len(self.hashes).bit_length())
        sums = np.zeros(len(self.hashes) + 1, dtype=np.uint64)
        np.cumsum(self.hashes * powers[: len(self.hashes)], out=sums[1:])
        return (sums[ends] - sums[starts]) * inverse[starts]


@lru_cache(maxsize=4)
def _get_powers(bits: int) -> tuple[Hashes, Hashes]:
    """Return the first 2^bits powers of the base modulo 2^64, and their inverses."""
    import numpy as np

    def power(base: int) -> Hashes:
        numbers = np.full(2**bits, base, dtype=np.uint64)
        numbers[0] = 1
        return np.cumprod(numbers, dtype=np.uint64)

    return power(_BASE), power(pow(_BASE, -1, 2**64))


def hash_words(words: Sequence[str]) -> HashedText:
    """Return the words of a text as numbers."""
    import numpy as np
    from xxhash import xxh3_64_intdigest

    hashes = np.fromiter(map(xxh3_64_intdigest, " ".join(words).encode().split()), np.uint64, len(words))
    if not any(word > "\u0e00" for word in words):
        return HashedText(hashes)
    return HashedText(hashes, np.fromiter((1 if is_character(word) else 2 for word in words), np.uint8, len(words)))


@dataclass(frozen=True, slots=True)
class Template:
    """The n-grams of :data:`LONG` words that many texts share, sorted. What they cover tells nothing about a copy."""

    hashes: Hashes

    def find_rest(self, text: HashedText) -> Positions:
        """Return the positions of the words that the template does not cover."""
        import numpy as np

        windows = text.find_windows(LONG)
        shared = contains(self.hashes, windows.hashes)
        if not shared.any():
            return np.arange(len(text.hashes))
        changes = np.zeros(len(text.hashes) + 1, dtype=np.int64)
        np.add.at(changes, windows.starts[shared], 1)
        np.add.at(changes, windows.ends[shared], -1)
        return np.flatnonzero(np.cumsum(changes)[:-1] == 0)


def find_template(texts: Iterable[HashedText], least: int, known: Iterable[Template] = ()) -> Template:
    """Find the template of texts.

    Args:
        texts: distinct texts.
        least: an n-gram belongs to the template only if at least so many texts have it.
        known: templates that are added.
    """
    import numpy as np

    sets = [np.unique(text.find_windows(LONG).hashes) for text in texts]
    hashes, counts = np.unique(np.concatenate([*sets, np.zeros(0, np.uint64)]), return_counts=True)
    frequent = hashes[(counts > TEMPLATE_SHARE * len(sets)) & (counts >= least)]
    return Template(np.unique(np.concatenate([frequent, *(each.hashes for each in known)])))


def make_template(texts: Iterable[HashedText]) -> Template:
    """Return a template of everything that these texts say."""
    import numpy as np

    return Template(np.unique(np.concatenate([np.zeros(0, np.uint64), *(t.find_windows(LONG).hashes for t in texts)])))


def contains(numbers: Hashes, hashes: Hashes) -> NDArray[np.bool_]:
    """Return for each hash whether it is among sorted numbers."""
    import numpy as np

    if not len(numbers):
        return np.zeros(len(hashes), dtype=bool)
    places = np.minimum(np.searchsorted(numbers, hashes), len(numbers) - 1)
    return np.asarray(numbers[places] == hashes)


def find_longest_run(text: HashedText, other: HashedText, size: int) -> tuple[int, int]:
    """Return the first and the last position, plus one, of the longest run of words whose n-grams the other text has, too.

    Both are 0 if no n-gram of ``size`` words is shared.
    """
    import numpy as np

    windows = text.find_windows(size)
    shared = contains(np.unique(other.find_windows(size).hashes), windows.hashes)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], shared, [False])).astype(np.int8)))
    if not len(edges):
        return 0, 0
    firsts, lasts = edges[::2], edges[1::2] - 1
    longest = int(np.argmax(lasts - firsts))
    return int(windows.starts[firsts[longest]]), int(windows.ends[lasts[longest]])
