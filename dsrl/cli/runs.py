"""``dsrl runs``: list the runs of a folder."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsrl.cli.common import Command, folder_options, json_option, print_json, print_note, print_table
from dsrl.teaching.pricing import dollars

if TYPE_CHECKING:
    from dsrl.api import RunResult


@click.command("runs", cls=Command)
@folder_options
@json_option
def command(runs_dir: Path, cache_dir: Path, as_json: bool) -> None:
    """List the runs of this folder, newest first."""
    from dsrl.api import read_result
    from dsrl.errors import DsrlError, StoreError
    from dsrl.pipeline.workspace import Workspace
    from dsrl.storage.run_store import RunStore, run_folders

    runs: list[tuple[float, RunResult]] = []
    unreadable = 0
    for folder in run_folders(runs_dir):
        try:
            store = RunStore(folder, work=False)
            try:
                runs.append((store.created, read_result(store, Workspace(runs_dir, cache_dir))))
            finally:
                store.close()
        except DsrlError as error:
            print_note(f"note: {folder.name}: {error}")
            unreadable += 1
    if unreadable and not runs:
        raise StoreError(f"none of the runs in {runs_dir} can be read")
    runs.sort(key=lambda run: -run[0])
    if as_json:
        print_json([{"created": created, **asdict(result)} for created, result in runs])
        return
    if not runs:
        print_note(f"There are no runs in {runs_dir}; `dsrl run --task mednli` makes one.")
        return
    columns = ["run", "task", "started", "samples", "base", "trained", "calls", "cost"]
    print_table("", columns, [_make_row(created, result) for created, result in runs])


def _make_row(created: float, result: RunResult) -> list[str]:
    accuracies = (result.base_accuracy, result.trained_accuracy)
    return [
        result.run,
        result.task,
        datetime.fromtimestamp(created).strftime("%Y-%m-%d %H:%M"),
        str(result.samples["scored"]),
        *("" if accuracy is None else f"{accuracy:.1%}" for accuracy in accuracies),
        str(result.teacher_calls),
        "?" if result.cost_usd is None else dollars(result.cost_usd),
    ]
