"""Fixtures for all tests: plugins of strangers, installed as a distribution on ``sys.path``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings

from dsrl.plugins.binding import Plugin, load
from dsrl.plugins.specs import KINDS
from dsrl.types import PluginRef

# A busy machine must not fail a test.
settings.register_profile("dsrl", deadline=None)
settings.load_profile("dsrl")

#: Installs ``(kind, name, target, distribution)``; the target is the source of a module, or an object.
Install = Callable[..., str]
#: Installs and loads ``(kind, target, **options)``.
Bound = Callable[..., Plugin[Any]]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Give a function that installs a plugin for this test only: a dist-info folder and its module, without pip."""
    numbers = count()

    def installed(
        kind: str, name: str, target: Any, distribution: str = "stranger", group: str = "", value: str = ""
    ) -> str:
        number = next(numbers)
        module = f"dsrl_stranger_{tmp_path.name.replace('-', '_')}_{number}"
        site = tmp_path / f"site{number}"
        info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        if isinstance(target, str):
            (site / f"{module}.py").write_text(target, encoding="utf-8")
            place = module
        else:
            made: Any = ModuleType(module)
            made.plugin = target
            monkeypatch.setitem(sys.modules, module, made)
            place = f"{module}:plugin"
        group = group or KINDS[kind].group
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value or place}\n")
        monkeypatch.syspath_prepend(site)
        return module

    return installed


@pytest.fixture
def bound(install: Install) -> Bound:
    """Give a function that installs a plugin and loads it by its name."""
    numbers = count()

    def loaded(kind: str, target: Any, overrides: tuple[str, ...] = (), **options: Any) -> Plugin[Any]:
        name = f"{kind}{next(numbers)}"
        install(kind, name, target, distribution=f"stranger-{name}")
        return load(PluginRef(kind, name, options, overrides), kind)

    return loaded
