"""What a process needs that connects to Ray or starts one. The trainer of dsrl-verl uses it, too."""

from __future__ import annotations

import os
import re
import secrets
import socket
from importlib import import_module
from pathlib import Path
from typing import Any

from dsrl import SettingsError

#: How often a Ray of this machine is started: Ray has fixed times for some of its parts, which a busy machine does not keep.
STARTS = 3
_ADDRESS = re.compile(r"auto|(ray://)?(?:[\w.-]+|\[[\da-fA-F:]+\]):\d{1,5}")


def check_address(value: Any, flag: str) -> str:
    """Return an address of a Ray cluster as the user gave it; empty if there is none.

    Args:
        value: the value of the option.
        flag: the flag with which it was given.

    Raises:
        SettingsError: it is no address.
    """
    if value == "":
        return ""
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        raise SettingsError(
            f"{flag} ray_address={value} is no address of a Ray cluster; write HOST:PORT (the head's port, usually 6379), "
            "ray://HOST:PORT or auto"
        )
    return value


def refuse_closed_port(address: str) -> None:
    """Refuse an address at which nothing listens.

    Raises:
        SettingsError: names the address.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        return  # auto
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise SettingsError(
            f"nothing answers at the Ray address {address} ({error}); start the cluster there (ray start --head), or leave "
            "out the option ray_address for a Ray on this machine alone"
        ) from None


def choose_token(address: str) -> dict[str, str]:
    """Return the variables with which a process may join a Ray: a running one, or one of its own.

    `ray start` asks for a token as soon as this user has one, and Ray's clients do not send theirs by themselves. A Ray of
    one's own would write a token into the user's home, so that the next cluster asks for it; it gets one for itself.

    Args:
        address: the address of the cluster; empty for a Ray of one's own.
    """
    if "RAY_AUTH_MODE" in os.environ:
        return {}
    if not address:
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    places = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    has_token = any(os.environ.get(name) for name in places) or Path("~/.ray/auth_token").expanduser().is_file()
    return {"RAY_AUTH_MODE": "token"} if has_token else {}


def leave_out_dashboard() -> None:
    """Let a Ray that this process starts have less to do, for which it has fixed times of 15 and 30 seconds.

    The agent of the dashboard takes most of the time. Ray leaves its optional parts out if their packages are not there.
    """
    utils: Any = import_module("ray._private.utils")
    utils.get_dashboard_dependency_error = lambda: "dsrl needs no dashboard"
