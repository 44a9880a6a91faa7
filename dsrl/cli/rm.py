"""``dsrl rm``: remove a run."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from dsrl.cli.common import Command, print_note, run_argument, runs_option


@click.command("rm", cls=Command)
@run_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@runs_option
def command(run: str, yes: bool, runs_dir: Path) -> None:
    """Remove the folder of a run: its samples, its results and its trained model.

    The replies of teachers stay in --cache-dir, so the same command makes the same samples again without paying for them. A
    model that was written to another folder (--output-model) stays too.
    """
    from dsrl.errors import StoreError
    from dsrl.storage.run_store import lock_run, run_folders

    folder = runs_dir / run
    if folder not in run_folders(runs_dir):  # also refuses a name with a path in it
        raise StoreError(f"there is no run {run!r} in {runs_dir}; `dsrl runs` lists the runs")
    lock = lock_run(folder, "stop that first")
    try:
        if not yes:
            click.confirm(f"Remove {folder} and everything in it?", abort=True, err=True)
        shutil.rmtree(folder)
    finally:
        lock.release()
    print_note(f"Removed {folder}.")
