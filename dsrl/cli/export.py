"""``dsrl export``: the training set of a run for other tools."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import click

from dsrl.cli.common import Command, json_option, print_json, print_line, print_note, run_argument, runs_option

_FORMATS = ("sft", "trl", "verl", "csv", "hf")


@click.command("export", cls=Command)
@run_argument
@click.option("--format", "form", type=click.Choice(_FORMATS), required=True, help="Form of the data; see above.")
@click.option("--out", type=click.Path(path_type=Path), metavar="PATH", help="New file. [default: RUN-FORMAT.ENDING]")
@click.option("--all", "is_whole", is_flag=True, help="All samples with a label, and not only the training set.")
@runs_option
@json_option
def command(run: str, form: str, out: Path | None, is_whole: bool, runs_dir: Path, as_json: bool) -> None:
    """Write the training set of a run to a file, with ids, labels, scores and passages.

    \b
        sft    JSONL with chat messages that end with the sample's output, if its answer is the label
        trl    JSONL with prompt (chat messages) and answer, as TRL's GRPOTrainer reads it
        verl   Parquet, as verl reads it
        csv    a table
        hf     a folder of the library datasets

    Nothing is overwritten.
    """
    from dsrl.pipeline.run_export import FORMATS, export_samples
    from dsrl.storage.run_store import RunStore

    with closing(RunStore(runs_dir / run, work=False)) as store:
        exported = export_samples(store, form, out or Path(f"{run}-{form}{FORMATS[form].ending}"), is_whole)
    if exported.left_out:
        print_note(f"{exported.left_out} samples are left out: {exported.reason}.")
    if as_json:
        print_json(asdict(exported))
    else:
        print_line(f"{exported.rows} samples in {exported.path}")
