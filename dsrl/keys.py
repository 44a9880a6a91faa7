"""Keys of providers. They come from the environment or the system keyring only, and no file of a run contains them."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from dsrl.errors import SettingsError, TeacherError

#: Keys that this process has read.
_keys: set[str] = set()
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
# The beginnings of the keys of well-known providers, to find a key in a wrong place.
# Every match is as long as possible, so the search visits each character a fixed number of times.
_KEY_LIKE = re.compile(
    r"Bearer\s+\S{8,}|\b(?P<words>sk[-_][\w*.-]{12,})|\b(?:gsk_|xai-|hf_|r8_|nvapi-|pplx-|AIza)[\w*-]{20,}"
)
#: Characters of a key that are enough to recognize it.
_RECOGNIZABLE = 100
_DIGIT = re.compile(r"[\d*]")
_SECRET_NAME = re.compile(
    r"(?:^|[_-])(?:api[_-]?key|access[_-]?key|secret(?:[_-]?key)?|auth[_-]?token|api[_-]?token|password|authorization)$",
    re.IGNORECASE,
)


def find_key(variables: Sequence[str], service: str, page: str = "") -> str:
    """Find a provider's key in the environment, or else in the system keyring if the package `keyring` is installed.

    Args:
        variables: names of environment variables; the first one that is set wins. In the keyring they are user names.
        service: the provider's name, under which the keyring stores the key.
        page: web page on which a key can be created.

    Raises:
        TeacherError: there is no key; the text names the variable, the page, and how to put a key into the keyring. Also
            if a variable's name is not valid, or a value cannot be a key. No value is ever in the text.
    """
    for variable in variables:
        if not _VARIABLE.fullmatch(variable):
            raise TeacherError(
                "that is not the name of an environment variable. Give the name of the variable that holds the key, such "
                "as OPENAI_API_KEY, never the key itself"
            )
    for place, value in _places(variables, service):
        key = value.strip()
        if not key:
            continue
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise TeacherError(f"{place} holds characters that no key has (a space or a line break?); set it again")
        _keys.add(key)
        return key
    first = variables[0]
    hint = f" You can create a key at {page}." if page else ""
    raise TeacherError(
        f"no key for {service}: the environment variable {' or '.join(variables)} is not set.{hint} "
        f"Set it with `export {first}=...`, or store the key in the system keyring: "
        f"`pip install keyring`, then `keyring set {service} {first}`"
    )


def get_keys() -> Collection[str]:
    """Return the keys that this process has read, to mask them, except those so short that they may be any word."""
    return [key for key in _keys if len(key) >= 8]


def mask(text: str, *keys: str) -> str:
    """Hide keys in a text: the keys in ``keys``, and everything that looks like a key."""
    for key in keys:
        if key:
            text = text.replace(key, "[key]")
    return _KEY_LIKE.sub(_hide, text)


def excerpt(text: str, most: int, *keys: str) -> str:
    """Return the beginning of a text on one line, at most ``most`` characters, with its keys hidden.

    Only the beginning is read, however long the text is. If it ends inside a key, no part of that key is returned.
    """
    # The end of the beginning may cut a key so short that it cannot be recognized.
    margin = max([_RECOGNIZABLE, *map(len, keys)])
    beginning = text.lstrip()
    masked = mask(beginning[: 20 * most + margin], *keys)
    if len(beginning) > 20 * most + margin:
        masked = masked[:-margin]
    return " ".join(masked.split())[:most]


def refuse_keys(options: Mapping[str, Any], flag: str) -> None:
    """Refuse options that hold a key, judged by their name, their value, or a password in a URL.

    Args:
        options: the options of a plugin; nested tables are checked too.
        flag: the flag that sets them, for the error text.

    Raises:
        SettingsError: an option holds a key; the text names the option, not its value.
    """
    for name, value in options.items():
        if isinstance(value, Mapping):
            refuse_keys(value, flag)
        values = value if isinstance(value, (list, tuple)) else (value,)
        if _SECRET_NAME.search(name) or any(isinstance(v, str) and _holds_key(v) for v in values):
            raise SettingsError(
                f"{flag} {mask(name)}=... looks like a key. Settings are stored with the run, so they must not hold keys: "
                "set the provider's environment variable, or store the key in the system keyring"
            )


def _hide(match: re.Match[str]) -> str:
    # Names of packages and models may begin in the same way, but consist of words. A key has digits, or stars if masked.
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
    """Return (place in words, value) of all candidates for a key."""
    values = [(f"the environment variable {name}", os.environ[name]) for name in variables if os.environ.get(name)]
    if values:
        return values
    try:
        import keyring
    except ImportError:
        return []
    for name in variables:
        try:
            value = keyring.get_password(service, name)
        except Exception:  # noqa: BLE001 - without a keyring service, the backends raise any kind of error
            return []
        if value:
            values.append((f"the keyring entry {service} {name}", value))
    return values
