"""Checks of a plugin's options. They run when the plugin is made, long before the values are used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
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


def check_share(name: str, value: Any) -> float:
    """Return a number from 0 to 1.

    Raises:
        SettingsError: the value is not such a number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise SettingsError(f"{name}={value} must be a number from 0 to 1")
    return float(value)


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Return one of ``choices``.

    Raises:
        SettingsError: the value is another one.
    """
    if value not in choices:
        raise SettingsError(f"{name}={value} must be {', '.join(choices[:-1])} or {choices[-1]}")
    return str(value)


@dataclass(frozen=True, slots=True)
class TrainerOptions:
    """The options of the trainers ``grpo`` and ``sft``; see their classes."""

    checkpoint_seconds: float | None
    cache_tokens: int
    batch_tokens: int
    gradient_checkpointing: str
    equal_groups: str
    optimizer: str
    weight_decay: float = 0.0
    utility: str = "learnability"
