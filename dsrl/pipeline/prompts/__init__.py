"""The prompts, one text file each; ``$name`` stands for a value.

The first part of a file is the same for all requests of a purpose and is sent first, so that providers can cache it. The
part after the line ``---`` differs from request to request and is the last message.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from string import Template

from dsrl.types import Message

_SEPARATOR = "\n---\n"


def render(name: str, **values: str) -> tuple[Message, ...]:
    """Fill a prompt with values. A ``$`` in a value has no meaning.

    Args:
        name: the name of the prompt's file, without ``.txt``.
        values: name -> value.

    Returns:
        A system message if the prompt has a shared part, then the user message.
    """
    shared, separator, own = _read(name).partition(_SEPARATOR)
    parts = [Template(part).substitute(values).strip() for part in ((shared, own) if separator else (shared,))]
    if len(parts) == 1:
        return (Message("user", parts[0]),)
    return (Message("system", parts[0]), Message("user", parts[1]))


@cache
def _read(name: str) -> str:
    return (files(__name__) / f"{name}.txt").read_text(encoding="utf-8")
