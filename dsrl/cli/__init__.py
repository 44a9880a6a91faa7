"""The command line. One module a command: it parses, calls, prints; nothing is decided here.

A command's module is imported when the command is run, so that ``dsrl --help`` costs nothing.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from importlib import import_module
from typing import Any

import click

from dsrl import __version__
from dsrl.cli.common import Shown, shown, shown_options
from dsrl.cli.streams import prepare

#: command -> (module, short help)
COMMANDS = {
    "run": ("dsrl.cli.run", "Walk the road from a task to a trained and evaluated model."),
    "plan": ("dsrl.cli.plan", "Forecast calls, tokens, dollars and time of a run."),
    "batches": ("dsrl.cli.batches", "List the batches at providers, or cancel one."),
    "runs": ("dsrl.cli.runs", "List the runs of this folder."),
    "show": ("dsrl.cli.show", "Show what came out of a run, or where one sample came from."),
    "tasks": ("dsrl.cli.tasks", "List the installed tasks, or show one."),
    "plugins": ("dsrl.cli.plugins", "List the installed plugins, or check them."),
}


class Commands(click.Group):
    """A group whose commands are imported when they are needed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += shown_options()

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = import_module(COMMANDS[name][0]).command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; one that a signal stops ends with the exit code of that signal."""
        from dsrl.signals import exit_code, handle_signals

        with handle_signals():
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt as stop:
                click.echo("\nInterrupted. What was done is kept; give the same command again.", err=True)
                sys.exit(exit_code(stop))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help) for name, (_, help) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(COMMANDS)}."
            raise click.UsageError(f"{error.message} {hint}", ctx) from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dsrl")
def cli() -> None:
    """Turn a task definition into a better model (Synthetic Data RL, Guo et al. 2025).

    \b
        dsrl run --task mednli
    """


def main(args: list[str] | None = None) -> Any:
    """Run the command line; a mistake that the user can mend is a sentence and an exit code, not a traceback."""
    from dsrl.errors import DsrlError

    prepare()
    vars(shown).update(vars(Shown()))
    try:
        code = cli.main(args=args, prog_name="dsrl", standalone_mode=False)
    except click.Abort:  # Ctrl-C before a command began
        sys.exit(128 + signal.SIGINT)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except DsrlError as error:
        _tell(error, str(error))
        sys.exit(error.exit_code)
    except OSError as error:
        sentence = _disk(error)
        if sentence is None:
            raise
        _tell(error, sentence)
        sys.exit(DsrlError.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _tell(error: Exception, sentence: str) -> None:
    """Tell an error that the user can mend; with ``--debug``, or ``DSRL_TRACEBACK`` set, its traceback before it."""
    from dsrl.text import printable

    if shown.debug or os.environ.get("DSRL_TRACEBACK"):
        from traceback import format_exception

        from dsrl.storage.run_log import sanitize

        click.echo(sanitize("".join(format_exception(error))), err=True)
    click.echo(f"Error: {printable('; '.join([sentence, *getattr(error, '__notes__', [])]))}", err=True)


def _disk(error: OSError) -> str | None:
    """Tell what the disk refuses; None for any other fault."""
    place = error.filename or "the disk"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no room on the disk ({place}); free some and give the same command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission for {place}; check its owner and mode"
    return None
