"""``dsrl runs``: the runs of a folder."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from dsrl.cli.common import Command, folder_options, json_option, note, print_json, table
from dsrl.teaching.pricing import dollars


@click.command("runs", cls=Command)
@folder_options
@json_option
def command(runs_dir: Path, cache_dir: Path, as_json: bool) -> None:
    """List the runs of this folder, newest first."""
    from dsrl.errors import DsrlError, StoreError
    from dsrl.pipeline.summary import load_result
    from dsrl.pipeline.workspace import Workspace
    from dsrl.storage.run_store import RunStore, run_folders

    found: list[dict[str, Any]] = []
    unreadable = 0
    for folder in run_folders(runs_dir):
        try:
            store = RunStore(folder, work=False)
            try:
                found.append({"created": store.created, **load_result(store, Workspace(runs_dir, cache_dir))})
            finally:
                store.close()
        except DsrlError as error:
            note(f"note: {folder.name}: {error}")
            unreadable += 1
    if unreadable and not found:
        raise StoreError(f"none of the runs in {runs_dir} can be read")
    found.sort(key=lambda run: -run["created"])
    if as_json:
        print_json(found)
        return
    if not found:
        note(f"There are no runs in {runs_dir}; `dsrl run --task mednli` makes one.")
        return
    columns = ["run", "task", "started", "samples", "base", "trained", "calls", "cost"]
    table("", columns, [_row(run) for run in found])


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
