"""``dsrl plugins``: list the installed plugins, check them, or look into a catalogue."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from dsrl.cli.common import (
    Group,
    command_streams,
    get_verbosity,
    json_option,
    print_json,
    print_line,
    print_note,
    print_table,
    refuse_group_options,
)

if TYPE_CHECKING:
    from dsrl.plugins.catalogue import CatalogueEntry
    from dsrl.plugins.discovery import PluginInfo


@click.group("plugins", cls=Group, invoke_without_command=True)
@click.option("--check", "is_check", is_flag=True, help="Check all plugins; the older form of `dsrl plugins check`.")
@json_option
@click.pass_context
def command(context: click.Context, is_check: bool, as_json: bool) -> None:
    """List the installed plugins of every kind, check them, or look into a catalogue. Without a command, list them."""
    if context.invoked_subcommand is not None:
        refuse_group_options(context)
        return
    with command_streams():
        if not (is_check and as_json):
            context.invoke(check_command if is_check else list_command, as_json=as_json)
            return
        # The shape of this output is older than `dsrl plugins check --json`; scripts read it.
        faults = _check(_list_all())
        print_json([{**asdict(plugin), "fault": " ".join(faults[plugin]) or None} for plugin in faults])
        sys.exit(1 if any(faults.values()) else 0)


@command.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List the installed plugins of every kind. No plugin is imported."""
    plugins = _list_all()
    if as_json:
        print_json([asdict(plugin) for plugin in plugins])
        return
    rows = [[p.kind, p.name, p.distribution, p.version] for p in plugins]
    print_table("", ["kind", "name", "distribution", "version"], rows)


@command.command("check")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def check_command(as_json: bool, names: tuple[str, ...] = ()) -> None:
    """Check all installed plugins, or those with the given names.

    Each plugin is imported, its hooks are compared with the contract of its kind, and the hooks that cost nothing are
    called with texts that a model can produce: empty, very long, badly nested. Functions without the mark @hookimpl and
    entry points in an unknown group are reported too. The exit code is 1 if there is a fault.
    """
    from dsrl.plugins.discovery import list_unknown_groups

    plugins = _select(names)
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
        print_table("", ["kind", "name", "distribution", "version", "check"], rows)
        for sentence in [*(fault for plugin in plugins for fault in faults[plugin]), *unknown_groups]:
            print_line(sentence)
    if any(faults.values()) or unknown_groups:
        sys.exit(1)


catalogue_option = click.option(
    "--catalogue",
    metavar="FILE_OR_URL",
    default="",
    help="A catalogue in a file or behind an https address. [default: the one that comes with dsrl]",
)


@command.command("search")
@click.argument("words", nargs=-1, metavar="[WORD]...")
@catalogue_option
@json_option
def search_command(words: tuple[str, ...], catalogue: str, as_json: bool) -> None:
    """Search a catalogue for plugins, installed or not; without words, list all. No plugin is imported.

    Every word must be in the kind, the name, the distribution or the summary of a plugin.
    """
    from dsrl.plugins.catalogue import find_status, read_catalogue, search_catalogue

    entries = search_catalogue(read_catalogue(catalogue), words)
    if as_json:
        print_json([_describe_entry(entry) for entry in entries])
        return
    if not entries:
        print_note(f"No plugin in the catalogue has {' and '.join(map(repr, words)) or 'an entry'}.")
        return
    for entry in entries:
        title = click.style(f"{entry.kind} {entry.name}", bold=True)
        status, _ = find_status(entry)
        print_line(f"{title}  {entry.distribution} {entry.version}, {status}, hook API {entry.describe_api()}")
        print_line(f"    {entry.summary}")


@command.command("info")
@click.argument("name")
@catalogue_option
@json_option
def info_command(name: str, catalogue: str, as_json: bool) -> None:
    """Show what a catalogue says of a plugin, and how to install it. Nothing is installed, and no plugin is imported."""
    from dsrl.plugins.catalogue import read_catalogue

    entries = read_catalogue(catalogue)
    chosen = [entry for entry in entries if name in (entry.name, entry.distribution)]
    if not chosen:
        from difflib import get_close_matches

        from dsrl.errors import PluginError

        near = get_close_matches(name, {entry.name for entry in entries}, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise PluginError(f"the catalogue has no plugin {name!r}; {hint}`dsrl plugins search` lists all")
    if as_json:
        print_json([_describe_entry(entry) for entry in chosen])
        return
    for number, entry in enumerate(chosen):
        if number:
            print_line()
        for key, value in _describe_entry(entry).items():
            text = entry.describe_api() if key == "hook_api" else ", ".join(value) if isinstance(value, list) else value
            if key != "fits":
                print_line(f"{click.style(key.replace('_', ' ') + ':', bold=True)} {text or 'not given'}")


def _describe_entry(entry: CatalogueEntry) -> dict[str, Any]:
    """Return an entry with what this machine knows of it: whether it is installed, whether it fits, how to install it."""
    import shlex

    from dsrl.plugins.catalogue import find_status

    status, installed = find_status(entry)
    return {
        **asdict(entry),
        "needs": list(entry.needs),
        "hook_api": list(entry.hook_api),
        "fits": entry.fits,
        "status": f"{status} ({installed})" if status.startswith("other") else status,
        "install": shlex.join(["pip", "install", *entry.make_requirements()]),
    }


def _select(names: tuple[str, ...]) -> list[PluginInfo]:
    """Return the installed plugins with these names; all of them if there are no names."""
    plugins = _list_all()
    installed = {plugin.name for plugin in plugins}
    for name in names:
        if name not in installed:
            from difflib import get_close_matches

            from dsrl.errors import PluginError

            near = get_close_matches(name, installed, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise PluginError(f"no plugin {name!r} is installed; {hint}`dsrl plugins list` lists the installed plugins")
    return [plugin for plugin in plugins if not names or plugin.name in names]


def _check(plugins: list[PluginInfo]) -> dict[PluginInfo, list[str]]:
    """Check plugins, with a progress bar on stderr, or one line if stderr is not a terminal."""
    from dsrl.plugins.checks import check_plugin

    if get_verbosity().quiet:
        return {plugin: check_plugin(plugin) for plugin in plugins}
    label = f"Checking {len(plugins)} plugin{'' if len(plugins) == 1 else 's'}"
    with click.progressbar(
        plugins, label=label, file=sys.stderr, item_show_func=lambda p: p and f"{p.kind} {p.name}"
    ) as bar:
        return {plugin: check_plugin(plugin) for plugin in bar}


def _list_all() -> list[PluginInfo]:
    from dsrl.plugins.discovery import list_plugins
    from dsrl.plugins.specs import KINDS

    return [plugin for kind in KINDS for plugin in list_plugins(kind)]
