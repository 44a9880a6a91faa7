"""Prices of models as the user gives them, and amounts of money as a person reads them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from dsrl.errors import SettingsError
from dsrl.types import Price


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
