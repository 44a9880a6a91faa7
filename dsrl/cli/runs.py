"""``dsrl runs``: the runs of a folder."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from dsrl.cli.common import Command, json_option, note, place_options, print_json, table
from dsrl.prices import dollars


@click.command("runs", cls=Command)
@place_options
@json_option
def command(runs_dir: Path, cache_dir: Path, as_json: bool) -> None:
    """List the runs of this folder, newest first."""
    from dsrl.errors import DsrlError, StoreError
    from dsrl.runs import Workplace, result
    from dsrl.store import Store

    found: list[dict[str, Any]] = []
    unreadable = 0
    for database in _databases(runs_dir):
        try:
            store = Store(database.parent, work=False)
            try:
                found.append({"created": store.created, **result(store, Workplace(runs_dir, cache_dir))})
            finally:
                store.close()
        except DsrlError as error:
            unreadable += 1
            note(f"note: {database.parent.name}: {error}")
    if unreadable and not found:
        raise StoreError(f"none of the {unreadable} run(s) in {runs_dir} can be read")
    found.sort(key=lambda run: -run["created"])
    if as_json:
        print_json(found)
        return
    if not found:
        note(f"There are no runs in {runs_dir}; `dsrl run --task mednli` makes one.")
        return
    columns = ["run", "task", "started", "samples", "base", "trained", "calls", "cost"]
    table("", columns, [_row(run) for run in found])


def _databases(runs_dir: Path) -> list[Path]:
    """Give the databases of a folder's runs; a folder that cannot be read is not one without runs."""
    try:
        return [path for folder in runs_dir.iterdir() if (path := folder / "run.db").is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _row(run: dict[str, Any]) -> list[str]:
    started = datetime.fromtimestamp(run["created"]).strftime("%Y-%m-%d %H:%M")
    cost = "?" if run["cost_usd"] is None else dollars(run["cost_usd"])
    accuracies = ["" if run[m] is None else f"{run[m]:.1%}" for m in ("base_accuracy", "trained_accuracy")]
    return [
        run["run"],
        run["task"],
        started,
        str(run["samples"]["scored"]),
        *accuracies,
        str(run["teacher_calls"]),
        cost,
    ]
