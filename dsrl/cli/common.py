"""What several commands share: options, the streams while a command runs, and how results are printed."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from dsrl.cli.streams import get_result_stream, reserve_stdout
from dsrl.text import printable

#: Width of a table that is not shown on a terminal, in characters.
_NO_SCREEN = 100_000
F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Verbosity:
    """How much a command prints on stderr.

    Attributes:
        debug: whether the traceback of an error is printed.
        verbose: whether log records of level INFO are printed.
        quiet: whether only errors are printed.
    """

    debug: bool = False
    verbose: bool = False
    quiet: bool = False


def get_verbosity() -> Verbosity:
    """Return the verbosity of the running command."""
    context = click.get_current_context(silent=True)
    return context.ensure_object(Verbosity) if context else Verbosity()


def cache_option(command: F) -> F:
    """Add ``--cache-dir`` to a command."""
    option = click.option(
        "--cache-dir", type=click.Path(path_type=Path), default=".dsrl", help="Folder of teacher replies and indexes."
    )
    return option(command)


def complete_runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of the runs that begin with a text, for the completion of a shell."""
    from dsrl.errors import DsrlError
    from dsrl.storage.run_store import run_folders

    folder = Path(context.params.get("runs_dir") or "runs")
    try:
        return [run.name for run in run_folders(folder) if run.name.startswith(incomplete)]
    except DsrlError:
        return []


def complete_plugins(kind: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Return a function that completes the names of the installed plugins of a kind."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        from dsrl.plugins.discovery import list_plugins

        return sorted({plugin.name for plugin in list_plugins(kind) if plugin.name.startswith(incomplete)})

    return complete


def run_argument(command: F) -> F:
    """Add the argument ``RUN`` to a command; a shell completes it."""
    return click.argument("run", shell_complete=complete_runs)(command)


def runs_option(command: F) -> F:
    """Add ``--runs-dir`` to a command."""
    return click.option("--runs-dir", type=click.Path(path_type=Path), default="runs", help="Folder of the runs.")(
        command
    )


def folder_options(command: F) -> F:
    """Add ``--runs-dir`` and ``--cache-dir`` to a command."""
    return runs_option(cache_option(command))


def json_option(command: F) -> F:
    """Add ``--json`` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")(command)


def make_verbosity_options() -> list[click.Parameter]:
    """Make ``--verbose``, ``--quiet`` and ``--debug``, which every command takes."""

    def make_flag(*names: str, description: str) -> click.Option:
        def store(context: click.Context, option: click.Parameter, value: bool) -> None:
            verbosity = context.ensure_object(Verbosity)
            if value:
                setattr(verbosity, str(option.name), True)
            if verbosity.verbose and verbosity.quiet:
                raise click.UsageError("--verbose and --quiet contradict each other; give one of them", context)

        return click.Option(names, is_flag=True, expose_value=False, callback=store, help=description)

    return [
        make_flag("-v", "--verbose", description="Also print log messages on stderr."),
        make_flag("-q", "--quiet", description="Print only errors on stderr: no progress, no notes."),
        make_flag("--debug", description="Print the traceback of an error."),
    ]


class Command(click.Command):
    """A command of dsrl: it takes the shared options and keeps stdout for its result."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += make_verbosity_options()

    def invoke(self, ctx: click.Context) -> Any:
        with command_streams():
            return super().invoke(ctx)


class Group(click.Group):
    """A command of dsrl that has subcommands."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += make_verbosity_options()


def refuse_group_options(context: click.Context) -> None:
    """Refuse options of a group that stand before a subcommand: they would have no effect there.

    Raises:
        click.UsageError: names the option and the subcommand.
    """
    for option in context.command.params:
        if context.params.get(str(option.name)):
            subcommand = context.invoked_subcommand
            raise click.UsageError(f"{option.opts[0]} has no effect before {subcommand!r}; give it afterwards", context)


@contextmanager
def command_streams() -> Iterator[None]:
    """While a command runs, keep stdout for its result and print log records on stderr."""
    verbosity = get_verbosity()
    handler = _StderrHandler(verbosity)
    root = logging.getLogger()
    level = root.level
    try:
        with reserve_stdout():
            root.addHandler(handler)
            root.setLevel(logging.INFO if verbosity.verbose else logging.WARNING)
            yield
    except BrokenPipeError as error:
        # This pipe is neither stdout nor stderr (see dsrl.cli.streams). click would end the program without a message.
        raise RuntimeError("a pipe or connection was closed by its other end") from error
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


class _StderrHandler(logging.Handler):
    """Prints log records on the current ``sys.stderr``: a live display replaces it for a while."""

    def __init__(self, verbosity: Verbosity) -> None:
        super().__init__()
        self._verbosity = verbosity

    def emit(self, record: logging.LogRecord) -> None:
        from dsrl.storage.run_log import format_record, is_note

        quiet, verbose = self._verbosity.quiet, self._verbosity.verbose
        lowest = logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING
        if record.levelno < lowest or is_note(record):  # the progress display prints the notes
            return
        try:
            print(f"{record.levelname.lower()}: {format_record(record)}", file=sys.stderr, flush=True)
        except Exception:  # noqa: BLE001 - another library's record that cannot be formatted
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name comes from logging
        return


def print_note(text: str) -> None:
    """Print on stderr what is neither a result nor an error."""
    if not get_verbosity().quiet:
        click.echo(text, err=True)


def print_line(text: str = "") -> None:
    """Print a line of the result on stdout."""
    click.echo(text, file=get_result_stream())


def print_json(value: Any) -> None:
    """Print a result as JSON on stdout."""
    print_line(json.dumps(value, ensure_ascii=False, indent=2))


def shorten(text: str, length: int) -> str:
    """Return a text of a model in one line of at most ``length`` characters that is safe on a terminal."""
    line = " ".join(printable(text).split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def print_rows(
    rows: Sequence[Any],
    limit: int,
    as_json: bool,
    columns: list[str],
    make_row: Callable[[Any], list[str]],
    name: str,
    nothing: str,
) -> None:
    """Print the first rows of a list of records, as a table or as JSON; say on stderr how many more there are.

    Args:
        rows: the records; dataclasses.
        limit: number of records to print; 0: all.
        as_json: print JSON.
        columns: heads of the table.
        make_row: makes the cells of a record.
        name: what the records are, in the plural.
        nothing: what to say if there are none.
    """
    shown = rows[:limit] if limit else rows
    if as_json:
        print_json([asdict(row) for row in shown])
        return
    if not rows:
        print_note(nothing)
        return
    print_table("", columns, [make_row(row) for row in shown], borders=False)
    if len(shown) < len(rows):
        print_note(f"{len(shown)} of {len(rows)} {name}; --limit 0 shows all.")


def print_table(title: str, columns: list[str], rows: list[list[str]], borders: bool = True) -> None:
    """Print a table on stdout. Cells are text, never markup. Without borders, there is room for more columns."""
    from rich.box import HEAVY_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shape: dict[str, Any] = {"box": HEAVY_HEAD} if borders else {"box": None, "padding": (0, 2, 0, 0)}
    table = Table(title=title or None, title_justify="left", title_style="bold", **shape)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    stream = get_result_stream()
    # In a pipe or a file there is no screen, so nothing is folded (unless COLUMNS says so): a
    # name stays in one piece for grep and awk.
    Console(file=stream, width=None if stream.isatty() or "COLUMNS" in os.environ else _NO_SCREEN).print(table)
