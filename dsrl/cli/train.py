"""``dsrl train``: train on given data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dsrl.cli.common import folder_options, get_verbosity, json_option
from dsrl.cli.run import RunCommand, collect_settings, print_repeated, repeats_option, settings_options


@click.command("train", cls=RunCommand)
@settings_options()
@click.option("--config", type=click.Path(path_type=Path), help="Settings file (TOML); flags are stronger.")
@click.option(
    "--data", required=True, metavar="PATH", help="Items to train on: a file, a folder or a hub id (split train)."
)
@repeats_option
@folder_options
@json_option
def command(
    config: Path | None, data: str, repeats: int, runs_dir: Path, cache_dir: Path, as_json: bool, **values: Any
) -> None:
    """Train the base model on items of real data, as a baseline, and evaluate it on the test items of the task.

    It takes the flags of `dsrl run`, and makes a run that the other commands show and compare. No teacher writes samples. At
    most --select items are trained on, drawn by --seed; items that copy a test item are left out.

    \b
        dsrl train --task mednli --data train.jsonl --trainer sft
        dsrl train --task mednli --data train.jsonl --trainer grpo --select 500
    """
    from dsrl import api

    result = api.train(
        data,
        config=config,
        runs_dir=runs_dir,
        cache_dir=cache_dir,
        progress="none" if get_verbosity().quiet else "auto",
        **collect_settings(values),
    )
    print_repeated(result, repeats, runs_dir, cache_dir, as_json)
