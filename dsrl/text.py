"""Text of models and providers, made safe for databases, files and terminals."""

from __future__ import annotations


def replace_surrogates(text: str) -> str:
    """Return a text that SQLite and UTF-8 files accept: lone surrogates, which the JSON of models may hold, become ``?``."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def printable(text: str) -> str:
    """Return a text that is safe on a terminal: control characters, which models and providers may send, become spaces."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)
