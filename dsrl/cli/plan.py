"""``dsrl plan``: what a run will ask of its teachers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dsrl.cli.common import json_option, place_options, print_json, table
from dsrl.cli.run import RunCommand, given, settings_options


@click.command("plan", cls=RunCommand)
@settings_options
@click.option("--config", type=click.Path(path_type=Path), help="Settings file (TOML); flags win over it.")
@click.option(
    "--probe",
    type=click.IntRange(min=1),
    help="Let the teacher write and verify so many samples first; they are paid for.",
)
@place_options
@json_option
def command(
    config: Path | None, probe: int | None, runs_dir: Path, cache_dir: Path, as_json: bool, **values: Any
) -> None:
    """Forecast calls, tokens, dollars and time of a run, stage by stage, before a cent is spent.

    Takes the flags of `dsrl run`. Replies of the same teacher that are stored already make it surer; so does --probe, whose
    samples are the first of the run itself.

    \b
        dsrl plan --task mednli --teacher openai:gpt-4o
        dsrl plan --task mednli --teacher openai:gpt-4o --probe 4 --budget 0.50
    """
    from dsrl.runs import Workplace, opened, plan, settle

    place = Workplace(runs_dir, cache_dir)
    settings = settle(config, given(values))
    if probe is not None:
        from dsrl.progress import progress_on_stderr

        with progress_on_stderr() as progress, opened(settings, place, progress, "verified") as road:
            road.probe(probe)
    outcome = plan(settings, place)
    if as_json:
        print_json(outcome)
        return
    rows = [
        [
            stage["stage"],
            _range(stage["calls"]),
            _range(stage["prompt_tokens"]),
            _range(stage["completion_tokens"]),
            _dollars(stage["dollars"]),
            _range(stage["seconds"]),
            stage["basis"],
        ]
        for stage in outcome["stages"]
    ]
    guessed = any(stage["basis"] == "guess" for stage in outcome["stages"])
    columns = ["stage", "calls", "tokens in", "tokens out", "dollars", "seconds", "by"]
    table(f"run {outcome['run']}: expected (lowest to highest)", columns, rows)
    if guessed:
        click.echo("How long replies are is a guess where it says so; --probe 4 asks for some.")
    whole = outcome["total"]
    click.echo(
        f"teacher in all  {_range(whole['calls'])} calls, {_dollars(whole['dollars'])}, {_range(whole['seconds'])} s"
    )
    if outcome["budget_usd"] is not None and whole["dollars"] and whole["dollars"]["high"] > outcome["budget_usd"]:
        enough = "may not be" if whole["dollars"]["expected"] <= outcome["budget_usd"] else "is hardly"
        click.echo(f"the budget of ${outcome['budget_usd']:.2f} {enough} enough")


def _range(value: dict[str, float]) -> str:
    low, expected, high = (_short(value[name]) for name in ("low", "expected", "high"))
    return expected if low == high else f"{expected} ({low}-{high})"


def _short(number: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if number >= 10 * size:
            return f"{number / size:.0f}{unit}"
    return f"{number:.0f}"


def _dollars(value: dict[str, float] | None) -> str:
    if value is None:
        return "price unknown; give --price"
    low, expected, high = (f"{value[name]:.2f}" for name in ("low", "expected", "high"))
    return f"${expected}" if low == high else f"${expected} ({low}-{high})"
