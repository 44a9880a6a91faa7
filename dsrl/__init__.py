"""dsrl: a task definition in, a better model out (Synthetic Data RL, Guo et al. 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["UNREADABLE", "AnswerFormat", "Example", "Solved", "__version__", "hookimpl"]

if TYPE_CHECKING:
    from dsrl.answers import AnswerFormat
    from dsrl.plugins.specs import hookimpl
    from dsrl.types import UNREADABLE, Example, Solved

_HOMES = {
    "AnswerFormat": "dsrl.answers",
    "hookimpl": "dsrl.plugins.specs",
    "UNREADABLE": "dsrl.types",
    "Example": "dsrl.types",
    "Solved": "dsrl.types",
}


def __getattr__(name: str) -> Any:
    # What a plugin author imports from `dsrl`; lazily, so that `dsrl --help` stays quick.
    if name not in _HOMES:
        raise AttributeError(f"module 'dsrl' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
