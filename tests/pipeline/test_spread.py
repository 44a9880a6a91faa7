from __future__ import annotations

import random

import pytest

from dsrl.pipeline.spread import compute_repeated_gain, compute_spread
from dsrl.pipeline.stages.evaluated import compute_gain


def make_model(rng: random.Random, share: float, n: int = 200) -> dict[int, bool]:
    return {item: rng.random() < share for item in range(n)}


def test_one_seed_has_the_interval_of_a_pair() -> None:
    rng = random.Random(1)
    first, second = make_model(rng, 0.4), make_model(rng, 0.6)
    gain, interval = compute_repeated_gain([first], [second])
    expected, bounds = compute_gain(first, second)
    assert gain == pytest.approx(expected)
    assert interval == pytest.approx(bounds)


def test_more_seeds_add_their_spread() -> None:
    rng = random.Random(2)
    first = [make_model(rng, 0.5)]
    calm = [make_model(rng, 0.6)] * 3
    lucky = [dict.fromkeys(first[0], True), *calm[:2]]
    assert compute_spread([0.5]) is None
    assert compute_spread([0.5, 0.7]) == pytest.approx(0.1414, abs=1e-4)

    def width(group: list[dict[int, bool]]) -> float:
        low, high = compute_repeated_gain(first, group)[1]
        return high - low

    assert width(lucky) > width(calm)


def test_models_of_other_items_are_refused() -> None:
    for second in ([], [{0: True, 2: False}]):
        with pytest.raises(ValueError, match="same items"):
            compute_repeated_gain([{0: True, 1: True}], second)
