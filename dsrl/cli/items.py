"""``dsrl items``: the test items of a run, and what both models answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsrl.cli.common import Command, json_option, print_rows, run_argument, runs_option, shorten

if TYPE_CHECKING:
    from dsrl.storage.listing import ItemRow

#: Flag -> which items it keeps.
_FILTERS: Mapping[str, Callable[[ItemRow], bool]] = {
    "wrong": lambda row: row.trained_correct is False,
    "fixed": lambda row: row.base_correct is False and row.trained_correct is True,
    "broken": lambda row: row.base_correct is True and row.trained_correct is False,
}


@click.command("items", cls=Command)
@run_argument
@click.option("--wrong", "chosen", flag_value="wrong", help="Only items that the trained model gets wrong.")
@click.option("--fixed", "chosen", flag_value="fixed", help="Only items that only the trained model gets right.")
@click.option("--broken", "chosen", flag_value="broken", help="Only items that only the base model gets right.")
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, help="Number of items; 0: all.")
@runs_option
@json_option
def command(run: str, chosen: str | None, limit: int, runs_dir: Path, as_json: bool) -> None:
    """List the test items of a run with the answers of the base model and of the trained model.

    \b
        dsrl items mednli-3f9a1c --broken
        dsrl items mednli-3f9a1c --wrong --limit 0 --json
    """
    from dsrl.storage.run_store import RunStore

    with closing(RunStore(runs_dir / run, work=False)) as store:
        rows = store.list_item_rows()
    if chosen:
        rows = [row for row in rows if _FILTERS[chosen](row)]
    columns = ["item", "label", "base", "trained", "input"]
    print_rows(rows, limit, as_json, columns, _make_row, "items", f"Run {run!r} has no such test items.")


def _make_row(row: ItemRow) -> list[str]:
    return [
        str(row.number),
        shorten(row.label, 30),
        _describe(row.base_answer, row.base_correct),
        _describe(row.trained_answer, row.trained_correct),
        shorten(row.input, 160),
    ]


def _describe(answer: str | None, is_correct: bool | None) -> str:
    if is_correct is None:
        return ""
    return f"{'right' if is_correct else 'wrong'}: {shorten('unreadable' if answer is None else answer, 30)}"
