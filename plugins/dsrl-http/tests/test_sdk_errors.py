from __future__ import annotations

import socket

import aiohttp
import httpx2
import pytest
from dsrl_http.sdk_errors import describe_cause, is_of_transport, is_unreachable


def wrap(cause: Exception) -> Exception:
    try:
        raise RuntimeError("Connection error.") from cause
    except RuntimeError as error:
        return error


@pytest.mark.parametrize("cause", [socket.gaierror("no such host"), ConnectionRefusedError("refused")])
def test_a_server_that_was_not_reached(cause: Exception) -> None:
    assert is_unreachable(wrap(cause))
    assert describe_cause(wrap(cause)) == str(cause)


def test_a_connection_that_broke_was_reached() -> None:
    assert not is_unreachable(wrap(ConnectionResetError("reset")))


def test_exceptions_of_the_network_and_of_http_libraries() -> None:
    for error in (OSError(), EOFError(), aiohttp.ClientError(), httpx2.ReadError("x")):
        assert is_of_transport(error)
    assert not is_of_transport(ValueError("ours"))


def test_causes_in_a_circle_end() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert not is_unreachable(first)
    assert describe_cause(first) == "second"
