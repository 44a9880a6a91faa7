"""Keys of providers: from the environment or the system keyring only, and into nothing that a run leaves behind."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from dsrl.errors import SettingsError, TeacherError

_known: set[str] = set()
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
# How the keys of well-known providers begin. For what nobody should have to name: a key in the wrong place.
# A match is as long as it can be, so that the search goes over each character a fixed number of times.
_KEY_LIKE = re.compile(
    r"Bearer\s+\S{8,}|\b(?P<words>sk[-_][\w*.-]{12,})|\b(?:gsk_|xai-|hf_|r8_|nvapi-|pplx-|AIza)[\w*-]{20,}"
)
#: A shorter beginning of a key may not look like one yet.
_BEGINNING = 100
_DIGIT = re.compile(r"[\d*]")
_SECRET_NAME = re.compile(
    r"(?:^|[_-])(?:api[_-]?key|access[_-]?key|secret(?:[_-]?key)?|auth[_-]?token|api[_-]?token|password|authorization)$",
    re.IGNORECASE,
)


def find_key(variables: Sequence[str], service: str, page: str = "") -> str:
    """Find a provider's key: in the environment, else in the system keyring where the package `keyring` is installed.

    Args:
        variables: environment variables, the first that is set wins. The keyring is asked for them as user names.
        service: the provider's name, under which the keyring keeps the key.
        page: where a key is to be had.

    Raises:
        TeacherError: there is none; says which variable, where to get one and how to put it into the keyring. Also for
            a variable's name that is none, and for a value that cannot be a key. No value is ever in the text.
    """
    for variable in variables:
        if not _VARIABLE.fullmatch(variable):
            raise TeacherError(
                "what was given as the name of an environment variable is no such name; name the variable that holds the "
                "key, as OPENAI_API_KEY does, never the key itself"
            )
    for place, value in _places(variables, service):
        key = value.strip()
        if not key:
            continue
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise TeacherError(f"{place} holds characters that no key has (a space, a line break?); set it again")
        _known.add(key)
        return key
    first = variables[0]
    get = f" A key is to be had at {page}." if page else ""
    raise TeacherError(
        f"no key for {service}: the environment variable {' or '.join(variables)} is not set.{get} "
        f"Set it with `export {first}=...`, or keep the key in the system keyring: "
        f"`pip install keyring`, then `keyring set {service} {first}`"
    )


def known_keys() -> Collection[str]:
    """Give the keys that this process has found, to mask them; not those so short that they may be any word."""
    return [key for key in _known if len(key) >= 8]


def mask(text: str, *keys: str) -> str:
    """Hide keys in a text of somebody else: the given ones, and whatever is written like one."""
    for key in keys:
        if key:
            text = text.replace(key, "[key]")
    return _KEY_LIKE.sub(_hidden, text)


def excerpt(text: str, most: int, *keys: str) -> str:
    """Give the beginning of a text of somebody else on one line, with its keys hidden.

    Only the beginning is looked at, however long the text is. Where that ends within a key, no part of the key is shown.
    """
    # This much at the end may be the beginning of a key that cannot be recognized as one.
    margin = max([_BEGINNING, *map(len, keys)])
    beginning = text.lstrip()
    shown = mask(beginning[: 20 * most + margin], *keys)
    if len(beginning) > 20 * most + margin:
        shown = shown[:-margin]
    return " ".join(shown.split())[:most]


def refuse_keys(options: Mapping[str, Any], flag: str) -> None:
    """Refuse options that hold a key: by their name, by the look of their value, by a password in an address.

    Args:
        options: a plugin's options as the user gave them; looked through to any depth.
        flag: how the user gives them, for the text.

    Raises:
        SettingsError: names the option, not its value.
    """
    for name, value in options.items():
        if isinstance(value, Mapping):
            refuse_keys(value, flag)
        values = value if isinstance(value, (list, tuple)) else (value,)
        if _SECRET_NAME.search(name) or any(isinstance(v, str) and _holds_key(v) for v in values):
            shown = mask(name)
            raise SettingsError(
                f"{flag} {shown}=... looks like a key. Settings are written down with the run, so keys are not taken there: "
                "set the provider's environment variable, or keep the key in the system keyring"
            )


def _hidden(match: re.Match[str]) -> str:
    # Names of packages and models begin like that too, and are made of words. A key has digits, or stars where it is masked.
    words = match["words"]
    return words if words and not _DIGIT.search(words) else "[key]"


def _holds_key(value: str) -> bool:
    if mask(value) != value:
        return True
    try:
        return urlsplit(value).password is not None
    except ValueError:
        return False


def _places(variables: Sequence[str], service: str) -> list[tuple[str, str]]:
    found = [(f"the environment variable {name}", os.environ[name]) for name in variables if os.environ.get(name)]
    if found:
        return found
    try:
        import keyring
    except ImportError:
        return []
    for name in variables:
        try:
            value = keyring.get_password(service, name)
        except Exception:  # noqa: BLE001 - a machine without a keyring service: its backends raise whatever they like
            return []
        if value:
            found.append((f"the keyring entry {service} {name}", value))
    return found
