"""``dsrl batches``: list the batches at the providers, or cancel one."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import click

from dsrl.cli.common import Command, folder_options, json_option, print_json, print_note, print_table


@click.command("batches", cls=Command)
@click.option("--cancel", "cancelled_id", metavar="ID", help="Ask the provider to stop this batch.")
@folder_options
@json_option
def command(cancelled_id: str | None, runs_dir: Path, cache_dir: Path, as_json: bool) -> None:
    """List the batches of this folder, newest first. The providers are asked for the state of unfinished batches.

    The replies of a cancelled batch are stored when its run continues.
    """
    from dsrl.errors import DsrlError, SettingsError
    from dsrl.pipeline import signals
    from dsrl.teaching.batches import cancel_batch, list_batches, poll_batch
    from dsrl.types import Completion

    batches = list_batches(cache_dir / "calls.db")
    if cancelled_id is not None:
        cancelled = next((batch for batch in batches if batch.provider_id == cancelled_id), None)
        if cancelled is None:
            names = ", ".join(batch.provider_id for batch in batches if batch.status == "in_progress")
            raise SettingsError(f"there is no batch {cancelled_id!r}; the unfinished batches are: {names or 'none'}")
        signals.run(cancel_batch(cancelled))
        print_note(
            f"The provider was asked to cancel the batch {cancelled_id}. Its run keeps the replies that exist by then."
        )
    current = []
    for batch in batches:
        if batch.status == "in_progress":
            try:
                state = signals.run(poll_batch(batch))
                answered = sum(isinstance(result, Completion) for result in state.results.values())
                done = state.done if state.status == "in_progress" else answered
                batch = replace(batch, done=done, status=state.status)
            except DsrlError as error:
                print_note(f"note: batch {batch.provider_id}: {error}")
        current.append(batch)
    if as_json:
        print_json([asdict(batch) for batch in current])
        return
    rows = [
        [
            batch.provider_id,
            f"{batch.teacher}:{batch.model}".rstrip(":"),
            datetime.fromtimestamp(batch.submitted).strftime("%Y-%m-%d %H:%M"),
            batch.status.replace("_", " "),
            f"{batch.done}/{batch.requests}",
        ]
        for batch in current
    ]
    print_table("", ["batch", "teacher", "submitted", "state", "done"], rows)
