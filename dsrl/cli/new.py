"""``dsrl new``: write the package of a new plugin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsrl.cli.common import Command, json_option, print_json, print_line, print_note
from dsrl.scaffold.package import LICENCES, SCAFFOLD_KINDS

if TYPE_CHECKING:
    from dsrl.scaffold.draft import Draft
    from dsrl.scaffold.names import Names


@click.command("new", cls=Command)
@click.argument("kind", type=click.Choice(SCAFFOLD_KINDS))
@click.argument("name")
@click.option("--folder", type=click.Path(path_type=Path), help="Folder of the new package. [default: dsrl-NAME]")
@click.option(
    "--license", "licence", type=click.Choice(list(LICENCES)), help="Also write this licence. [default: none]"
)
@click.option(
    "--from-data",
    metavar="DATA",
    default="",
    help="For a task: draft it from these examples (CSV, TSV, JSONL, JSON, Parquet, or a hub id).",
)
@click.option(
    "--input-column",
    "input_columns",
    multiple=True,
    metavar="COLUMN",
    help="With --from-data: a column of the input; several make it together. [default: guessed]",
)
@click.option(
    "--output-column",
    default="",
    metavar="COLUMN",
    help="With --from-data: the column of the right answer. [default: guessed]",
)
@click.option(
    "--answer",
    default="",
    metavar="FORM[:CHOICE,...]",
    help="With --from-data: the form of an answer, for example "
    "tag:yes,no; the forms are tag, boxed, hashes, choice. [default: guessed]",
)
@click.option(
    "--demonstrations",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="With --from-data: copy so many rows into the package as demonstrations.",
)
@json_option
def command(
    kind: str, name: str, folder: Path | None, licence: str | None, from_data: str, as_json: bool, **wishes: Any
) -> None:
    """Write the package of a new plugin: code that works, its tests, a README, settings of tools, and a CI file.

    \b
        dsrl new task complaints
        dsrl new task complaints --from-data complaints.csv
        dsrl new retriever my_search --folder my-search --license MIT

    The package is one of dsrl's examples under the new name; its tests pass at once. With --from-data, the columns, the form
    of an answer and the choices are guessed from the data, and the guess is shown. Nothing is overwritten.
    """
    from dsrl.scaffold.names import check_names
    from dsrl.scaffold.package import list_commands, make_package, refuse_used_folder, write_package

    _refuse_wishes_without_data(kind, from_data, wishes)
    names = check_names(kind, name)
    folder = folder or Path(names.distribution)
    refuse_used_folder(folder)
    draft = _draft(from_data, **wishes) if from_data else None
    if draft is None:
        files = make_package(names, licence or "")
    else:
        from dsrl.scaffold.drafted_task import make_drafted_package

        files = make_drafted_package(names, draft, licence or "")
    write_package(files, folder)
    commands = list(list_commands(names, folder, is_runnable=draft is None))
    if as_json:
        print_json(_describe(names, folder, sorted(files), draft, commands))
        return
    print_line(f"{kind} {name!r} in {folder}:")
    for path in sorted(files):
        print_line(f"  {path}")
    print_line("Next:")
    for line in commands:
        print_line(f"  {line}")


def _refuse_wishes_without_data(kind: str, from_data: str, wishes: dict[str, Any]) -> None:
    context = click.get_current_context()
    given = [
        f"--{option.replace('_', '-').removesuffix('s') if option == 'input_columns' else option.replace('_', '-')}"
        for option in wishes
        if context.get_parameter_source(option) is click.core.ParameterSource.COMMANDLINE
    ]
    if from_data and kind != "task":
        raise click.UsageError(f"--from-data drafts a task; a {kind} is not drafted from data", context)
    if given and not from_data:
        raise click.UsageError(f"{given[0]} has no effect without --from-data", context)


def _draft(path: str, input_columns: tuple[str, ...], output_column: str, answer: str, demonstrations: int) -> Draft:
    """Draft a task from data, and show the guess on stderr."""
    from dsrl.errors import DataError
    from dsrl.scaffold.draft import Wishes, draft_task, explain_data_error
    from dsrl.scaffold.drafted_task import describe_guess

    try:
        draft = draft_task(path, Wishes(input_columns, output_column, answer, demonstrations))
    except DataError as error:
        explain_data_error(error)
        raise
    print_note(f"This is a guess from {path}:")
    for line in describe_guess(draft):
        print_note(f"  {line}")
    print_note("Correct the description in the new package before a run that costs money.")
    return draft


def _describe(names: Names, folder: Path, files: list[str], draft: Draft | None, commands: list[str]) -> dict[str, Any]:
    guess = None
    if draft is not None:
        guess = {
            "rows": draft.rows,
            "input_columns": list(draft.input_columns),
            "output_column": draft.output_column,
            "answer_format": draft.form,
            "choices": list(draft.choices),
            "counts": dict(draft.counts),
            "demonstrations": len(draft.demonstrations),
            "doubts": list(draft.doubts),
        }
    return {
        "kind": names.kind,
        "name": names.plugin,
        "distribution": names.distribution,
        "module": names.module,
        "folder": str(folder),
        "files": files,
        "guess": guess,
        "next": commands,
    }
