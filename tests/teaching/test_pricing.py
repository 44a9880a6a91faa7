from __future__ import annotations

import pytest

from dsrl.teaching.pricing import dollars


@pytest.mark.parametrize(
    ("usd", "said"),
    [
        (0.0, "$0.00"),
        (0.00042, "$0.00042"),
        (0.05, "$0.05"),
        (0.0999, "$0.10"),
        (0.1, "$0.10"),
        (4.999, "$5.00"),
        (1234.5, "$1234.50"),
    ],
)
def test_a_small_amount_is_not_nothing(usd: float, said: str) -> None:
    assert dollars(usd) == said
