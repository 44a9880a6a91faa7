"""``dsrl index``: build, search and list indexes of passage libraries."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsrl.cli.common import (
    Group,
    cache_option,
    command_streams,
    get_verbosity,
    json_option,
    print_json,
    print_line,
    print_note,
    print_table,
    refuse_group_options,
)

if TYPE_CHECKING:
    from dsrl.corpus.index import Index
    from dsrl.corpus.named import IndexState
    from dsrl.corpus.reader import Corpus
    from dsrl.plugins.binding import Plugin
    from dsrl.plugins.specs import RetrieverSpec

#: Seconds between two lines of progress where there is no terminal.
_SECONDS = 10.0
#: Characters of a passage that `dsrl index search` prints.
_SHOWN = 300

_max_bad_option = click.option(
    "--max-bad",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Maximum share of unusable lines in a library.",
)
_length_option = click.option(
    "--passage-length",
    type=click.IntRange(0),
    default=0,
    metavar="CHARACTERS",
    help="Cut longer documents at sentence ends; 0: cut only plain texts.",
)


@click.group("index", cls=Group, invoke_without_command=True)
@cache_option
@json_option
@click.pass_context
def command(context: click.Context, cache_dir: Path, as_json: bool) -> None:
    """Build, search and list indexes of passage libraries. A run uses an index by its name: --corpus NAME.

    \b
        dsrl index build wiki/ --name wiki
        dsrl index search wiki "blood pressure"
        dsrl run --task mednli --corpus wiki
    """
    if context.invoked_subcommand is not None:
        if context.get_parameter_source("cache_dir") is click.core.ParameterSource.DEFAULT:
            context.params.pop("cache_dir")
        refuse_group_options(context)
        return
    with command_streams():
        _list_all(cache_dir, as_json)


@command.command("build")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name of the index.")
@click.option("--retriever", default="bm25", show_default=True, help="Retriever plugin.")
@click.option("--retriever-option", multiple=True, metavar="KEY=VALUE", help="KEY=VALUE for the retriever plugin.")
@click.option("--replace", is_flag=True, help="Replace an index of this name; it stays until the new one is complete.")
@_length_option
@_max_bad_option
@cache_option
@json_option
def build_command(
    paths: tuple[Path, ...],
    name: str,
    retriever: str,
    retriever_option: tuple[str, ...],
    replace: bool,
    passage_length: int,
    max_bad: float,
    cache_dir: Path,
    as_json: bool,
) -> None:
    """Build an index of files and folders.

    If it was stopped or killed, the same command goes on. PATH is a file or a folder: JSON Lines with "text", Parquet, plain
    text, Markdown, a Hugging Face data set on disk, or a tar archive of these; compressed with gzip or Zstandard or not.
    """
    from dsrl.corpus.named import build_named, check_name
    from dsrl.corpus.reader import Corpus
    from dsrl.plugins.binding import parse_options

    check_name(name)
    plugin = _bind(retriever, parse_options(retriever_option, "--retriever-option"))
    corpus = Corpus(paths, max_bad, passage_length)
    with _show_progress(corpus) as on_progress:
        index = build_named(plugin, corpus, _get_folder(cache_dir), name, replace, on_progress)
    _print_built(name, corpus, index, as_json)


@command.command("add")
@click.argument("name")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@_length_option
@_max_bad_option
@cache_option
@json_option
def add_command(
    name: str, paths: tuple[Path, ...], passage_length: int, max_bad: float, cache_dir: Path, as_json: bool
) -> None:
    """Add files and folders to an index. If it was stopped or killed, the same command goes on."""
    from dsrl.corpus.manifest import read_manifest
    from dsrl.corpus.named import add_to_named, check_name, open_named
    from dsrl.corpus.reader import Corpus

    check_name(name)
    folder = _get_folder(cache_dir)
    manifest = read_manifest(folder / name) or open_named(folder, name).manifest
    corpus = Corpus(paths, max_bad, passage_length)
    with _show_progress(corpus) as on_progress:
        index = add_to_named(_bind(manifest.retriever, manifest.options), corpus, folder, name, on_progress)
    _print_built(name, corpus, index, as_json)


@command.command("link")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name of the index.")
@click.option("--retriever", required=True, help="Retriever plugin that can search it.")
@click.option("--retriever-option", multiple=True, metavar="KEY=VALUE", help="KEY=VALUE for the retriever plugin.")
@cache_option
def link_command(path: Path, name: str, retriever: str, retriever_option: tuple[str, ...], cache_dir: Path) -> None:
    """Give a name to an index that another program has made, such as a prebuilt one of Anserini. It stays where it is.

    \b
        dsrl index link lucene-index.wiki/ --name wiki --retriever pyserini
    """
    from dsrl.corpus.named import check_name, link_named
    from dsrl.plugins.binding import parse_options

    check_name(name)
    plugin = _bind(retriever, parse_options(retriever_option, "--retriever-option"))
    index = link_named(plugin, path, _get_folder(cache_dir), name)
    print_line(
        f"The index {name!r} holds {index.passages:,} passages. Use it with --corpus {name} --retriever {retriever}."
    )


@command.command("list")
@cache_option
@json_option
def list_command(cache_dir: Path, as_json: bool) -> None:
    """List all indexes, and what the passages that come with dsrl hold."""
    _list_all(cache_dir, as_json)


@command.command("show")
@click.argument("name")
@cache_option
@json_option
def show_command(name: str, cache_dir: Path, as_json: bool) -> None:
    """Show what an index was made from, and whether its libraries have changed since then."""
    from dsrl.corpus.named import NamedIndex

    state = _find_state(cache_dir, name)
    manifest = state.manifest
    changes = NamedIndex(name, state.home, manifest).list_changes() if manifest else []
    details = {**_describe_state(state), "changes": changes}
    if as_json:
        print_json(details)
        return
    known = ("passages", "retriever", "options") if manifest else ()
    for key in ("name", "state", *known, "bytes", "folder"):
        value = details[key]
        if isinstance(value, dict):
            value = ", ".join(f"{option}={given}" for option, given in value.items()) or "none"
        print_line(click.style(f"{key}: ", bold=True) + (f"{value:,}" if isinstance(value, int) else str(value)))
    for source in details["sources"]:
        print_line(click.style("library: ", bold=True) + ", ".join(source["paths"]))
        print_line(f"  {source['passages']:,} passages, {source['bad']:,} bad lines")
        for text in (*source["faults"], *source["passed_over"]):
            print_line(f"  {text}")
    for change in changes:
        print_note(f"note: {change}")


@command.command("search")
@click.argument("name")
@click.argument("keywords", nargs=-1, required=True, metavar="KEYWORD...")
@click.option("-k", type=click.IntRange(1), default=5, show_default=True, help="Number of passages.")
@cache_option
@json_option
def search_command(name: str, keywords: tuple[str, ...], k: int, cache_dir: Path, as_json: bool) -> None:
    """Print the best passages for all keywords together."""
    from dsrl.corpus.index import Index, search_passages
    from dsrl.errors import StoreError
    from dsrl.text import printable

    state = _find_state(cache_dir, name)
    if state.manifest is None or state.state != "complete":
        hint = " The command that was building it goes on if you give it again." if state.state == "unfinished" else ""
        raise StoreError(f"The index {name!r} cannot be searched: it is {state.state}.{hint}")
    plugin = _bind(state.manifest.retriever, state.manifest.options)
    hits = search_passages(plugin, Index(state.home / "index", state.manifest.passages, is_new=False), keywords, k)
    if as_json:
        print_json([asdict(passage) for passage in hits])
        return
    if not hits:
        print_note("No passage was found.")
    for number, passage in enumerate(hits, 1):
        print_line(click.style(printable(f"{number}. {passage.title or passage.id}"), bold=True))
        text = " ".join(printable(passage.text).split())
        print_line(f"   {text[:_SHOWN]}{'...' if len(text) > _SHOWN else ''}")
        print_line(f"   [{printable(passage.id)}]")


@command.command("drop")
@click.argument("name")
@cache_option
def drop_command(name: str, cache_dir: Path) -> None:
    """Remove an index. Its libraries stay."""
    from dsrl.corpus.named import drop_index

    state = _find_state(cache_dir, name)
    drop_index(_get_folder(cache_dir), name, _bind_maker(state))
    print_note(f"The index {name!r} is removed.")


def _get_folder(cache_dir: Path) -> Path:
    from dsrl.pipeline.workspace import Workspace

    return Workspace(cache=cache_dir).indexes


def _bind(retriever: str, options: Any) -> Plugin[RetrieverSpec]:
    from dsrl.plugins.binding import load
    from dsrl.types import PluginRef

    return load(PluginRef("retriever", retriever, dict(options)), "retriever")


def _bind_maker(state: IndexState) -> Plugin[RetrieverSpec] | None:
    """Return the retriever that made an index; None if it is not known or not installed any more."""
    from dsrl.errors import DsrlError

    if state.manifest is None:
        return None
    try:
        return _bind(state.manifest.retriever, state.manifest.options)
    except DsrlError:
        return None


def _find_state(cache_dir: Path, name: str) -> IndexState:
    from dsrl.corpus.named import list_indexes, open_named

    folder = _get_folder(cache_dir)
    for state in list_indexes(folder):
        if state.name == name:
            return state
    open_named(folder, name)
    raise AssertionError("open_named finds no more than list_indexes")


def _describe_state(state: IndexState) -> dict[str, Any]:
    from dsrl.corpus.manifest import measure_folder

    manifest = state.manifest
    return {
        "name": state.name,
        "state": state.state,
        "passages": manifest.passages if manifest else 0,
        "retriever": f"{manifest.retriever} {manifest.version}" if manifest else "",
        "options": dict(manifest.options) if manifest else {},
        "bytes": measure_folder(state.home),
        "folder": str(state.home),
        "sources": [asdict(source) for source in manifest.sources] if manifest else [],
    }


def _list_all(cache_dir: Path, as_json: bool) -> None:
    from dsrl.corpus.embedded import describe_library
    from dsrl.corpus.named import list_indexes

    indexes = [_describe_state(state) for state in list_indexes(_get_folder(cache_dir))]
    if as_json:
        print_json(indexes)
        return
    rows = [
        [
            index["name"],
            f"{index['passages']:,}",
            index["retriever"],
            f"{index['bytes'] / 10**6:,.1f} MB",
            index["state"],
            ", ".join(path for source in index["sources"] for path in source["paths"]),
        ]
        for index in indexes
    ]
    if rows:
        print_table("", ["index", "passages", "retriever", "size", "state", "libraries"], rows)
    else:
        print_note("There is no index; `dsrl index build PATH --name NAME` makes one.")
    print_note(f"Without --corpus, a run uses the passages that come with dsrl: {describe_library()}.")


def _print_built(name: str, corpus: Corpus, index: Index, as_json: bool) -> None:
    result = {
        "name": name,
        "passages": index.passages,
        "is_new": index.is_new,
        "read": corpus.good,
        "bad": corpus.bad,
        "faults": corpus.faults,
        "passed_over": corpus.passed_over,
    }
    for file in corpus.passed_over:
        print_note(f"note: passed over: {file}")
    if corpus.bad:
        print_note(f"note: {corpus.bad:,} line(s) were left out:" + "".join(f"\n  {fault}" for fault in corpus.faults))
    if as_json:
        print_json(result)
    elif index.is_new:
        print_line(f"The index {name!r} holds {index.passages:,} passages. Use it with --corpus {name}.")
    else:
        print_line(f"The index {name!r} holds this library already: {index.passages:,} passages.")


@contextmanager
def _show_progress(corpus: Corpus) -> Iterator[Callable[[int], None] | None]:
    """Show on stderr how much of a corpus is indexed: a bar on a terminal, lines elsewhere."""
    if get_verbosity().quiet:
        yield None
    elif sys.stderr.isatty():
        with _show_bar(corpus) as on_progress:
            yield on_progress
    else:
        yield _LineReport(corpus, time.monotonic).report


class _LineReport:
    """Prints a line every few seconds."""

    def __init__(self, corpus: Corpus, clock: Callable[[], float]) -> None:
        self._corpus, self._clock = corpus, clock
        self._started = self._last = clock()

    def report(self, indexed: int) -> None:
        """Print a line, if the last one is some seconds ago."""
        now = self._clock()
        if now - self._last >= _SECONDS:
            self._last = now
            click.echo(describe_progress(self._corpus, indexed, now - self._started), err=True)


def describe_progress(corpus: Corpus, indexed: int, seconds: float) -> str:
    """Return how far the indexing of a corpus is, in words: passages, share of the bytes, rate, time left."""
    share = min(1.0, corpus.bytes_read / corpus.bytes_total) if corpus.bytes_total else 0.0
    rate = indexed / seconds if seconds > 0 else 0.0
    left = seconds * (1 - share) / share if share > 0 else None
    parts = [f"{share:.0%} of {corpus.bytes_total / 10**6:,.1f} MB", f"{rate:,.0f} passages/s"]
    if left is not None:
        parts.append(f"{_format_time(left)} left")
    return f"indexed {indexed:,} passages ({', '.join(parts)})"


def _format_time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


@contextmanager
def _show_bar(corpus: Corpus) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    started = time.monotonic()
    columns: Sequence[Any] = (BarColumn(bar_width=24), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("reading", total=1.0)

        def on_progress(indexed: int) -> None:
            share = corpus.bytes_read / corpus.bytes_total if corpus.bytes_total else 0.0
            text = describe_progress(corpus, indexed, time.monotonic() - started)
            bars.update(task, completed=share, description=text)

        yield on_progress
