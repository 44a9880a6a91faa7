from __future__ import annotations

import pytest
from dsrl_http.remote import ProviderError, count, parsed, part, rate, reply, retry_after, row_fault, seconds
from hypothesis import given
from hypothesis import strategies as st

from dsrl.types import Rate, Reply


@pytest.mark.parametrize(
    ("text", "wanted"),
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
def test_spans_of_time(text: str | None, wanted: float | None) -> None:
    assert seconds(text) == wanted


@pytest.mark.parametrize(
    "headers", [{}, {"retry-after": ""}, {"retry-after": "nan"}, {"retry-after": "Mon, 99 Foo 1000 00:00:00 GMT"}]
)
def test_no_wait_is_made_up(headers: dict[str, str]) -> None:
    assert retry_after(headers) is None


def test_no_limit_is_made_up() -> None:
    assert rate({"x-ratelimit-remaining-requests": "many", "x-ratelimit-limit-requests": "5"}) is None
    assert rate({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "?"}) == Rate(remaining_tokens=5)


@pytest.mark.parametrize(
    ("body", "message", "codes"),
    [
        ({"error": {"message": "m", "type": "t", "code": "c"}}, "m", "t c"),
        ({"message": "m", "type": "t", "code": None}, "m", "t"),
        ({"error": "m"}, "m", ""),
        ({"detail": "m"}, "m", ""),
        ({"detail": [{"loc": ["body"]}]}, '[{"loc": ["body"]}]', ""),
        ({"type": "error", "error": {"type": "t", "message": "m"}}, "m", "error t"),
        ('{"error": {"message": "m"}}', "m", ""),
        ("plain\nwords", "plain words", ""),
        ("<!doctype html><title> Not\nhere </title>", "a page of HTML (Not here)", ""),
        ("<html>", "a page of HTML", ""),
        (b"\xff\xfe", "\ufffd\ufffd", ""),
        ({}, "no reason given", ""),
        (None, "no reason given", ""),
        ([1], "no reason given", ""),
        ({"error": {"error": {"error": {"error": {"error": "deep"}}}}}, "no reason given", ""),
    ],
)
def test_what_is_said_is_found_in_any_body(body: object, message: str, codes: str) -> None:
    error = ProviderError(400, body)
    assert (error.message, error.codes) == (message, codes)


def test_long_words_are_cut_and_keys_hidden() -> None:
    error = ProviderError(401, {"error": {"message": "hunter2 " * 1000}}, key="hunter2")
    assert len(error.message) == 500
    assert "hunter2" not in error.message


def test_only_some_statuses_are_a_rows_fault() -> None:
    said = {"error": {"message": "maximum context length", "code": "context_length_exceeded"}}
    assert row_fault(ProviderError(400, said)) == "context_too_long"
    assert row_fault(ProviderError(500, said)) == ""


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.binary(),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(["error", "message", "type", "code", "detail", "param", "innererror"]), inner
            )
        ),
    )
)
def test_no_body_of_an_error_is_a_crash(body: object) -> None:
    error = ProviderError(400, body)
    assert 0 < len(error.message) <= 500
    assert isinstance(error.param, str)


def test_hostile_numbers_and_shapes() -> None:
    assert [count({"a": value}, "a") for value in (3, 3.7, -1, "3", None, True, float("nan"), 1e300)] == [
        3,
        3,
        *[0] * 6,
    ]
    assert count([], "a", "b") == 0
    assert part({"a": 1}, "a", dict) == {}
    assert part(None, "a", str) == ""
    assert parsed("[" * 100_000) is None
    assert parsed("9" * 10_000) is None
    assert reply("x" * 1_000_001, "stop") == Reply("x" * 1_000_000, "length")
