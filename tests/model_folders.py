"""Folders with a base model, for tests that break one."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def copy_tiny(folder: Path, without: str = "") -> Path:
    """Copy the installed model ``tiny`` without one file."""
    spec = find_spec("dsrl_transformers.tiny")
    assert spec
    assert spec.submodule_search_locations
    shutil.copytree(spec.submodule_search_locations[0], folder, ignore=shutil.ignore_patterns("*.py", without))
    return folder


def edit_json(file: Path, **changes: Any) -> None:
    """Change entries of a JSON object in a file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
