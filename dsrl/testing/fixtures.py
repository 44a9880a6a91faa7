"""Pytest fixtures that install a plugin for one test only, without pip.

Write ``pytest_plugins = ["dsrl.testing.fixtures"]`` into the ``conftest.py`` of your project to use them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dsrl.plugins.binding import Plugin, load
from dsrl.plugins.specs import KINDS
from dsrl.types import PluginRef

#: The type of the fixture ``bound``.
Bind = Callable[..., Plugin[Any]]


class Installer:
    """Installs plugins for one test: it writes a dist-info folder and a module into a folder of ``sys.path``.

    Args:
        folder: an empty folder, or one that does not exist.
        monkeypatch: takes everything back at the end of the test.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._monkeypatch = folder, monkeypatch
        self._sites, self._names = count(), count()

    def __call__(
        self, kind: str, name: str, target: Any, distribution: str = "stranger", group: str = "", value: str = ""
    ) -> str:
        """Install a plugin and return the name of its module.

        Args:
            kind: the kind of the plugin, e.g. ``task``.
            name: the name of the entry point.
            target: the source code of a module, or a class, an instance or a module.
            distribution: the name of the distribution.
            group: the group of the entry point; empty for the group of the kind.
            value: the value of the entry point; empty for the one that leads to ``target``.
        """
        number = next(self._sites)
        module = f"dsrl_stranger_{self._folder.name.replace('-', '_')}_{number}"
        site = self._folder / f"site{number}"
        info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        if isinstance(target, str):
            (site / f"{module}.py").write_text(target, encoding="utf-8")
            place = module
        else:
            holder: Any = ModuleType(module)
            holder.plugin = target
            self._monkeypatch.setitem(sys.modules, module, holder)
            place = f"{module}:plugin"
        group = group or KINDS[kind].group
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value or place}\n")
        self._monkeypatch.syspath_prepend(site)
        return module

    def install_unnamed(self, kind: str, target: Any) -> str:
        """Install a plugin under a name of its own and return that name."""
        name = f"{kind}{next(self._names)}"
        self(kind, name, target, distribution=f"stranger-{name}")
        return name

    def bind(self, kind: str, target: Any, overrides: tuple[str, ...] = (), **options: Any) -> Plugin[Any]:
        """Install a plugin and return it bound, as a run binds it.

        Args:
            kind: the kind of the plugin.
            target: the source code of a module, a class, an instance or a module. Bind an instance to watch it in the test.
            overrides: files whose hooks replace the plugin's.
            options: keyword arguments of the class.
        """
        return load(PluginRef(kind, self.install_unnamed(kind, target), options, overrides), kind)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installer:
    """Return a function that installs a plugin for this test: ``install(kind, name, target)``; see :class:`Installer`."""
    return Installer(tmp_path, monkeypatch)


@pytest.fixture
def bound(install: Installer) -> Bind:
    """Return a function that installs and binds a plugin: ``bound(kind, target)``; see :meth:`Installer.bind`."""
    return install.bind
