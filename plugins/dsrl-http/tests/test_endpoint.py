from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from dsrl_http.endpoint import check_address, check_positive, is_same_host, strip_environment

from dsrl import SettingsError, TeacherError


@pytest.mark.parametrize("address", ["http://127.0.0.1:8000/v1", "https://example.com", "HTTP://[::1]:80"])
def test_an_address_of_a_server(address: str) -> None:
    check_address(address, "base_url", "https://example.com")


@pytest.mark.parametrize("address", ["localhost", "ftp://h", "http://", "http://h:port", "http://[::1", "http://u:p@h"])
def test_no_address_of_a_server(address: str) -> None:
    with pytest.raises(SettingsError, match=r"base_url is not a valid server URL .*https://example\.com") as caught:
        check_address(address, "base_url", "https://example.com")
    assert address not in str(caught.value), "it may hold a password"


def test_hosts_are_compared_without_case_and_path() -> None:
    assert is_same_host("https://API.example.com/v1", "https://api.example.com")
    assert not is_same_host("https://api.example.com.evil.org", "https://api.example.com")


@pytest.mark.parametrize("value", [0, -1, True, "5", None, float("nan"), float("inf")])
def test_a_number_that_is_not_positive(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"timeout=.* must be a number above 0"):
        check_positive(value, "timeout")


def test_a_client_forgets_the_environment() -> None:
    client = SimpleNamespace(_custom_headers={"X-Team": "a"}, organization="b", auth_token="c", api_key="mine")
    strip_environment(client, {"anthropic-version": "1"})
    assert vars(client) == {
        "_custom_headers": {"anthropic-version": "1"},
        "organization": None,
        "auth_token": None,
        "api_key": "mine",
    }
    with pytest.raises(TeacherError, match="Install another version"):
        strip_environment(SimpleNamespace())
