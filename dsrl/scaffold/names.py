"""The names of a new plugin, of its package and of its module."""

from __future__ import annotations

import importlib.util
import keyword
import re
from dataclasses import dataclass

from dsrl.errors import PluginError, SettingsError
from dsrl.plugins.discovery import list_plugins
from dsrl.plugins.specs import KINDS

#: Longest name of a plugin: with a longer one, lines of the new code would have to be broken anew.
LONGEST_NAME = 32
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Names:
    """The names of a plugin in a package of its own.

    Attributes:
        kind: the name of its kind.
        plugin: the name of the entry point, which the user types, e.g. ``lease_check``.
    """

    kind: str
    plugin: str

    @property
    def module(self) -> str:
        """The name of the package to import, e.g. ``dsrl_lease_check``."""
        return f"dsrl_{self.plugin}"

    @property
    def distribution(self) -> str:
        """The name that pip uses, e.g. ``dsrl-lease-check``."""
        return f"dsrl-{self.dashed}"

    @property
    def dashed(self) -> str:
        """The name with dashes, e.g. ``lease-check``."""
        return self.plugin.replace("_", "-")

    @property
    def camel(self) -> str:
        """The name as a part of the names of classes, e.g. ``LeaseCheck``."""
        return "".join(word.capitalize() for word in self.plugin.split("_"))


def check_names(kind: str, plugin: str) -> Names:
    """Return the names of a new plugin.

    Raises:
        SettingsError: the name cannot be the name of a plugin and a module; the text proposes another one.
        PluginError: a plugin of this kind, or a module, already has the name.
    """
    rule = f"a name has at most {LONGEST_NAME} lower-case letters and digits, with single underscores between words"
    if not _NAME.fullmatch(plugin) or len(plugin) > LONGEST_NAME:
        words = re.sub(r"[^a-z0-9]+", "_", plugin.lower()[:LONGEST_NAME]).strip("_")
        hint = f", for example {words!r}" if _NAME.fullmatch(words) else ""
        raise SettingsError(f"{plugin[:100]!r} cannot be the name of a {kind}: {rule}, and begins with a letter{hint}")
    if keyword.iskeyword(plugin) or keyword.issoftkeyword(plugin) or plugin in KINDS:
        raise SettingsError(
            f"{plugin!r} cannot be the name of a {kind}: it is a reserved word; choose another name, for example "
            f"'my_{plugin}'"
        )
    names = Names(kind, plugin)
    for installed in list_plugins(kind):
        if installed.name == plugin:
            raise PluginError(
                f"{installed.distribution} {installed.version} already has a {kind} {plugin!r}; choose another name, or "
                f"uninstall that package"
            )
    if importlib.util.find_spec(names.module) is not None:
        raise PluginError(
            f"a module {names.module!r}, which the new package would have, is already installed; choose another name than "
            f"{plugin!r}"
        )
    return names
