"""Reading the headers in which providers tell their rate limits."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

from dsrl import Rate

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_UNITS = (86400, 3600, 60, 1, 0.001)


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a provider asks to wait (``retry-after-ms``; ``Retry-After``, RFC 9110 10.2.3), or None."""
    milliseconds = _parse_number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    number = _parse_number(text)
    if text is None or number is not None:
        return number
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def read_rate(headers: Mapping[str, str]) -> Rate | None:
    """Return what remains of the rate limits: ``x-ratelimit-*`` as OpenAI writes them, ``anthropic-ratelimit-*``."""
    for remaining, reset in (
        ("x-ratelimit-remaining-{}", "x-ratelimit-reset-{}"),
        ("anthropic-ratelimit-{}-remaining", "anthropic-ratelimit-{}-reset"),
    ):
        rate = Rate(
            _parse_count(headers.get(remaining.format("requests"))),
            _parse_count(headers.get(remaining.format("tokens"))),
            parse_seconds(headers.get(reset.format("requests"))),
            parse_seconds(headers.get(reset.format("tokens"))),
        )
        if rate != Rate():
            return rate
    return None


def parse_seconds(text: str | None) -> float | None:
    """Return a duration in seconds, or None if the text is not one.

    Args:
        text: ``1m30s``, ``20ms``, ``7.5``, or a time of RFC 3339, which gives the seconds from now until then.
    """
    if not text:
        return None
    if (number := _parse_number(text)) is not None:
        return number
    match = _DURATION.fullmatch(text.strip())
    if match and any(match.groups()):
        return sum(float(group or 0) * unit for group, unit in zip(match.groups(), _UNITS, strict=True))
    try:
        return max(datetime.fromisoformat(text.strip()).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None


def _parse_number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else -1.0
    except ValueError:
        return None
    return number if 0 <= number < 1e9 else None


def _parse_count(text: str | None) -> int | None:
    number = _parse_number(text)
    return None if number is None else int(number)
