from __future__ import annotations

import pytest
from dsrl_http.errors import ProviderError, get_row_fault
from hypothesis import given
from hypothesis import strategies as st


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
def test_the_message_is_read_from_any_body(body: object, message: str, codes: str) -> None:
    error = ProviderError(400, body)
    assert (error.message, error.codes) == (message, codes)


def test_long_messages_are_cut_and_keys_hidden() -> None:
    error = ProviderError(401, {"error": {"message": "hunter2 " * 1000}}, key="hunter2")
    assert len(error.message) == 500
    assert "hunter2" not in error.message


def test_only_some_statuses_are_the_fault_of_a_row() -> None:
    body = {"error": {"message": "maximum context length", "code": "context_length_exceeded"}}
    assert get_row_fault(ProviderError(400, body)) == "context_too_long"
    assert get_row_fault(ProviderError(500, body)) == ""


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
