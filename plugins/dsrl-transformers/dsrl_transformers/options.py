"""Options as the user gave them, checked when a plugin is made, long before they are needed."""

from __future__ import annotations

import math
from typing import Any

from dsrl.errors import SettingsError


def whole_number(name: str, value: Any, low: int) -> int:
    """Check a whole number of at least ``low``.

    Raises:
        SettingsError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1 or value < low:
        raise SettingsError(f"{name}={value} must be a whole number of at least {low}")
    return int(value)


def seconds(name: str, value: Any) -> float:
    """Check a number of seconds, 0 or more.

    Raises:
        SettingsError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise SettingsError(f"{name}={value} must be a number of seconds, 0 or more")
    return float(value)
