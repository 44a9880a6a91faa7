from __future__ import annotations

import pytest
from dsrl_http.prices import find_price

from dsrl.types import Price


@pytest.fixture(autouse=True)
def _forget() -> None:
    find_price.cache_clear()


def test_known_models_have_the_price_of_the_list() -> None:
    assert find_price("openai", "gpt-4o-mini") == Price(0.15, 0.6, cached=0.075, cache_write=0.15)
    assert find_price("anthropic", "claude-sonnet-4-5", batch=0.5) == Price(
        3.0, 15.0, cached=0.3, cache_write=3.75, batch=0.5
    )
    assert find_price("https://openrouter.ai/api/v1", "anthropic/claude-3.5-haiku") == Price(0.8, 4.0, 0.8, 0.8)


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
    assert find_price(provider, model) is None
