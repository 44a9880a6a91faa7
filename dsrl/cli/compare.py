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

    The interval of a difference is that of its pair alone; p is adjusted for the number of pairs (Holm).
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
    columns = ["run", "task", "base", "trained", "teacher", "cost", "seconds", "tokens"]
    title = f"{comparison.n_test} test items"
    print_table(title, columns, [_make_run_row(run) for run in comparison.runs], borders=False)
    print_line()
    if not comparison.differences:
        print_note("There are no two trained models that were evaluated, so there is no difference to show.")
        return
    columns = ["second run", "minus first run", "difference", "95% interval", "p, adjusted"]
    print_table("", columns, [_make_row(each) for each in comparison.differences], borders=False)


def _make_run_row(run: ComparedRun) -> list[str]:
    shares = (run.base_accuracy, run.trained_accuracy, run.teacher_accuracy)
    accuracies = ["" if share is None else f"{share:.1%}" for share in shares]
    cost = "?" if run.cost_usd is None else dollars(run.cost_usd)
    return [run.run, run.task, *accuracies, cost, f"{run.seconds:.0f}", str(run.tokens)]


def _make_row(each: Difference) -> list[str]:
    low, high = each.interval
    bounds = f"{low:+.1%} to {high:+.1%}"
    return [each.second, each.first, f"{each.difference:+.1%}", bounds, f"{each.adjusted_p:.3g}"]
