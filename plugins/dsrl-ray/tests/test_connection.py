from __future__ import annotations

import socket
from pathlib import Path

import pytest
from dsrl_ray.connection import check_address, choose_token, refuse_closed_port

from dsrl import SettingsError


@pytest.mark.parametrize("address", ["", "auto", "head:6379", "ray://10.0.0.1:10001", "[::1]:6379"])
def test_addresses(address: str) -> None:
    assert check_address(address, "--flag") == address


@pytest.mark.parametrize("address", ["nowhere", "a b:1", 6379, "head:"])
def test_what_is_no_address(address: object) -> None:
    with pytest.raises(SettingsError, match=f"--flag ray_address={address} .*HOST:PORT"):
        check_address(address, "--flag")


def test_a_closed_port_is_refused_and_an_open_one_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        refuse_closed_port(address)
        refuse_closed_port(f"ray://{address}")
    for closed in (address, "127.0.0.1:99999"):
        with pytest.raises(SettingsError, match=f"nothing answers at the Ray address {closed}.*ray start --head"):
            refuse_closed_port(closed)
    refuse_closed_port("auto")


def test_the_token_of_the_user_is_sent_and_a_ray_of_our_own_has_one_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert choose_token("head:6379") == {}
    own = choose_token("")
    assert own["RAY_AUTH_MODE"] == "token"
    assert own["RAY_AUTH_TOKEN"] != choose_token("")["RAY_AUTH_TOKEN"]
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("token")
    assert choose_token("head:6379") == {"RAY_AUTH_MODE": "token"}
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert choose_token("head:6379") == choose_token("") == {}, "the user decides"
