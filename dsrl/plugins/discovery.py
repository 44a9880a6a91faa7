"""Which plugins are installed. Nothing of a plugin is imported here."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from typing import Any, Protocol

from dsrl.errors import PluginError
from dsrl.plugins.specs import KINDS
from dsrl.plugins.task_files import TaskFile, is_task_file


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """A plugin as its distribution declares it.

    Attributes:
        kind: the name of its kind.
        name: the name of the entry point, which the user types.
        target: the value of the entry point: ``module`` or ``module:object``.
        distribution: the name of the distribution that declares it.
        version: the version of that distribution.
    """

    kind: str
    name: str
    target: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} of {self.distribution} {self.version}".rstrip()


class Loadable(Protocol):
    """What loads a plugin: an entry point, or a file of the user."""

    @property
    def dist(self) -> Distribution | None:
        """The distribution that declares the plugin; None for a file."""

    def load(self) -> Any:
        """Import the plugin."""


def split_name(name: str) -> tuple[str, str]:
    """Split what the user typed into the name of a plugin and its argument: ``verifiers:gsm8k`` names ``verifiers``.

    The argument is the text after the first colon, or an empty text. A plugin whose class has the option ``argument``
    receives it there.
    """
    plugin, _, argument = name.partition(":")
    return plugin, argument


def list_plugins(kind: str) -> list[PluginInfo]:
    """List the installed plugins of a kind, sorted by name; a name that clashes appears once per distribution."""
    plugins = (_describe(kind, entry) for entry in entry_points(group=KINDS[kind].group))
    return sorted(plugins, key=lambda plugin: (plugin.name, plugin.distribution))


def find_plugin(kind: str, name: str) -> tuple[Loadable, PluginInfo]:
    """Find the entry point of a plugin; an argument after a colon does not belong to the name of the entry point.

    The name of a task can be the path of a file instead (:mod:`dsrl.plugins.task_files`).

    Raises:
        PluginError: no plugin has this name (the error names the nearest ones), or several distributions declare it.
        SettingsError: the file is not there.
    """
    if kind == "task" and is_task_file(name):
        file = TaskFile(name)
        return file, PluginInfo(kind, name, file.module, "a file", "")
    group = KINDS[kind].group
    name, _ = split_name(name)
    entries = entry_points(group=group)
    matches = [entry for entry in entries if entry.name == name]
    if len(matches) == 1:
        return matches[0], _describe(kind, matches[0])
    if matches:
        infos = (_describe(kind, entry) for entry in matches)
        owners = " and ".join(f"{info.distribution} {info.version}" for info in infos)
        raise PluginError(f"{kind} {name!r} is declared by {owners}; uninstall one of them")
    names = sorted({entry.name for entry in entries})
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif names:
        hint = f"installed: {', '.join(names)}."
    else:
        hint = f"no {kind} plugin is installed."
    raise PluginError(
        f"no {kind} {name!r} is installed; {hint} A plugin is a package with an entry point in the group {group!r}; install "
        "it with pip. `dsrl plugins` lists the installed ones."
    )


def list_unknown_groups() -> list[str]:
    """Describe the installed entry points whose group looks like one of dsrl's, but is none; one sentence each."""
    groups = {kind.group: kind.name for kind in KINDS.values()}
    sentences = []
    entries = {entry for distribution in distributions() for entry in distribution.entry_points}
    for entry in entries:
        if not entry.group.startswith("dsrl.") or entry.group in groups:
            continue
        owner = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown distribution"
        near = difflib.get_close_matches(entry.group, groups, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the groups are {', '.join(groups)}"
        sentences.append(
            f"{owner} declares {entry.name!r} in the group {entry.group!r}, which dsrl does not have; {hint}"
        )
    return sorted(sentences)


def _describe(kind: str, entry: EntryPoint) -> PluginInfo:
    distribution = entry.dist
    name, version = (distribution.name, distribution.version) if distribution else ("unknown distribution", "")
    return PluginInfo(kind, entry.name, entry.value, name, version)
