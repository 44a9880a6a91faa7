"""``dsrl samples``: the samples of a run."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsrl.cli.common import Command, json_option, print_rows, run_argument, runs_option, shorten

if TYPE_CHECKING:
    from dsrl.pipeline.suspects import Suspect
    from dsrl.storage.listing import SampleRow


@click.command("samples", cls=Command)
@run_argument
@click.option("--kind", type=click.Choice(["initial", "harder", "easier"]), help="Only samples of this kind.")
@click.option("--dropped", is_flag=True, help="Only samples that are not used.")
@click.option("--selected", is_flag=True, help="Only the training set, best first.")
@click.option(
    "--suspect",
    is_flag=True,
    help="Only samples whose label may be wrong, most suspected first: another answer gets at least as large a share of the "
    "teacher's votes and of the base model's attempts together.",
)
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, help="Number of samples; 0: all.")
@runs_option
@json_option
def command(
    run: str,
    kind: str | None,
    dropped: bool,
    selected: bool,
    suspect: bool,
    limit: int,
    runs_dir: Path,
    as_json: bool,
) -> None:
    """List the samples of a run. `dsrl show RUN --sample ID` shows the history of one.

    \b
        dsrl samples mednli-3f9a1c --selected
        dsrl samples mednli-3f9a1c --dropped --limit 0 --json
        dsrl samples mednli-3f9a1c --suspect --selected
    """
    from dsrl.pipeline.suspects import find_suspects
    from dsrl.storage.run_store import RunStore

    with closing(RunStore(runs_dir / run, work=False)) as store:
        rows = store.list_sample_rows()
        details = store.list_details(row.id for row in rows) if suspect else {}
    if kind:
        rows = [row for row in rows if row.kind == kind]
    if dropped:
        rows = [row for row in rows if row.dropped]
    if selected:
        rows = sorted((row for row in rows if row.place), key=lambda row: (row.iteration, row.place or 0))
    if suspect:
        columns = ["id", "label", "votes", "attempts", "perhaps", "votes", "attempts", "place", "input"]
        nothing = f"No label of run {run!r} is suspected to be wrong, or nothing is scored yet."
        print_rows(find_suspects(rows, details), limit, as_json, columns, _make_suspect_row, "suspects", nothing)
        return
    columns = ["id", "kind", "label", "passed", "score", "place", "input"]
    print_rows(rows, limit, as_json, columns, _make_row, "samples", f"Run {run!r} has no such samples.")


def _make_row(row: SampleRow) -> list[str]:
    return [
        row.id,
        row.kind,
        shorten(row.label or f"({(row.dropped or 'not verified').replace('_', ' ')})", 30),
        "" if row.passed is None else f"{row.passed}/{row.attempts}",
        "" if row.score is None else f"{row.score:.2f}",
        "" if row.place is None else str(row.place),
        shorten(row.input, 160),
    ]


def _make_suspect_row(suspect: Suspect) -> list[str]:
    return [
        suspect.id,
        shorten(suspect.label, 30),
        f"{suspect.label_votes:.0%}",
        f"{suspect.label_attempts:.0%} of {suspect.attempts}",
        shorten(suspect.rival, 30),
        f"{suspect.rival_votes:.0%}",
        f"{suspect.rival_attempts:.0%}",
        "" if suspect.place is None else str(suspect.place),
        shorten(suspect.input, 160),
    ]
