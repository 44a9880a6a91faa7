from __future__ import annotations

from random import Random

import numpy as np
import pytest

from dsrl.similarity.grams import HashedText, hash_words
from dsrl.similarity.near import MOST_WORDS, NEAR, NearIndex, compute_jaccard


def make_words(n: int, seed: int = 0) -> list[str]:
    rng = Random(seed)
    return [f"w{rng.randrange(10_000)}" for _ in range(n)]


def find(words: list[str], other: list[str]) -> list[tuple[int, float]]:
    index = NearIndex()
    index.add(7, hash_words(other))
    return index.find(hash_words(words))


@pytest.mark.parametrize("seed", range(20))
def test_a_text_with_one_changed_word_is_near(seed: int) -> None:
    words = make_words(60, seed)
    changed = [*words[:30], "changed", *words[31:]]
    ((number, similarity),) = find(changed, words)
    assert number == 7
    assert similarity == pytest.approx((56 - 5) / (56 + 5))


def test_the_exact_similarity_decides() -> None:
    words = make_words(40)
    changed = [*words[:20], "changed", *words[21:]]
    assert NEAR > (36 - 5) / (36 + 5)
    assert find(changed, words) == []


def test_short_and_endless_texts_are_not_near() -> None:
    assert find(make_words(12), make_words(12)) == []
    assert find(make_words(13), make_words(13)) == [(7, 1.0)]
    endless = make_words(MOST_WORDS + 1)
    assert find(endless, endless) == []
    assert NearIndex().find(HashedText(np.zeros(0, np.uint64))) == []


def test_the_similarity_of_sets() -> None:
    def make(*numbers: int) -> np.ndarray:
        return np.array(numbers, np.uint64)

    assert compute_jaccard(make(1, 2, 3), make(2, 3, 4)) == 0.5
    assert compute_jaccard(make(), make()) == 0.0
