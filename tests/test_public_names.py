"""What users and plugin authors import from ``dsrl``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import dsrl
from dsrl import errors, types

ROOT = Path(__file__).parents[1]


def test_every_public_name_is_there() -> None:
    for name in dsrl.__all__:
        assert getattr(dsrl, name) is not None, name


def test_what_the_page_of_hooks_names_is_public() -> None:
    """A type or an error that a hook takes, gives or raises is imported from ``dsrl``, wherever it stands."""
    page = (ROOT / "docs/hooks.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\b[A-Z]\w+", page))
    for module in (types, errors):
        own = {name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
        assert own & named <= set(dsrl.__all__)


def test_the_page_of_public_names_lists_them_all() -> None:
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+)` \| .", page, re.MULTILINE)) == sorted(dsrl.__all__)


def test_public_names_are_completed_before_they_are_imported() -> None:
    assert set(dsrl.__all__) <= set(dir(dsrl))


def test_importing_dsrl_imports_no_room() -> None:
    code = "import sys, dsrl; print([m for m in sys.modules if m.startswith('dsrl.')])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
