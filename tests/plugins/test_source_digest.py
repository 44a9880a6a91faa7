from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from dsrl.plugins.source_digest import source_digest

MODULE = '''
"""A task."""
from helpers import words
from . import tables
from .shared import clean, unused

SHIFT = 3

def parse(text):
    """Read an answer."""
    return clean(text)[SHIFT:]  # from the third

def reward(text):
    return 1.0 if parse_other(text) in tables.GOOD else 0.0

def parse_other(text):
    return text.strip()

class Task:
    step = 2

    @hookimpl
    def parse(self, text):
        return self._cut(text)

    @hookimpl
    def reward(self, text):
        return self.parse(text) == "x"

    @hookimpl
    def price(self):
        return SHIFT

    def _cut(self, text):
        return text[self.step :]
'''
SHARED = "def clean(text):\n    return text.lower()\n\ndef unused():\n    return 1\n"
TABLES = "GOOD = ['a']\n\nGOOD.append('b')\n"


@pytest.fixture
def digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, str]]:
    """Give a function that writes the package with some texts replaced, and gives the digests of its functions."""
    numbers = count()

    def made(*edits: tuple[str, str]) -> dict[str, str]:
        # Always the same name in a folder of its own, as an edited package has.
        folder = tmp_path / str(next(numbers))
        (folder / "edited").mkdir(parents=True)
        for name, text in {"__init__.py": MODULE, "shared.py": SHARED, "tables.py": TABLES}.items():
            for old, new in edits:
                text = text.replace(old, new)
            (folder / "edited" / name).write_text(text, encoding="utf-8")
        for name in [name for name in sys.modules if name.partition(".")[0] == "edited"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
        (folder / "helpers.py").write_text("words = ()\n", encoding="utf-8")
        monkeypatch.setattr("builtins.hookimpl", lambda function: function, raising=False)
        import edited  # type: ignore[import-not-found]

        found: dict[str, str] = {}
        for name in ("parse", "reward", "price"):
            method: Any = getattr(edited.Task, name)
            found[f"Task.{name}"] = source_digest([(edited.Task(), method)])
            function = getattr(edited, name, None)
            if isinstance(function, FunctionType):
                found[name] = source_digest([(edited, function)])
        return found

    return made


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("# from the third", "# from wherever it is", set()),
        ("Read an answer.", "Read the answer.", set()),
        ("def unused():\n    return 1", "def unused():\n    return 2", set()),
        ("from helpers import words\n", "from helpers import words, words as more\n", set()),
        ("clean(text)[SHIFT:]", "clean(text)[SHIFT :]\n", set()),
        ("clean(text)[SHIFT:]", "clean(text)[SHIFT + 1:]", {"parse"}),
        ("text.lower()", "text.upper()", {"parse"}),
        ("SHIFT = 3", "SHIFT = 4", {"parse", "Task.price"}),
        ("else 0.0", "else 0.5", {"reward"}),
        ("text.strip()", "text.rstrip()", {"reward"}),
        ("['a']", "['c']", {"reward"}),
        ("append('b')", "append('c')", {"reward"}),
        ('== "x"', '== "y"', {"Task.reward"}),
        ("step = 2", "step = 1", {"Task.parse", "Task.reward", "Task.price"}),
        ("SHIFT = 3", "SHIFT = 3" + " + 0" * 900, {"parse", "Task.price"}),
        ("self._cut(text)", "self._cut(text)[1:]", {"Task.parse", "Task.reward"}),
    ],
)
def test_a_digest_follows_what_a_function_reaches_and_nothing_else(
    digests: Any, old: str, new: str, changed: set[str]
) -> None:
    before, after = digests(), digests((old, new))
    assert {name for name in before if before[name] != after[name]} == changed


def test_what_has_no_source_has_a_digest_all_the_same() -> None:
    namespace: dict[str, Any] = {"__name__": "nowhere_at_all"}
    exec("def f():\n    pass\n", namespace)
    assert source_digest([(sys, namespace["f"])]) == source_digest([(sys, namespace["f"])])
    assert source_digest([(object(), namespace["f"])])
    assert source_digest([])
