"""The prompts, one text file each; ``$name`` stands for a value.

What all requests of a purpose share stands in the file's first part and goes first, so that providers can cache it; what
is new in each request comes behind the line ``---`` and is the last message.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from string import Template

from dsrl.types import Message

_CUT = "\n---\n"


def render(name: str, **values: str) -> tuple[Message, ...]:
    """Fill a prompt; values are put in as they are, a ``$`` in them means nothing.

    Returns:
        A system message where the prompt has a shared part, then the user message.
    """
    shared, cut, own = _read(name).partition(_CUT)
    parts = [Template(part).substitute(values).strip() for part in ((shared, own) if cut else (shared,))]
    if len(parts) == 1:
        return (Message("user", parts[0]),)
    return (Message("system", parts[0]), Message("user", parts[1]))


@cache
def _read(name: str) -> str:
    return (files(__name__) / f"{name}.txt").read_text(encoding="utf-8")
