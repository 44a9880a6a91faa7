"""The command line. There is one module for each command. It parses the arguments, calls dsrl and prints the result.

The module of a command is imported when the command is used, so that ``dsrl --help`` starts quickly.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from importlib import import_module
from typing import Any

import click

from dsrl import __version__
from dsrl.cli.common import Verbosity, make_verbosity_options
from dsrl.cli.streams import prepare_streams

#: command -> (module, summary)
COMMANDS = {
    "run": ("dsrl.cli.run", "Run the pipeline from a task to a trained and evaluated model."),
    "train": ("dsrl.cli.train", "Train on given data instead of samples, and evaluate."),
    "plan": ("dsrl.cli.plan", "Forecast the calls, tokens, dollars and time of a run."),
    "batches": ("dsrl.cli.batches", "List the batches at the providers, or cancel one."),
    "runs": ("dsrl.cli.runs", "List the runs of this folder."),
    "show": ("dsrl.cli.show", "Show the result of a run, or the history of one sample."),
    "index": ("dsrl.cli.index", "Build, search and list indexes of passage libraries."),
    "samples": ("dsrl.cli.samples", "List the samples of a run."),
    "items": ("dsrl.cli.items", "List the test items of a run with the answers of both models."),
    "eval": ("dsrl.cli.eval", "Evaluate a run on a test set that is given later."),
    "report": ("dsrl.cli.report", "Write the report of a run: one HTML file to look at."),
    "compare": ("dsrl.cli.compare", "Compare runs that were evaluated on the same test items."),
    "ablate": ("dsrl.cli.ablate", "Train a run again with other settings, from what is stored."),
    "export": ("dsrl.cli.export", "Write the training set of a run for other tools."),
    "push": ("dsrl.cli.push", "Put the trained model and its data on the Hugging Face Hub."),
    "rm": ("dsrl.cli.rm", "Remove a run."),
    "tasks": ("dsrl.cli.tasks", "List the installed tasks, or show one."),
    "doctor": ("dsrl.cli.doctor", "Show which samplers and trainers this machine or cluster can run."),
    "plugins": ("dsrl.cli.plugins", "List the installed plugins, check them, or look into a catalogue."),
    "new": ("dsrl.cli.new", "Write the package of a new plugin."),
}


class Commands(click.Group):
    """The group of all commands. It imports the module of a command when the command is used."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += make_verbosity_options()

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = import_module(COMMANDS[name][0]).command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. If a signal stops it, exit with the exit code of that signal."""
        from dsrl.pipeline.signals import exit_code, handle_signals

        with handle_signals():
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt as stop:
                # After a second signal, asyncio complains about open connections.
                logging.getLogger("asyncio").setLevel(logging.CRITICAL)
                _print_interrupted(getattr(stop, "__notes__", []))
                sys.exit(exit_code(stop))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"The commands are {', '.join(COMMANDS)}."
            raise click.UsageError(f"{error.message} {hint}", ctx) from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="dsrl")
def cli() -> None:
    """Turn a task definition into a better model (Synthetic Data RL, Guo et al. 2025).

    \b
        dsrl run --task mednli

    \b
    Exit codes: 0 done; 1 something that you can correct; 2 a wrong flag or setting; 4 --require-gain is not met;
    130 Ctrl-C, 143 SIGTERM, 129 SIGHUP: the same command continues.

    Names of tasks, runs and plugins are completed after: eval "$(_DSRL_COMPLETE=bash_source dsrl)"
    """


def main(args: list[str] | None = None) -> Any:
    """Run the command line. An error that the user can correct is printed as a sentence, without a traceback."""
    from dsrl.errors import DsrlError

    prepare_streams()
    verbosity = Verbosity()
    try:
        code = cli.main(args=args, prog_name="dsrl", standalone_mode=False, obj=verbosity)
    except click.Abort:  # Ctrl-C before a command began
        _print_interrupted([])
        sys.exit(128 + signal.SIGINT)
    except click.ClickException as error:
        if isinstance(error, click.NoSuchOption) and error.possibilities:
            from difflib import get_close_matches

            best = get_close_matches(error.option_name, error.possibilities, n=1)
            error = click.NoSuchOption(error.option_name, possibilities=best, ctx=error.ctx)
        error.show()
        sys.exit(error.exit_code)
    except DsrlError as error:
        _print_error(error, str(error), verbosity.debug)
        sys.exit(error.exit_code)
    except OSError as error:
        sentence = _describe_disk_error(error)
        if sentence is None:
            raise
        _print_error(error, sentence, verbosity.debug)
        sys.exit(DsrlError.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _print_interrupted(notes: list[str]) -> None:
    click.echo(" ".join(["\nInterrupted.", *notes, "Run the same command again to continue."]), err=True)


def _print_error(error: Exception, sentence: str, debug: bool) -> None:
    """Print an error that the user can correct; with ``debug``, or if ``DSRL_TRACEBACK`` is set, also its traceback."""
    from dsrl.text import printable

    if debug or os.environ.get("DSRL_TRACEBACK"):
        from traceback import format_exception

        from dsrl.storage.run_log import sanitize

        click.echo(sanitize("".join(format_exception(error))), err=True)
    click.echo(f"Error: {printable('; '.join([sentence, *getattr(error, '__notes__', [])]))}", err=True)


def _describe_disk_error(error: OSError) -> str | None:
    """Describe a full disk or a missing permission; return None for any other error."""
    place = error.filename or "the disk"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no room on the disk ({place}); free some space and run the same command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission for {place}; check its owner and mode"
    return None
