"""Prices of models: as the user says, or from the data of the package `genai-prices`; nothing is fetched."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache

from dsrl.errors import SettingsError
from dsrl.records import Price

# Prices can rise with the length of a prompt, from some 100,000 tokens on. dsrl's prompts are far below that.
_TOKENS = 1000


@cache
def lookup(provider: str, model: str, batch: float = 1.0) -> Price | None:
    """Give the list price of a model for prompts below 100,000 tokens.

    Args:
        provider: the provider's name as `genai-prices` has it (``openai``, ``anthropic``, ``azure``), or the address of its
            API, beginning with ``http``.
        model: the provider's name of the model.
        batch: what a batch costs there as a share of the price.

    Returns:
        None where the price is not known or `genai-prices` is not installed.
    """
    try:
        from genai_prices import Usage, calc_price
    except ImportError:
        return None

    def dollars(**tokens: int) -> float:
        usage = Usage(**tokens)
        if provider.startswith("http"):
            total = calc_price(usage, model, provider_api_url=provider).total_price
        else:
            total = calc_price(usage, model, provider_id=provider).total_price
        return float(total) * 1e6 / _TOKENS

    try:
        prompt, completion = dollars(input_tokens=_TOKENS), dollars(output_tokens=_TOKENS)
        cached = dollars(input_tokens=_TOKENS, cache_read_tokens=_TOKENS)
        write = dollars(input_tokens=_TOKENS, cache_write_tokens=_TOKENS)
    except (LookupError, ValueError):
        return None
    if not prompt and not completion:
        # A model that is listed without a price is not free.
        return None
    return Price(prompt, completion, cached=cached, cache_write=write, batch=batch)


def read_prices(given: Iterable[str]) -> dict[str, Price]:
    """Read ``--price MODEL=PROMPT,COMPLETION``, dollars per million tokens.

    Raises:
        SettingsError: it is of another form, or not a number that a price can be.
    """
    prices = {}
    for text in given:
        model, equals, told = text.rpartition("=")
        model, parts = model.strip(), told.split(",")
        if not equals or not model or len(parts) != 2:
            raise SettingsError(
                f"--price {text!r} is not of the form MODEL=PROMPT,COMPLETION (dollars per million tokens), e.g. "
                "gpt-4o=2.50,10"
            )
        numbers = []
        for part in parts:
            try:
                number = float(part)
            except ValueError:
                number = math.nan
            if not 0 <= number < math.inf:
                raise SettingsError(f"--price {text!r}: {part.strip()!r} is no number of dollars per million tokens")
            numbers.append(number)
        if model in prices:
            raise SettingsError(f"--price {text!r}: {model!r} has another price already; give one")
        prices[model] = Price(*numbers)
    return prices


def dollars(usd: float) -> str:
    """Write an amount for a person: in cents, and down to two digits where it is less than ten of them."""
    cents = f"{usd:.2f}"
    exact = f"{usd:.{1 - math.floor(math.log10(usd))}f}".rstrip("0") if 1e-9 < usd < 0.1 else cents
    return f"${max(cents, exact, key=len)}"
