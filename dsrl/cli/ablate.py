"""``dsrl ablate``: the variants of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsrl.cli.common import (
    folder_options,
    get_verbosity,
    json_option,
    print_json,
    print_line,
    print_note,
    print_table,
    run_argument,
)
from dsrl.cli.run import RunCommand
from dsrl.teaching.pricing import dollars

if TYPE_CHECKING:
    from dsrl.pipeline.ablation import Ablation, VariantPlan, VariantResult


@click.command("ablate", cls=RunCommand)
@run_argument
@click.option(
    "--variants",
    multiple=True,
    metavar="LIST",
    help="What differs, e.g. selection=random,select=100,adapt=off,pattern=off,votes=4; + joins several settings. "
    "[default: those of the paper's Table 4]",
)
@click.option(
    "--seeds", type=click.IntRange(1), default=3, show_default=True, help="Trainings of each variant; the run's is one."
)
@click.option(
    "--budget",
    type=click.FloatRange(0),
    metavar="USD",
    help="Ask the teachers for what is not stored, for at most so much; 0: only teachers that cost nothing.",
)
@click.option("--plan", "plan_only", is_flag=True, help="Only say what each variant needs.")
@click.option("--keep-models", is_flag=True, help="Keep the trained models; without it, only their answers stay.")
@folder_options
@json_option
def command(
    run: str,
    variants: tuple[str, ...],
    seeds: int,
    budget: float | None,
    plan_only: bool,
    keep_models: bool,
    runs_dir: Path,
    cache_dir: Path,
    as_json: bool,
) -> None:
    """Train a finished run again with other settings, one by one, from the replies that are stored, and compare the models.

    \b
        dsrl ablate mednli-3f9a1c --plan
        dsrl ablate mednli-3f9a1c --variants selection=random,select=100 --seeds 3

    A variant that needs replies that are not stored is listed and left out, unless --budget allows them. Every training is
    kept below the folder of the run, and the same command does not repeat it.
    """
    from dsrl import api

    ablation = api.ablate(
        run,
        variants=variants or None,
        seeds=seeds,
        budget=budget,
        plan_only=plan_only,
        keep_models=keep_models,
        on_plan=_print_plan,
        runs_dir=runs_dir,
        cache_dir=cache_dir,
        progress="none" if get_verbosity().quiet else "auto",
    )
    if as_json:
        print_json(asdict(ablation))
    elif not plan_only:
        _print_ablation(ablation)


def _print_plan(plans: Sequence[VariantPlan]) -> None:
    for plan in plans:
        missing = ", ".join(f"{stage} {count}" for stage, count in plan.missing.items())
        parts = [f"{plan.trainings} training{'' if plan.trainings == 1 else 's'} to do"]
        parts += [f"rows without a stored reply: {missing}"] if missing else []
        parts += [f"left out: {plan.left_out}"] if plan.left_out else []
        print_note(f"{plan.variant}: {'; '.join(parts)}")


def _print_ablation(ablation: Ablation) -> None:
    title = f"{ablation.n_test} test items; the base model answers {ablation.base_accuracy:.1%} rightly"
    columns = ["variant", "samples", "seeds", "accuracy", "spread", "difference", "95% interval", "cost"]
    print_table(title, columns, [_make_row(result) for result in ablation.results], borders=False)
    if left_out := [plan for plan in ablation.plans if plan.left_out]:
        print_line()
        for plan in left_out:
            print_line(f"{plan.variant} is left out: {plan.left_out}")


def _make_row(result: VariantResult) -> list[str]:
    spread = "" if result.spread is None else f"{result.spread:.1%}"
    difference = "" if result.difference is None else f"{result.difference:+.1%}"
    interval = f"{result.interval[0]:+.1%} to {result.interval[1]:+.1%}" if result.interval else ""
    cells = [str(result.samples), str(len(result.seeds)), f"{result.mean:.1%}", spread, difference, interval]
    return [result.variant, *cells, dollars(result.cost_usd)]
