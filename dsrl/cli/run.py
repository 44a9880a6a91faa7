"""``dsrl run``: run the pipeline."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import MISSING, Field, asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from dsrl.cli.common import (
    Command,
    complete_plugins,
    folder_options,
    get_verbosity,
    json_option,
    print_json,
    print_line,
    print_note,
)
from dsrl.errors import DsrlError, SettingsError
from dsrl.settings import Settings, flag_of
from dsrl.storage import STAGES
from dsrl.storage.run_log import NOTES

if TYPE_CHECKING:
    from dsrl.api import RunResult
    from dsrl.pipeline.ablation import VariantResult

#: Seconds that the end of the process may take.
_LONGEST_END = 5.0

#: Setting -> kind of the plugins whose names a shell completes.
_COMPLETED = {
    "task": "task",
    "base_model": "model",
    **{name: name for name in ("retriever", "teacher", "sampler", "trainer")},
}
#: Exit code of ``--require-gain``.
GAIN_NOT_SHOWN = 4
#: Argument of the paper's own program -> what dsrl has in its place.
ORIGINAL_ARGUMENTS = {
    "--experiment_name": "--name",
    "--base_model_path": "--base-model",
    "--work_model_paths": "--output-model",
    "--target_model_path": "--output-model",
    "--model": "--teacher",
    "--task_name": "--task",
    "--multi_task": "--task, repeated",
    "--task_instruction": "--task-instruction",
    "--dataset_path": "--dataset-path",
    "--domain": "--domain, repeated for several",
    "--demo_examples": "--demos, a file",
    "--passage_paths": "--corpus, repeated for several",
    "--iterations": "--iterations",
}


class RunCommand(Command):
    """A command that takes all settings as options. Its help shows them by the table of the settings file."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. A hook that cannot be stopped ends the process."""
        from dsrl.pipeline.hook_watch import end_process_by

        with end_process_by(_end_process):
            return super().invoke(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            ours = ORIGINAL_ARGUMENTS.get(error.option_name)
            if ours is None:
                raise
            if (self.name, error.option_name) == ("eval", "--model"):
                # Here nobody means the teacher.
                raise click.NoSuchOption("--model", possibilities=["--base-model"], ctx=ctx) from None
            raise click.UsageError(
                f"{error.option_name} is an argument of the paper's own program; here it is {ours}", ctx
            ) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections = {f.name: f.metadata["section"] for f in fields(Settings)}
        by_section: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record and isinstance(option, click.Option):
                by_section.setdefault(
                    "task" if option.name == "answer" else sections.get(option.name or "", ""), []
                ).append(record)
        others = by_section.pop("", [])
        for section, records in by_section.items():
            with formatter.section(f"Settings [{section}]"):
                formatter.write_dl(records)
        with formatter.section("Options"):
            formatter.write_dl(others)


def _end_process(sentence: str) -> None:
    """Print an error and end this process with its children at once. Everything that the run has done is on the disk."""
    from multiprocessing import active_children

    from dsrl.text import printable
    from dsrl.worker import end_children

    threading.Timer(_LONGEST_END, os._exit, (DsrlError.exit_code,)).start()  # the reader of stderr may have stopped
    with suppress(Exception):
        stream = sys.__stderr__ or sys.stderr  # not the display of progress, which may be waiting for the hook
        show_cursor = "\033[?25h" if stream.isatty() else ""
        print(f"{show_cursor}\nError: {printable(sentence)}", file=stream, flush=True)
        logging.getLogger(NOTES).error("%s", sentence)  # to log.txt
        end_children()
        for child in active_children():
            child.kill()
    os._exit(DsrlError.exit_code)


def settings_options(names: Collection[str] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add an option for every setting to a command. Its value is None or empty if the user does not give it.

    Args:
        names: the settings; empty for all.
    """

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for setting in reversed(fields(Settings)):
            if not names or setting.name in names:
                command = _make_option(setting)(command)
            if setting.name == "task_instruction":
                command = _answer_option(command)
        return command

    return add


#: Not a setting of its own: it names the task ``words`` with this answer format.
_answer_option = click.option(
    "--answer",
    metavar="FORM[:CHOICES]",
    help="In place of --task, with --task-instruction: the form of an answer (tag, boxed, hashes or choice) and perhaps its "
    "choices, for example tag:yes,no. The same as --task words:FORM:CHOICES.",
)


def _make_option(setting: Field[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    default = setting.default if setting.default is not MISSING else {}
    flag = flag_of(setting)
    description = setting.metadata["help"]
    if isinstance(default, bool):
        negative = f"--no-{flag[2:]}"
        description += f"  [default: {flag if default else negative}]"
        return click.option(f"{flag}/{negative}", setting.name, default=None, help=description)
    if isinstance(default, dict):
        return click.option(flag, setting.name, multiple=True, metavar="KEY=VALUE", help=description)
    completion = complete_plugins(_COMPLETED[setting.name]) if setting.name in _COMPLETED else None
    if isinstance(default, tuple):
        return click.option(flag, setting.name, multiple=True, help=description, shell_complete=completion)
    if setting.metadata["choices"]:
        value_type: Any = click.Choice(setting.metadata["choices"])
    else:
        value_type = setting.metadata["type"]
    if default not in (None, "", 0) or (default == 0.0 and isinstance(default, float)):
        description += f"  [default: {default}]"
    return click.option(flag, setting.name, type=value_type, default=None, help=description, shell_complete=completion)


def collect_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Return setting -> value for the flags that the user gave.

    Raises:
        SettingsError: a flag says the same as another, in other words.
    """
    from dsrl.plugins.binding import parse_options

    settings: dict[str, Any] = {}
    if answer := values.get("answer"):
        if values.get("task"):
            raise SettingsError(
                f"--answer {answer} is for a task of your own, but --task names {', '.join(values['task'])}, which has an "
                "answer format already; give one of the two"
            )
        values["task"] = (f"words:{answer}",)
    for setting in fields(Settings):
        value = values.get(setting.name)
        if value is None or value == ():
            continue
        is_options = setting.default is MISSING
        settings[setting.name] = parse_options(value, flag_of(setting)) if is_options else value
    return settings


#: Not a setting of its own: it sets others, and what it has set is stored.
paper_option = click.option(
    "--paper",
    is_flag=True,
    help="Use the method of the paper without what dsrl adds to it: no decontamination, no duplicates set aside, no filter, "
    "no balance, no evaluation during the training, and all votes and attempts. It says what it sets.",
)


def repeats_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--repeats`` to a command."""
    return click.option(
        "--repeats",
        type=click.IntRange(1),
        default=1,
        help="Train so many times on the same samples, with the seeds s, s+1, ..., and show the spread.",
    )(command)


def print_repeated(result: RunResult, repeats: int, runs_dir: Path, cache_dir: Path, as_json: bool) -> None:
    """Print the result of a run; repeat its training with other seeds before, and print their spread, if asked for."""
    from dsrl import api

    repeated: VariantResult | None = None
    if repeats > 1:
        progress: Literal["none", "auto"] = "none" if get_verbosity().quiet else "auto"
        ablation = api.ablate(
            result.run, variants=(), seeds=repeats, runs_dir=runs_dir, cache_dir=cache_dir, progress=progress
        )
        (repeated,) = ablation.results
    if as_json:
        print_json(asdict(result) if repeated is None else {**asdict(result), "repeated": asdict(repeated)})
        return
    from dsrl.cli.show import print_result

    print_result(result)
    if repeated is not None:
        shown = ", ".join(f"{accuracy:.1%}" for accuracy in repeated.accuracies)
        print_line(f"{repeats} trainings with the seeds {repeated.seeds[0]} to {repeated.seeds[-1]}: {shown}")
        print_line(f"mean {repeated.mean:.1%}, standard deviation {repeated.spread or 0.0:.1%}")


@click.command("run", cls=RunCommand)
@settings_options()
@click.option("--config", type=click.Path(path_type=Path), help="Settings file (TOML); flags are stronger.")
@paper_option
@click.option("--stop-after", type=click.Choice(STAGES), default=STAGES[-1], help="The last stage to run.")
@click.option(
    "--require-gain",
    type=float,
    metavar="SHARE",
    help="Exit with code 4 if the lower end of the gain's 95% interval is below this, or if nothing was evaluated.",
)
@repeats_option
@folder_options
@json_option
def command(
    config: Path | None,
    paper: bool,
    stop_after: str,
    require_gain: float | None,
    repeats: int,
    runs_dir: Path,
    cache_dir: Path,
    as_json: bool,
    **values: Any,
) -> None:
    """Run the pipeline from a task to a trained and evaluated model.

    If the run was stopped or killed, the same command continues it: every teacher reply is stored, and none is requested
    twice. The defaults need no key, no GPU and no network. A base model may come with training settings of its own. The
    settings in force are written to run.toml in the run's folder, which can be used as a settings file.

    \b
        dsrl run --task mednli
        dsrl run --task mednli --corpus passages/ --samples 100 --name trial
        dsrl run --config runs/trial/run.toml --name again
    """
    from dsrl import api

    result = api.run(
        config=config,
        paper=paper,
        runs_dir=runs_dir,
        cache_dir=cache_dir,
        stop_after=stop_after,
        progress="none" if get_verbosity().quiet else "auto",
        **collect_settings(values),
    )
    print_repeated(result, repeats, runs_dir, cache_dir, as_json)
    if not as_json and stop_after != STAGES[-1]:
        print_note(f"Stopped after the stage {stop_after!r}. Run the same command without --stop-after to continue.")
    if require_gain is not None:
        _check_gain(result.gain_ci95, require_gain)


def _check_gain(interval: tuple[float, float] | None, least: float) -> None:
    """End the program with code 4 if a gain is not shown to be large enough."""
    if interval is not None and interval[0] >= least:
        return
    shown = f"the interval of the gain begins at {interval[0]:+.1%}" if interval else "the models were not evaluated"
    print_note(f"Error: --require-gain {least:g} is not met: {shown}.")
    sys.exit(GAIN_NOT_SHOWN)
