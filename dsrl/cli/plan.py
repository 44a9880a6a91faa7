"""``dsrl plan``: what a run will ask of its teachers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dsrl.cli.common import echo, folder_options, json_option, print_json, shown, table
from dsrl.cli.run import RunCommand, flag_values, settings_options
from dsrl.teaching.pricing import dollars


@click.command("plan", cls=RunCommand)
@settings_options
@click.option("--config", type=click.Path(path_type=Path), help="Settings file (TOML); flags win over it.")
@click.option(
    "--probe",
    type=click.IntRange(min=1),
    help="Let the teacher write and verify so many samples first; they are paid for.",
)
@folder_options
@json_option
def command(
    config: Path | None, probe: int | None, runs_dir: Path, cache_dir: Path, as_json: bool, **values: Any
) -> None:
    """Forecast calls, tokens, dollars and time of a run, stage by stage, before a cent is spent.

    Takes the flags of `dsrl run`. Replies of the same teacher that are stored already make it surer; so does --probe, whose
    samples are the first of the run itself.

    With --json every number is an object of low, expected and high. dollars are null where a price is not known, seconds
    for batches. A stage's seconds are what its teacher needs for it alone; those of the total are the least that the run
    takes, since stages overlap and the base model's work is not in them.

    \b
        dsrl plan --task mednli --teacher openai:gpt-4o
        dsrl plan --task mednli --teacher openai:gpt-4o --probe 4 --budget 0.50
    """
    from dsrl.pipeline.context import resolve_run
    from dsrl.pipeline.forecast import make_plan
    from dsrl.pipeline.setup import open_run, resolve_settings
    from dsrl.pipeline.workspace import Workspace

    settings = resolve_settings(config, flag_values(values))
    context = resolve_run(settings, Workspace(runs_dir, cache_dir), "verified")
    if probe is not None:
        from dsrl.pipeline.progress import progress_on_stderr
        from dsrl.pipeline.run import run_pipeline
        from dsrl.storage.run_log import run_log

        with (
            run_log(runs_dir / settings.name),
            progress_on_stderr(shown.quiet) as progress,
            open_run(context, progress) as run,
        ):
            run_pipeline(run, slots=probe)
    outcome = make_plan(context)
    if as_json:
        print_json(outcome)
        return
    columns = ["stage", "calls", "tokens in", "tokens out", "dollars", "seconds", "from"]
    rows = [
        [
            stage["stage"],
            *(_range(stage[name], _short) for name in ("calls", "prompt_tokens", "completion_tokens")),
            _range(stage["dollars"], _usd),
            _range(stage["seconds"], _short),
            stage["basis"].replace(" replies", "\nreplies"),
        ]
        for stage in outcome["stages"]
    ]
    table(f"run {outcome['run']}: what is expected, below it the lowest and the highest", columns, rows, lines=False)
    echo()
    if any(stage["basis"] == "guess" for stage in outcome["stages"]):
        echo("How long replies are is a guess where it says so; --probe 4 asks for some.")
    whole, budget = outcome["total"], outcome["budget_usd"]
    echo(f"calls    {_line(whole['calls'], _short)}")
    unknown = sorted({stage["teacher"] for stage in outcome["stages"] if stage["dollars"] is None})
    if unknown:
        echo(f"dollars  unknown: no price for {', '.join(unknown)}; give --price MODEL=PROMPT,COMPLETION")
    else:
        echo(f"dollars  ${_line(whole['dollars'], _usd)}")
    if whole["seconds"] is None:
        echo("time     unknown: a batch is answered within a day, and some follow each other")
    else:
        echo(
            f"time     at least {_line(whole['seconds'], _time)}: what the teacher needs, "
            f"{settings.concurrency} calls at once.\n         Stages overlap; the base model's work is not in it."
        )
    if budget is not None and whole["dollars"] and whole["dollars"]["high"] > budget:
        enough = "may not be" if whole["dollars"]["expected"] <= budget else "is hardly"
        echo(f"budget   {dollars(budget)}, which {enough} enough")


def _range(value: dict[str, float] | None, said: Callable[[float], str]) -> str:
    """Give what is expected, and in a second line the range, where there is one."""
    if value is None:
        return "unknown"
    low, expected, high = (said(value[name]) for name in ("low", "expected", "high"))
    return expected if low == high else f"{expected}\n{low}-{high}"


def _line(value: dict[str, float], said: Callable[[float], str]) -> str:
    expected, *ends = _range(value, said).split("\n")
    return expected + "".join(f" ({end})" for end in ends)


def _short(number: float) -> str:
    if number >= 1e6:
        return f"{number / 1e6:.{0 if number >= 9.95e6 else 1}f}M"
    return f"{number / 1e3:.0f}k" if number >= 1e4 else f"{number:.0f}"


def _usd(number: float) -> str:
    return "<0.01" if 0 < number < 0.005 else f"{number:.{0 if number >= 100 else 2}f}"


def _time(seconds: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
