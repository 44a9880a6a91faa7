"""``dsrl eval``: evaluate a run on a test set that was not there when it was trained."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from dsrl.cli.common import (
    folder_options,
    get_verbosity,
    json_option,
    print_json,
    print_table,
    run_argument,
)
from dsrl.cli.run import RunCommand


@click.command("eval", cls=RunCommand)
@run_argument
@click.option(
    "--dataset-path",
    multiple=True,
    metavar="PATH",
    help="Test set: a file, a folder or a Hugging Face id. [default: that of the run]",
)
@click.option(
    "--test-size", type=click.IntRange(0), help="Evaluate on this many of the first test items; 0: on all of them."
)
@click.option(
    "--teacher", is_flag=True, help="Let the teacher answer the test items too, as a baseline; this is paid for."
)
@click.option(
    "--rescore",
    is_flag=True,
    help="Only grade the stored answers again, by the present code of the task; nothing is made.",
)
@folder_options
@json_option
def command(
    run: str,
    dataset_path: tuple[str, ...],
    test_size: int | None,
    teacher: bool,
    rescore: bool,
    runs_dir: Path,
    cache_dir: Path,
    as_json: bool,
) -> None:
    """Let the base model and the trained model of a run answer the items of a test set, and compare them.

    \b
        dsrl eval complaints-3f9a1c --dataset-path labelled.csv
        dsrl eval complaints-3f9a1c --teacher

    It is the same as the command of the run with this --dataset-path. Answers to items that stay are not made again.
    """
    if rescore:
        if dataset_path or teacher or test_size is not None:
            raise click.UsageError("--rescore grades what is stored; give it alone")
        _rescore(runs_dir / run, as_json)
        return
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
        dataset_path=dataset_path or settings.dataset_path,
        evaluate_teacher=teacher,
        test_size=settings.test_size if test_size is None else test_size,
    )
    if as_json:
        print_json(asdict(result))
    else:
        print_result(result)


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
