"""``dsrl plan``: forecast what a run will request from its teachers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsrl.cli.common import folder_options, get_verbosity, json_option, print_json, print_line, print_table
from dsrl.cli.run import RunCommand, collect_settings, paper_option, settings_options
from dsrl.teaching.pricing import dollars

if TYPE_CHECKING:
    from dsrl.api import PlanResult
    from dsrl.pipeline.forecast import Range


@click.command("plan", cls=RunCommand)
@settings_options()
@click.option("--config", type=click.Path(path_type=Path), help="Settings file (TOML); flags are stronger.")
@paper_option
@click.option(
    "--probe",
    type=click.IntRange(min=1),
    help="Let the teacher write and verify this many samples first; they are paid for.",
)
@folder_options
@json_option
def command(
    config: Path | None,
    paper: bool,
    probe: int | None,
    runs_dir: Path,
    cache_dir: Path,
    as_json: bool,
    **values: Any,
) -> None:
    """Forecast the calls, tokens, dollars and time of a run, stage by stage, before any money is spent.

    It takes the flags of `dsrl run`. The forecast is more precise if replies of the same teacher are already stored. --probe
    requests some: its samples are the first samples of the run itself.

    With --json, every number is an object with the keys low, expected and high. `dollars` is null if a price is not known,
    `seconds` is null for batches. The seconds of a stage are what its teacher needs for this stage alone. The seconds of the
    total are the least that the run takes: stages overlap, and the work of the base model is not included.

    \b
        dsrl plan --task mednli --teacher openai:gpt-4o
        dsrl plan --task mednli --teacher openai:gpt-4o --probe 4 --budget 0.50
    """
    from dsrl import api

    plan = api.plan(
        config=config,
        paper=paper,
        probe=probe,
        runs_dir=runs_dir,
        cache_dir=cache_dir,
        progress="none" if get_verbosity().quiet else "auto",
        **collect_settings(values),
    )
    print_json(asdict(plan)) if as_json else _print_plan(plan)


def _print_plan(plan: PlanResult) -> None:
    columns = ["stage", "calls", "tokens in", "tokens out", "dollars", "seconds", "based on"]
    rows = [
        [
            stage.stage,
            *(_format_range(value, _format_count) for value in (stage.calls, stage.prompt_tokens)),
            _format_range(stage.completion_tokens, _format_count),
            _format_range(stage.dollars, _format_dollars),
            _format_range(stage.seconds, _format_count),
            stage.basis.replace(" replies", "\nreplies"),
        ]
        for stage in plan.stages
    ]
    title = f"run {plan.run}: expected, and below it the lowest and the highest"
    print_table(title, columns, rows, borders=False)
    print_line()
    if any(stage.basis == "guess" for stage in plan.stages):
        print_line("Reply lengths that are a guess become known with --probe 4.")
    total = plan.total
    print_line(f"calls    {_format_line(total.calls, _format_count)}")
    unpriced = sorted({stage.teacher for stage in plan.stages if stage.dollars is None})
    if unpriced:
        print_line(f"dollars  unknown: no price for {', '.join(unpriced)}; give --price MODEL=PROMPT,COMPLETION")
    else:
        print_line(f"dollars  ${_format_line(total.dollars, _format_dollars)}")
    if total.seconds is None:
        print_line("time     unknown: a batch is answered within a day, and some wait for others")
    else:
        print_line(
            f"time     at least {_format_line(total.seconds, _format_time)}, with --concurrency calls in flight.\n"
            "         Stages overlap; the work of the base model is not included."
        )
    if plan.budget_usd is not None and total.dollars is not None and total.dollars.high > plan.budget_usd:
        verdict = "may not be" if total.dollars.expected <= plan.budget_usd else "is probably not"
        print_line(f"budget   {dollars(plan.budget_usd)}, which {verdict} enough")


def _format_range(value: Range | None, format_number: Callable[[float], str]) -> str:
    """Return the expected number and, in a second line, the range if there is one."""
    if value is None:
        return "unknown"
    low, expected, high = (format_number(number) for number in (value.low, value.expected, value.high))
    return expected if low == high else f"{expected}\n{low}-{high}"


def _format_line(value: Range | None, format_number: Callable[[float], str]) -> str:
    expected, *ends = _format_range(value, format_number).split("\n")
    return expected + "".join(f" ({end})" for end in ends)


def _format_count(number: float) -> str:
    if number >= 1e6:
        return f"{number / 1e6:.{0 if number >= 9.95e6 else 1}f}M"
    return f"{number / 1e3:.0f}k" if number >= 1e4 else f"{number:.0f}"


def _format_dollars(number: float) -> str:
    return "<0.01" if 0 < number < 0.005 else f"{number:.{0 if number >= 100 else 2}f}"


def _format_time(seconds: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
