from __future__ import annotations

import pytest
from dsrl_http.headers import parse_seconds, read_rate, read_retry_after

from dsrl import Rate


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("1h2m3.5s", 3723.5),
        ("20ms", 0.02),
        ("1d", 86400.0),
        ("2m", 120.0),
        ("7.5", 7.5),
        ("2000-01-01T00:00:00Z", 0.0),
        ("", None),
        (None, None),
        ("soon", None),
        ("-5", None),
        ("nan", None),
        ("1e300", None),
    ],
)
def test_spans_of_time(text: str | None, expected: float | None) -> None:
    assert parse_seconds(text) == expected


@pytest.mark.parametrize(
    "headers", [{}, {"retry-after": ""}, {"retry-after": "nan"}, {"retry-after": "Mon, 99 Foo 1000 00:00:00 GMT"}]
)
def test_no_wait_is_made_up(headers: dict[str, str]) -> None:
    assert read_retry_after(headers) is None


def test_no_limit_is_made_up() -> None:
    assert read_rate({"x-ratelimit-remaining-requests": "many", "x-ratelimit-limit-requests": "5"}) is None
    assert read_rate({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "?"}) == Rate(remaining_tokens=5)
