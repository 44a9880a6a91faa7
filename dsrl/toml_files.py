"""Files in TOML that others may have written: reading them is bounded, and every fault is a sentence for the user."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from dsrl.errors import SettingsError
from dsrl.text import printable


def read_toml_text(path: Path, title: str, limit: int = 2**20) -> str:
    """Read the text of a TOML file.

    Args:
        path: the file.
        title: what errors call the file, with its path.
        limit: its maximum size in bytes, a multiple of 1,024.

    Raises:
        SettingsError: it cannot be read, is longer than the limit, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except FileNotFoundError as error:
        raise SettingsError(f"{title} does not exist") from error
    except OSError as error:
        raise SettingsError(f"{title} cannot be read: {error.strerror}") from error
    if len(content) > limit:
        raise SettingsError(f"{title} is longer than {limit // 2**10:,} KiB, the limit of such a file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{title} is not UTF-8 (byte {error.start}); save it as UTF-8") from error


def parse_toml(text: str, title: str) -> dict[str, Any]:
    """Parse the text of a TOML file.

    Args:
        text: the text.
        title: what errors call the file, with its path.

    Raises:
        SettingsError: it is not TOML; the text names the line.
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise SettingsError(f"{title} is nested too deeply") from error
    except ValueError as error:  # not TOML, a number of thousands of digits
        raise SettingsError(f"{title} is not TOML: {printable(str(error))[:200]}") from error
