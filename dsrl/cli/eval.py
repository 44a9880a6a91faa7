"""``dsrl eval``: evaluate a run on a test set that was not there when it was trained."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from dsrl.cli.common import Command, folder_options, get_verbosity, json_option, print_json, run_argument


@click.command("eval", cls=Command)
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
@folder_options
@json_option
def command(
    run: str,
    dataset_path: tuple[str, ...],
    test_size: int | None,
    teacher: bool,
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
