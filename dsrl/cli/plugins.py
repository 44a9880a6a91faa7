"""``dsrl plugins``: which plugins are installed, and whether they fit their contracts."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from dsrl.cli.common import Command, echo, json_option, print_json, table, working
from dsrl.errors import PluginError

if TYPE_CHECKING:
    from dsrl.plugins.discovery import PluginInfo


@click.group("plugins", invoke_without_command=True)
@click.option("--check", "checks", is_flag=True, help="Check all plugins; `dsrl plugins check` is the newer form.")
@json_option
@click.pass_context
def command(context: click.Context, checks: bool, as_json: bool) -> None:
    """List the installed plugins of every kind, or check them. Without a command: list."""
    if context.invoked_subcommand is not None:
        return
    with working():
        if not (checks and as_json):
            context.invoke(check_command if checks else list_command, as_json=as_json)
            return
        # The form of this output is older than `dsrl plugins check --json`; scripts read it.
        faults = _check(_list_all())
        print_json([{**asdict(p), "fault": " ".join(faults[p]) or None} for p in faults])
        sys.exit(1 if any(faults.values()) else 0)


@command.command("list", cls=Command)
@json_option
def list_command(as_json: bool) -> None:
    """List the installed plugins of every kind. No plugin is imported."""
    plugins = _list_all()
    if as_json:
        print_json([asdict(plugin) for plugin in plugins])
        return
    rows = [[p.kind, p.name, p.distribution, p.version] for p in plugins]
    table("", ["kind", "name", "distribution", "version"], rows)


@command.command("check", cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def check_command(as_json: bool, names: tuple[str, ...] = ()) -> None:
    """Check installed plugins against their contracts; all of them, or those of the given names.

    Each plugin is imported, its hooks are compared with the contract of its kind, and the hooks that cost nothing are
    called with texts that a model can produce: empty, very long, badly nested. Functions without the mark @hookimpl and
    entry points in an unknown group are reported too. The exit code is 1 if there is a fault.
    """
    from dsrl.plugins.discovery import list_unknown_groups

    plugins = [plugin for plugin in _list_all() if not names or plugin.name in names]
    unknown = [name for name in names if name not in {plugin.name for plugin in plugins}]
    if unknown:
        raise PluginError(f"no plugin {unknown[0]!r} is installed; `dsrl plugins list` lists the installed plugins")
    faults = _check(plugins)
    unknown_groups = [] if names else list_unknown_groups()
    if as_json:
        print_json(
            {
                "plugins": [{**asdict(plugin), "faults": faults[plugin]} for plugin in plugins],
                "unknown_groups": unknown_groups,
            }
        )
    else:
        rows = [[p.kind, p.name, p.distribution, p.version, "FAULT" if faults[p] else "ok"] for p in plugins]
        table("", ["kind", "name", "distribution", "version", "check"], rows)
        for fault in [*(fault for found in faults.values() for fault in found), *unknown_groups]:
            echo(fault)
    if any(faults.values()) or unknown_groups:
        sys.exit(1)


def _check(plugins: list[PluginInfo]) -> dict[PluginInfo, list[str]]:
    from dsrl.plugins.checks import check_plugin

    return {plugin: check_plugin(plugin) for plugin in plugins}


def _list_all() -> list[PluginInfo]:
    from dsrl.plugins.discovery import list_plugins
    from dsrl.plugins.specs import KINDS

    return [plugin for kind in KINDS for plugin in list_plugins(kind)]
