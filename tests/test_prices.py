from __future__ import annotations

import sys

import pytest

from dsrl.prices import dollars, lookup
from dsrl.records import Price, Usage

pytest.importorskip("genai_prices")


@pytest.fixture(autouse=True)
def _forget() -> None:
    lookup.cache_clear()


def test_known_models_have_the_price_of_the_list() -> None:
    assert lookup("openai", "gpt-4o-mini") == Price(0.15, 0.6, cached=0.075, cache_write=0.15)
    assert lookup("anthropic", "claude-sonnet-4-5", batch=0.5) == Price(
        3.0, 15.0, cached=0.3, cache_write=3.75, batch=0.5
    )
    assert lookup("https://openrouter.ai/api/v1", "anthropic/claude-3.5-haiku") == Price(0.8, 4.0, 0.8, 0.8)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-unheard-of"),
        ("openai", ""),
        ("nobody", "gpt-4o"),
        ("http://127.0.0.1:8000/v1", "gpt-4o"),
        ("http", "m"),
    ],
)
def test_an_unknown_price_is_none(provider: str, model: str) -> None:
    assert lookup(provider, model) is None


def test_without_the_package_every_price_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    assert lookup("openai", "gpt-4o") is None


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
