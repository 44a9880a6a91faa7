"""``dsrl compare``: runs beside each other."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsrl.cli.common import (
    Command,
    complete_runs,
    folder_options,
    json_option,
    print_json,
    print_line,
    print_note,
    print_table,
)
from dsrl.teaching.pricing import dollars

if TYPE_CHECKING:
    from dsrl.pipeline.compare import ComparedRun, Difference


@click.command("compare", cls=Command)
@click.argument("runs", nargs=-1, required=True, shell_complete=complete_runs, metavar="RUN RUN...")
@folder_options
@json_option
def command(runs: tuple[str, ...], runs_dir: Path, cache_dir: Path, as_json: bool) -> None:
    """Compare runs that were evaluated on the same test items: accuracy, paired differences, dollars, seconds, tokens.

    \b
        dsrl compare mednli-3f9a1c mednli-77ab02

    The interval of a difference is that of its pair alone; p is adjusted for the number of pairs (Holm). A run that was
    trained several times (--repeats) is shown with the mean of its trainings and their standard deviation, and all of them
    stand for it in the differences.
    """
    from dsrl.errors import SettingsError
    from dsrl.pipeline.compare import compare_runs
    from dsrl.pipeline.workspace import Workspace
    from dsrl.storage.run_store import RunStore

    if len(set(runs)) < 2:
        raise SettingsError("a comparison needs two different runs; `dsrl runs` lists them")
    with ExitStack() as stack:
        stores = {name: stack.enter_context(closing(RunStore(runs_dir / name, work=False))) for name in runs}
        comparison = compare_runs(stores, Workspace(runs_dir, cache_dir))
    if as_json:
        print_json(asdict(comparison))
        return
    columns = ["run", "task", "base", "trained", "gain, 95% interval", "teacher", "seeds", "cost", "seconds", "tokens"]
    title = f"{comparison.n_test} test items"
    print_table(title, columns, [_make_run_row(run) for run in comparison.runs], borders=False)
    print_line()
    if not comparison.differences:
        print_note("There are no two trained models that were evaluated, so there is no difference to show.")
        return
    columns = ["second run", "minus first run", "difference", "95% interval", "p, adjusted"]
    print_table("", columns, [_make_row(each) for each in comparison.differences], borders=False)


def _make_run_row(run: ComparedRun) -> list[str]:
    trained = _format_share(run.trained_accuracy)
    if run.mean_accuracy is not None and run.spread is not None:
        trained = f"{run.mean_accuracy:.1%} ± {run.spread:.1%}"
    gain = f"{run.gain_ci95[0]:+.1%} to {run.gain_ci95[1]:+.1%}" if run.gain_ci95 else ""
    cost = "?" if run.cost_usd is None else dollars(run.cost_usd)
    accuracies = [_format_share(run.base_accuracy), trained, gain, _format_share(run.teacher_accuracy)]
    return [run.run, run.task, *accuracies, str(run.seeds or ""), cost, f"{run.seconds:.0f}", str(run.tokens)]


def _format_share(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _make_row(each: Difference) -> list[str]:
    from dsrl.pipeline.compare import format_p

    low, high = each.interval
    bounds = f"{low:+.1%} to {high:+.1%}"
    return [each.second, each.first, f"{each.difference:+.1%}", bounds, format_p(each.adjusted_p)]
