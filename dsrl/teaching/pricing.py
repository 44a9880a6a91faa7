"""Prices of models, from the user or from the plugin, and amounts of money as a person reads them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from dsrl.errors import SettingsError
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import TeacherSpec
from dsrl.types import Price


def read_prices(options: Iterable[str]) -> dict[str, Price]:
    """Read values of ``--price MODEL=PROMPT,COMPLETION``, in dollars per million tokens; return prices by model.

    Raises:
        SettingsError: a value has another form, or a number that is no price.
    """
    prices = {}
    for option in options:
        model, equals, amounts = option.rpartition("=")
        model, parts = model.strip(), amounts.split(",")
        if not equals or not model or len(parts) != 2:
            raise SettingsError(
                f"--price {option!r} does not have the form MODEL=PROMPT,COMPLETION (dollars per million tokens), e.g. "
                "gpt-4o=2.50,10"
            )
        numbers = []
        for part in parts:
            try:
                number = float(part)
            except ValueError:
                number = math.nan
            if not 0 <= number < math.inf:
                raise SettingsError(
                    f"--price {option!r}: {part.strip()!r} is not a valid price (expected dollars per million tokens)"
                )
            numbers.append(number)
        if model in prices:
            raise SettingsError(f"--price {option!r}: there are two prices for {model!r}; give one")
        prices[model] = Price(*numbers)
    return prices


def get_price(teacher: Plugin[TeacherSpec], model: str, prices: Mapping[str, Price]) -> Price | None:
    """Return the price of a model: the user's if there is one, else the plugin's; None if neither knows it.

    Args:
        teacher: the plugin that is asked for its price, and for its discount in batches.
        model: empty for a teacher that has only one.
        prices: the user's, by model (by teacher for a model without a name).
    """
    listed: Price | None = teacher.hook.price(model=model)
    override = prices.get(model or teacher.name)
    if override is None:
        return listed
    return replace(override, batch=listed.batch if listed else override.batch)


def dollars(usd: float) -> str:
    """Format an amount for a person: in cents, and with two significant digits if it is less than ten cents."""
    cents = f"{usd:.2f}"
    exact = f"{usd:.{1 - math.floor(math.log10(usd))}f}".rstrip("0") if 1e-9 < usd < 0.1 else cents
    return f"${max(cents, exact, key=len)}"
