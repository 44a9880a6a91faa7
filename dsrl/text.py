"""Text from elsewhere, made safe for what it goes to: a database, a file, a terminal."""

from __future__ import annotations


def replace_surrogates(text: str) -> str:
    """Give text that SQLite and UTF-8 files take: lone surrogates, which a model's JSON may hold, become ``?``."""
    return text.encode("utf-8", "replace").decode("utf-8")


def printable(text: str) -> str:
    """Give text that is safe on a terminal: a model's or a provider's words may hold its control sequences."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)
