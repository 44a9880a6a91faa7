"""Reading the JSON that a provider sent. It is hostile input: any shape, any size, numbers written as texts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TypeGuard, TypeVar

from dsrl import Reply

T = TypeVar("T")

#: A longer reply is cut, and counts as cut off by its length limit.
MOST_CHARACTERS = 1_000_000


def parse_object(raw: bytes | str) -> Mapping[str, Any] | None:
    """Return a JSON object, or None if the text is not one."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def get_member(holder: Any, name: str, kind: type[T]) -> T:
    """Return a member of the expected type, or that type's empty value if there is none."""
    value = holder.get(name) if isinstance(holder, Mapping) else None
    return value if isinstance(value, kind) else kind()


def get_count(holder: Any, *path: str) -> int:
    """Return a count from nested objects, or 0 if there is no valid one at that path."""
    for name in path:
        holder = holder.get(name) if isinstance(holder, Mapping) else None
    return int(holder) if _is_count(holder) else 0


def read_tokens(holder: Any, *path: str, default: int | None = None) -> int:
    """Return a number of billed tokens from nested objects.

    Args:
        holder: the outermost object.
        path: names of the members, from the outside to the inside.
        default: the value to return if the number, or an object around it, is missing or null.

    Raises:
        ValueError: the number is missing and there is no default, or the value is not a number of tokens.
    """
    value = holder
    for name in path:
        if value is None and default is not None:
            return default
        if not isinstance(value, Mapping):
            raise ValueError(f"there is no object that could have the member {name!r}")
        value = value.get(name)
    if value is None and default is not None:
        return default
    if isinstance(value, str):
        value = float(value)
    if not _is_count(value):
        raise ValueError(f"the member {path[-1]!r} is not a number of tokens")
    return math.ceil(value)


def make_reply(text: str, finish_reason: str) -> Reply:
    """Return a reply; a text of more than :data:`MOST_CHARACTERS` characters is cut there."""
    if len(text) > MOST_CHARACTERS:
        return Reply(text[:MOST_CHARACTERS], "length")
    return Reply(text, finish_reason)


def _is_count(value: Any) -> TypeGuard[int | float]:
    return not isinstance(value, bool) and isinstance(value, (int, float)) and 0 <= value < 1e12
