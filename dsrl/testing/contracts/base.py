"""What the contract classes of all kinds share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dsrl.plugins.binding import Plugin, check_contract, load
from dsrl.plugins.checks import call_cheap_hooks
from dsrl.plugins.discovery import find_plugin
from dsrl.testing.fixtures import Installer
from dsrl.types import PluginRef


class PluginContract:
    """Tests of every plugin. A subclass of a subclass of it, with a name that begins with ``Test``, is run by pytest.

    Attributes:
        plugin: the name of the installed plugin; or a fixture that returns the plugin's module, class or instance.
        options: the options of the plugin; or a fixture that returns them, for options such as the address of a server.
    """

    kind: ClassVar[str]
    plugin: Any = ""
    options: Any = {}  # noqa: RUF012 - it is read only

    def read(self, name: str, request: pytest.FixtureRequest) -> Any:
        """Return the value of an attribute of this class, which can be a fixture."""
        value = getattr(self, name)
        return value if isinstance(value, (str, Path, Mapping)) else request.getfixturevalue(name)

    @pytest.fixture
    def installer(self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Installer:
        return Installer(tmp_path_factory.mktemp("installed"), monkeypatch)

    @pytest.fixture
    def ref(self, request: pytest.FixtureRequest, installer: Installer) -> PluginRef:
        """The reference of the plugin under test."""
        plugin = self.read("plugin", request)
        assert plugin, f"{type(self).__name__}: set `plugin` to the name of your {self.kind}"
        name = plugin if isinstance(plugin, str) else installer.install_unnamed(self.kind, plugin)
        return PluginRef(self.kind, name, self.read("options", request))

    @pytest.fixture
    def subject(self, ref: PluginRef) -> Plugin[Any]:
        """The plugin under test, bound as a run binds it."""
        return load(ref, self.kind)

    def test_the_hooks_have_their_marks_and_arguments(self, ref: PluginRef) -> None:
        check_contract(find_plugin(ref.kind, ref.name)[1])

    def test_the_cheap_hooks_accept_any_text(self, subject: Plugin[Any]) -> None:
        for _, call in call_cheap_hooks(subject):
            call()
