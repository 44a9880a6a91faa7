"""``dsrl push``: put the model of a run on the Hugging Face Hub."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from dsrl.cli.common import (
    Command,
    folder_options,
    json_option,
    print_json,
    print_line,
    print_note,
    print_table,
    run_argument,
)


@click.command("push", cls=Command)
@run_argument
@click.argument("repo", metavar="USER/NAME")
@click.option(
    "--data/--no-data", "with_data", default=True, help="Send the training set to USER/NAME-data. [default: --data]"
)
@click.option(
    "--private/--public", default=True, help="Who can see a repository that is made now. [default: --private]"
)
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and send nothing.")
@folder_options
@json_option
def command(
    run: str, repo: str, with_data: bool, private: bool, dry_run: bool, runs_dir: Path, cache_dir: Path, as_json: bool
) -> None:
    """Put the trained model of a run, with its card, on the Hugging Face Hub; and its training set, with a card, beside it.

    \b
        dsrl push complaints-3f9a1c me/complaints --dry-run
        dsrl push complaints-3f9a1c me/complaints --public

    The token is that of HF_TOKEN or of `hf auth login`. Read the cards first: they hold the task and the settings.
    """
    from dsrl.pipeline.hub_push import plan_push, push
    from dsrl.pipeline.workspace import Workspace
    from dsrl.storage.run_store import RunStore

    with closing(RunStore(runs_dir / run, work=False)) as store:
        repos = plan_push(store, Workspace(runs_dir, cache_dir), repo, with_data)
    if not dry_run:
        addresses = push(repos, private, print_note)
        if as_json:
            print_json({"addresses": addresses})
        else:
            print_line("\n".join(addresses))
        return
    if as_json:
        print_json(
            {r.kind: {"id": r.id, "private": private, "files": {f.path: f.size for f in r.files}} for r in repos}
        )
        return
    rows = [[f"{r.kind} {r.id}", file.path, f"{file.size:,}"] for r in repos for file in r.files]
    print_table("nothing is sent", ["repository", "file", "bytes"], rows)
