"""``dsrl batches``: what is out at providers."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import click

from dsrl.cli.common import Command, folder_options, json_option, note, print_json, table


@click.command("batches", cls=Command)
@click.option("--cancel", "cancelled", metavar="ID", help="Ask the provider to stop this batch.")
@folder_options
@json_option
def command(cancelled: str | None, runs_dir: Path, cache_dir: Path, as_json: bool) -> None:
    """List the batches of this folder, newest first; the provider is asked how far those are that are out.

    What a cancelled batch has answered is kept when its run goes on.
    """
    from dsrl.errors import DsrlError, SettingsError
    from dsrl.teaching.batches import cancel_batch, list_batches, poll_batch
    from dsrl.types import Completion

    batches = list_batches(cache_dir / "calls.db")
    if cancelled is not None:
        batch = next((batch for batch in batches if batch.provider_id == cancelled), None)
        if batch is None:
            names = ", ".join(batch.provider_id for batch in batches if batch.status == "in_progress")
            raise SettingsError(f"there is no batch {cancelled!r}; out are: {names or 'none'}")
        cancel_batch(batch)
        note(f"batch {cancelled} is being cancelled; its run keeps what was answered by then")
    shown = []
    for batch in batches:
        if batch.status == "in_progress":
            try:
                state = poll_batch(batch)
                answered = sum(isinstance(result, Completion) for result in state.results.values())
                done = state.done if state.status == "in_progress" else answered
                batch = replace(batch, done=done, status=state.status)
            except DsrlError as error:
                note(f"note: batch {batch.provider_id}: {error}")
        shown.append(batch)
    if as_json:
        print_json([asdict(batch) for batch in shown])
        return
    rows = [
        [
            batch.provider_id,
            f"{batch.teacher}:{batch.model}".rstrip(":"),
            datetime.fromtimestamp(batch.submitted).strftime("%Y-%m-%d %H:%M"),
            batch.status.replace("_", " "),
            f"{batch.done}/{batch.requests}",
        ]
        for batch in shown
    ]
    table("", ["batch", "teacher", "submitted", "state", "done"], rows)
