"""``dsrl eval``: evaluate a run on a test set that was not there when it was trained, or any model on a task."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import click

from dsrl.cli.common import (
    complete_runs,
    folder_options,
    get_verbosity,
    json_option,
    print_json,
    print_line,
    print_table,
)
from dsrl.cli.run import RunCommand, collect_settings, settings_options
from dsrl.settings import Settings, flag_of

#: What a run is evaluated with: it has all other settings already.
_FOR_RUNS = ("dataset_path", "test_size", "input_column", "output_column")
#: Tables of the settings that say how a model answers a task.
_TABLES = ("task", "score", "compute")
#: Other settings that do.
_OTHERS = ("max_completion_tokens",)
_NOT_ASKED = ("demos", "demos_from_train", "attempts", "attempt_confidence", "attempt_temperature", "rubric")
_SHOWN = tuple(
    s.name
    for s in fields(Settings)
    if (s.metadata["section"] in _TABLES or s.name in _OTHERS) and s.name not in _NOT_ASKED
)


@click.command("eval", cls=RunCommand)
@click.argument("run", required=False, shell_complete=complete_runs)
@settings_options(_SHOWN)
@click.option(
    "--teacher",
    "asks_teacher",
    is_flag=True,
    help="Let the teacher of RUN answer the test items too, as a baseline; this is paid for.",
)
@click.option(
    "--rescore",
    is_flag=True,
    help="Only grade the stored answers of RUN again, by the present code of the task; nothing is made.",
)
@folder_options
@json_option
def command(
    run: str | None, asks_teacher: bool, rescore: bool, runs_dir: Path, cache_dir: Path, as_json: bool, **values: Any
) -> None:
    """Evaluate a run on a test set that comes later; or, without RUN, any model on the test items of a task.

    \b
        dsrl eval complaints-3f9a1c --dataset-path labelled.csv
        dsrl eval complaints-3f9a1c --teacher
        dsrl eval --task mednli --base-model HuggingFaceTB/SmolLM2-135M-Instruct

    For a run, both its models answer, and are compared. It is the same as the command of the run with this --dataset-path,
    and answers to items that stay are not made again. Without a run, nothing is stored.
    """
    settings = collect_settings(values)
    if run is None:
        if asks_teacher or rescore:
            raise click.UsageError(f"{'--teacher' if asks_teacher else '--rescore'} needs a RUN")
        _evaluate_model(settings, as_json)
        return
    if rescore:
        if settings or asks_teacher:
            raise click.UsageError("--rescore grades what is stored; give it alone")
        _rescore(runs_dir / run, as_json)
        return
    if others := [flag_of(s) for s in fields(Settings) if s.name in settings and s.name not in _FOR_RUNS]:
        raise click.UsageError(f"{others[0]} is a setting of the run {run} already; leave it out, or leave RUN out")
    _evaluate_run(run, settings, asks_teacher, runs_dir, cache_dir, as_json)


def _evaluate_model(settings: dict[str, Any], as_json: bool) -> None:
    from dsrl import api

    result = api.evaluate(progress="none" if get_verbosity().quiet else "auto", **settings)
    if as_json:
        print_json(asdict(result))
        return
    low, high = result.ci95
    print_line(f"{result.model} on {result.task}")
    print_line(f"accuracy    {result.accuracy:.1%}  of {result.n_test} items, 95% interval {low:.1%} to {high:.1%}")
    print_line(f"unreadable  {result.unreadable}")


def _evaluate_run(
    run: str, given: dict[str, Any], asks_teacher: bool, runs_dir: Path, cache_dir: Path, as_json: bool
) -> None:
    from dsrl import api
    from dsrl.cli.show import print_result
    from dsrl.errors import StoreError
    from dsrl.pipeline.summary import load_settings
    from dsrl.storage.run_store import RunStore

    store = RunStore(runs_dir / run, work=False)
    try:
        settings = load_settings(store)
        if not store.stages.is_finished(settings.iterations, "trained"):
            raise StoreError(f"run {run!r} has no trained model yet; finish it with its own command first")
    finally:
        store.close()
    result = api.run(
        config=runs_dir / run / "run.toml",
        runs_dir=runs_dir,
        cache_dir=cache_dir,
        progress="none" if get_verbosity().quiet else "auto",
        evaluate_teacher=asks_teacher,
        **{"dataset_path": settings.dataset_path, "test_size": settings.test_size, **given},
    )
    teacher = _summarise_teacher(runs_dir / run) if asks_teacher else {}
    if as_json:
        print_json({**asdict(result), **teacher})
        return
    print_result(result)
    if teacher:
        share = f"{teacher['teacher_accuracy']:7.1%}" if teacher["teacher_accuracy"] is not None else "nothing"
        print_line(
            f"the teacher     {share}  of {teacher['teacher_answers']} answers to test items; "
            f"{teacher['teacher_unreadable']} cannot be read"
        )


def _summarise_teacher(folder: Path) -> dict[str, Any]:
    """Return what the teacher has answered to the test items of a run: numbers of answers, and the share of right ones."""
    from contextlib import closing

    from dsrl.pipeline.spread import compute_accuracy
    from dsrl.storage.run_store import RunStore
    from dsrl.types import UNREADABLE

    with closing(RunStore(folder, work=False)) as store:
        answers = store.read_evaluations("teacher")
    return {
        "teacher_accuracy": compute_accuracy({each.item: each.correct for each in answers}) if answers else None,
        "teacher_answers": len(answers),
        "teacher_unreadable": sum(each.answer is UNREADABLE for each in answers),
    }


def _rescore(folder: Path, as_json: bool) -> None:
    from dsrl.pipeline.progress import LineProgress, Progress, SilentProgress
    from dsrl.pipeline.rescore import rescore
    from dsrl.storage.run_store import RunStore

    RunStore(folder, work=False).close()  # says so if there is no such run, and makes none
    progress: Progress = SilentProgress() if get_verbosity().quiet else LineProgress()
    store = RunStore(folder)
    try:
        results = rescore(store, progress)
    finally:
        store.close()
    if as_json:
        print_json([asdict(result) for result in results])
        return
    rows = [
        [each.model, str(each.items), f"{each.before:.1%}", f"{each.now:.1%}", str(each.changed), f"{each.reward:.3f}"]
        for each in results
    ]
    print_table("", ["model", "answers", "before", "now", "changed", "mean reward"], rows, borders=False)
