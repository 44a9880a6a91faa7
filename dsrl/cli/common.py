"""What several commands share: where runs are, what is shown on stderr, and how results are printed."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from dsrl.cli.streams import reserved_stdout, results

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Shown:
    """What the user wants to see on stderr.

    Attributes:
        debug: the traceback of an error.
        verbose: what is logged at level INFO.
        quiet: errors only.
    """

    debug: bool = False
    verbose: bool = False
    quiet: bool = False


#: Of the command that is at work; :func:`dsrl.cli.main` starts with a new one.
shown = Shown()


def folder_options(command: F) -> F:
    """Add ``--runs-dir`` and ``--cache-dir``."""
    runs = click.option("--runs-dir", type=click.Path(path_type=Path), default="runs", help="Folder of the runs.")
    cache = click.option(
        "--cache-dir", type=click.Path(path_type=Path), default=".dsrl", help="Folder of teacher replies and indexes."
    )
    return runs(cache(command))


def json_option(command: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")(command)


def shown_options() -> list[click.Parameter]:
    """Make ``--debug``, ``--verbose`` and ``--quiet``, which every command takes."""

    def flag(*names: str, help: str) -> click.Option:
        def keep(context: click.Context, option: click.Parameter, value: bool) -> None:
            if value:
                setattr(shown, str(option.name), True)
            if shown.verbose and shown.quiet:
                raise click.UsageError("--verbose and --quiet contradict each other; give one of them", context)

        return click.Option(names, is_flag=True, expose_value=False, callback=keep, help=help)

    return [
        flag("-v", "--verbose", help="Show on stderr what is logged, too."),
        flag("-q", "--quiet", help="Show only errors on stderr: no progress, no notes."),
        flag("--debug", help="Show the traceback of an error."),
    ]


class Command(click.Command):
    """A command of dsrl: takes the shared options, keeps stdout for results while it works."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += shown_options()

    def invoke(self, ctx: click.Context) -> Any:
        with working():
            return super().invoke(ctx)


class Group(click.Group):
    """A command of dsrl that has commands of its own."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += shown_options()


@contextmanager
def working() -> Iterator[None]:
    """What holds while a command works: stdout is kept for results, log records are shown on stderr."""
    handler = _LogOnStderr()
    root = logging.getLogger()
    level = root.level
    try:
        with reserved_stdout():
            root.addHandler(handler)
            root.setLevel(logging.INFO if shown.verbose else logging.WARNING)
            yield
    except BrokenPipeError as error:
        # Not of stdout or stderr (see dsrl.cli.streams): click would end the program without a word.
        raise RuntimeError("a pipe or connection was closed by its other end") from error
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


class _LogOnStderr(logging.Handler):
    """Shows log records on what is stderr at that moment: a live display puts itself there."""

    def emit(self, record: logging.LogRecord) -> None:
        from dsrl.storage.run_log import NOTES, format_record

        least = logging.INFO if shown.verbose else logging.ERROR if shown.quiet else logging.WARNING
        if record.levelno < least or record.name == NOTES:  # notes are shown by the display
            return
        try:
            print(f"{record.levelname.lower()}: {format_record(record)}", file=sys.stderr, flush=True)
        except Exception:  # noqa: BLE001 - a record of somebody else that cannot be formatted
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name that logging gives it
        return


def note(text: str) -> None:
    """Tell on stderr what is no result and no error."""
    if not shown.quiet:
        click.echo(text, err=True)


def echo(text: str = "") -> None:
    """Print a line of results on stdout."""
    click.echo(text, file=results())


def print_json(value: Any) -> None:
    """Print for a script."""
    echo(json.dumps(value, ensure_ascii=False, indent=2))


def table(title: str, columns: list[str], rows: list[list[str]], lines: bool = True) -> None:
    """Print for a person; cells are text, never markup. Without ``lines`` between them more columns have room."""
    from rich.box import HEAVY_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shape: dict[str, Any] = {"box": HEAVY_HEAD} if lines else {"box": None, "padding": (0, 2, 0, 0)}
    shown = Table(title=title or None, title_justify="left", title_style="bold", **shape)
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    Console(file=results()).print(shown)
