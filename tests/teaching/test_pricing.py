from __future__ import annotations

import pytest

from dsrl.teaching.pricing import dollars
from dsrl.types import Price, Usage


def test_what_a_call_costs() -> None:
    price = Price(2.0, 10.0, cached=0.2, cache_write=2.5, batch=0.5)
    usage = Usage(1_000_000, 100_000, cached_tokens=500_000, cache_write_tokens=200_000)
    assert price.cost(usage) == pytest.approx(0.3 * 2 + 0.5 * 0.2 + 0.2 * 2.5 + 0.1 * 10)
    assert price.cost(usage, batch=True) == pytest.approx(price.cost(usage) / 2)


def test_the_worst_case_is_never_below_the_cost() -> None:
    for price in (Price(2.0, 10.0, 0.2, 2.5, 0.5), Price(2.0, 10.0), Price(0.0, 0.0), Price(1.0, 1.0, cached=3.0)):
        for cached, written in ((0, 0), (900, 0), (0, 900), (500, 500)):
            for batch in (False, True):
                cost = price.cost(Usage(1000, 50, cached, written), batch)
                assert price.worst(1000, 50, batch) >= cost - 1e-12


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
