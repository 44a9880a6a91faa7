"""What several commands share: where runs are, and how results are printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def place_options(command: F) -> F:
    """Add ``--runs-dir`` and ``--cache-dir``."""
    runs = click.option("--runs-dir", type=click.Path(path_type=Path), default="runs", help="Folder of the runs.")
    cache = click.option(
        "--cache-dir", type=click.Path(path_type=Path), default=".dsrl", help="Folder of teacher replies and indexes."
    )
    return runs(cache(command))


def json_option(command: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")(command)


def print_json(value: Any) -> None:
    """Print for a script."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


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
    Console().print(shown)
