"""Checks of a plugin's options. They run when the plugin is made, long before the values are used."""

from __future__ import annotations

import math
from typing import Any

from dsrl import SettingsError


def check_whole_number(name: str, value: Any, minimum: int) -> int:
    """Return a whole number of at least ``minimum``.

    Raises:
        SettingsError: the value is not such a number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1 or value < minimum:
        raise SettingsError(f"{name}={value} must be a whole number of at least {minimum}")
    return int(value)


def check_seconds(name: str, value: Any) -> float:
    """Return a number of seconds, 0 or more.

    Raises:
        SettingsError: the value is not such a number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise SettingsError(f"{name}={value} must be a number of seconds, 0 or more")
    return float(value)
