"""``dsrl plugins``: what is installed, and whether it keeps its contract."""

from __future__ import annotations

import sys

import click

from dsrl.cli.common import Command, echo, json_option, print_json, table


@click.command("plugins", cls=Command)
@click.option(
    "--check", "checks", is_flag=True, help="Import each and test it against its contract; fails if one fails."
)
@json_option
def command(checks: bool, as_json: bool) -> None:
    """List the installed plugins of every kind. Without --check nothing of them is imported."""
    from dsrl.plugins.binding import check, installed
    from dsrl.plugins.specs import GROUPS

    found = [plugin for kind in GROUPS for plugin in installed(kind)]
    faults = {plugin: check(plugin) for plugin in found} if checks else {}
    if as_json:
        print_json(
            [
                {
                    "kind": plugin.kind,
                    "name": plugin.name,
                    "distribution": plugin.distribution,
                    "version": plugin.version,
                    "target": plugin.target,
                    **({"fault": faults[plugin]} if checks else {}),
                }
                for plugin in found
            ]
        )
    else:
        columns = ["kind", "name", "distribution", "version", *(["check"] if checks else [])]
        rows = [
            [p.kind, p.name, p.distribution, p.version, *(["FAULT" if faults[p] else "ok"] if checks else [])]
            for p in found
        ]
        table("", columns, rows)
        for fault in filter(None, faults.values()):
            echo(fault)
    if any(faults.values()):
        sys.exit(1)
