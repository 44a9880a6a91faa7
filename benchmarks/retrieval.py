"""Retrievers on a made-up library: time, CPU, disk and memory of the index; opening, searching, adding.

    python benchmarks/retrieval.py                            # 100 thousand passages, bm25 and SQLite FTS5; some minutes
    python benchmarks/retrieval.py --passages 1000000 --engines bm25 sqlite_search pyserini
    python benchmarks/retrieval.py --passages 200000 --engines bm25 rank_bm25
    python benchmarks/retrieval.py --corpus PATH              # a library of your own; only numbers are printed

The passages have about 100 words with the frequencies of English (Zipf, Mandelbrot), the queries 5 to 10 words of middling
frequency. Every engine works on the same library, in processes of its own: one builds the index, another one opens it and
searches. Memory is the peak of what the process and its Java hold, without the pages of files that are mapped, which the
system takes back when it needs them; every tenth of a second is looked at. ``pyserini`` is a retriever of its own
distribution; ``rank_bm25`` is what the paper's code uses (``pip install rank-bm25``), in memory. A Markdown table, and one
line for what 9.5 and 30 million passages would take by the last two sizes, if ``--passages`` has several.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import Any

import numpy as np

from dsrl.corpus.manifest import measure_folder
from dsrl.corpus.reader import Corpus
from dsrl.plugins.binding import load
from dsrl.types import Passage, PluginRef

VOCABULARY = 300_000
COLUMNS = (
    *("engine", "passages", "index s", "CPU s", "disk MB", "index memory MB", "open s", "k=10 p50 ms", "k=10 p99 ms"),
    *("k=10,000 p50 ms", "k=10,000 p99 ms", "search memory MB", "add 1,000 s"),
)
#: Rare words get ranks up to this; the ranks of the words of queries lie between these.
QUERY_RANKS = (200, 20_000)


def make_words(rng: Random) -> list[str]:
    """Return made-up words; no two are equal."""
    syllables = [first + vowel for first in "b c d f g h k l m n p r s t v w br ch st tr".split() for vowel in "aeiou"]
    words: dict[str, None] = {}
    while len(words) < VOCABULARY:
        words[
            "".join(rng.choices(syllables, k=rng.choice((1, 2, 2, 3, 3, 4))) + rng.choices(("", "n", "s", "r"), k=1))
        ] = None
    return list(words)


def write_library(path: Path, passages: int, seed: int) -> None:
    """Write passages with the word frequencies of English."""
    rng = np.random.default_rng(seed)
    words = np.array(make_words(Random(0)), dtype=object)
    weights = np.cumsum(1 / (np.arange(1, VOCABULARY + 1) + 2.7) ** 1.05)
    with path.open("w", encoding="utf-8") as file:
        for number in range(passages):
            length = max(20, round(rng.normal(100, 30)))
            drawn = np.searchsorted(weights, rng.random(length) * weights[-1])
            file.write(json.dumps({"id": f"{seed}-{number}", "text": " ".join(words[drawn])}) + "\n")


def make_queries(count: int) -> list[list[str]]:
    """Return the keywords of queries."""
    rng, words = Random(1), make_words(Random(0))[slice(*QUERY_RANKS)]
    return [rng.choices(words, k=rng.randint(5, 10)) for _ in range(count)]


def take_queries(library: Path) -> list[list[str]]:
    """Return the titles of 400 passages of a library as queries; its own first words where there is no title."""
    passages = list(Corpus([library]))
    return [
        [passage.title or " ".join(passage.text.split()[:8])]
        for passage in Random(1).sample(passages, min(400, len(passages)))
    ]


class RankBM25:
    """The way of the paper's code: everything in memory, words at spaces."""

    def index(self, passages: Iterator[Passage], directory: Path, existing: int = 0) -> int:
        from rank_bm25 import BM25Okapi

        texts = [passage.text for passage in passages]
        engine = BM25Okapi([text.lower().split() for text in texts])
        with (directory / "index.pickle").open("wb") as file:
            pickle.dump((engine, texts), file)
        return len(texts)

    def search(self, directory: Path, keywords: list[str], k: int) -> list[str]:
        if not hasattr(self, "_loaded"):
            with (directory / "index.pickle").open("rb") as file:
                self._loaded = pickle.load(file)
        engine, texts = self._loaded
        found: list[str] = engine.get_top_n(" ".join(keywords).lower().split(), texts, n=k)
        return found


def make_engine(name: str) -> Any:
    if name == "rank_bm25":
        return RankBM25()
    if name == "sqlite_search":  # an example, which is not installed
        sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "retriever"))
        from dsrl_sqlite_search import SqliteSearchRetriever

        return SqliteSearchRetriever()
    return load(PluginRef("retriever", name), "retriever").hook


def build(name: str, library: Path, directory: Path) -> dict[str, float]:
    engine, corpus = make_engine(name), Corpus([library])
    started, cpu = time.perf_counter(), time.process_time()
    with MemoryWatch() as memory:
        engine.index(passages=iter(corpus), directory=directory)
    return {
        "passages": corpus.good,
        "index s": time.perf_counter() - started,
        "CPU s": time.process_time() - cpu + children_cpu(),
        "index memory MB": memory.peak,
        "disk MB": measure_folder(directory) / 1e6,
    }


def search(name: str, directory: Path, queries: list[list[str]]) -> dict[str, float]:
    engine = make_engine(name)
    started = time.perf_counter()
    with MemoryWatch() as memory:
        engine.search(directory=directory, keywords=["nothing"], k=1)
        values = {"open s": time.perf_counter() - started}
        for k, count in ((10, len(queries)), (10_000, max(20, len(queries) // 10))):
            times = []
            for keywords in queries[:count]:
                started = time.perf_counter()
                engine.search(directory=directory, keywords=keywords, k=k)
                times.append(1000 * (time.perf_counter() - started))
            times.sort()
            values |= {f"k={k:,} p50 ms": times[len(times) // 2], f"k={k:,} p99 ms": times[int(len(times) * 0.99)]}
    return values | {"search memory MB": memory.peak}


def add(name: str, more: Path, directory: Path, existing: int) -> dict[str, float]:
    engine = make_engine(name)
    if not hasattr(engine, "count"):
        return {}
    started = time.perf_counter()
    engine.index(passages=iter(Corpus([more])), directory=directory, existing=existing)
    return {"add 1,000 s": time.perf_counter() - started}


class MemoryWatch:
    """Takes the most memory that this process and its children hold together, while the block runs, in MB."""

    def __enter__(self) -> MemoryWatch:
        self.peak, self._end = 0.0, Event()
        self._thread = Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            held = sum(map(read_memory, (Path("/proc/self"), *list_children())))
            self.peak = max(self.peak, held)
            if self._end.wait(0.1):
                return


def read_memory(process: Path) -> float:
    """Return the memory of a process without mapped files, in MB."""
    try:
        return int((process / "status").read_text().partition("RssAnon:")[2].split()[0]) / 1e3
    except (OSError, IndexError):
        return 0.0  # it has ended


def children_cpu() -> float:
    """Return the CPU seconds of the children that this process has."""
    ticks = 0
    for child in list_children():
        ticks += sum(map(int, (child / "stat").read_text().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def list_children() -> list[Path]:
    """Return the folders in ``/proc`` of the children of this process: the Java of pyserini."""
    me, children = str(os.getpid()), []
    for path in Path("/proc").iterdir():
        with suppress(OSError):  # others end meanwhile
            if path.name.isdigit() and (path / "stat").read_text().rpartition(")")[2].split()[1] == me:
                children.append(path)
    return children


def in_process(function: Callable[..., Any], *arguments: object, limit: float | None = None) -> Any:
    """Call a function in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply_async(function, arguments).get(limit)


def find_best(name: str, directory: Path, queries: list[list[str]], options: dict[str, str]) -> list[list[str]]:
    """Return the ids of the ten best passages for each query."""
    engine = load(PluginRef("retriever", name, options), "retriever").hook
    return [[hit.id for hit in engine.search(directory=directory, keywords=words, k=10)] for words in queries]


def print_agreement(folder: Path, queries: list[list[str]]) -> None:
    """Print how many of the ten best passages of bm25 are among those of Lucene."""
    ours = in_process(find_best, "bm25", folder / "bm25", queries, {})
    for options in ({}, {"k1": "1.2", "b": "0.75"}):
        theirs = in_process(find_best, "pyserini", folder / "pyserini", queries, options)
        shares = [len({*one} & {*two}) / max(1, len(two)) for one, two in zip(ours, theirs, strict=True)]
        first = sum(one[:1] == two[:1] for one, two in zip(ours, theirs, strict=True)) / len(queries)
        print(
            f"bm25 and pyserini {options or 'by default'}: {sum(shares) / len(shares):.1%} of the ten best; best {first:.1%}"
        )


def measure(
    name: str, library: Path, more: Path, folder: Path, queries: list[list[str]], limit: float
) -> dict[str, float]:
    directory = folder / name
    directory.mkdir()
    try:
        values = in_process(build, name, library, directory, limit=limit)
    except multiprocessing.TimeoutError:
        print(f"{name} had no index after {limit:g} s")
        return {}
    values |= in_process(search, name, directory, queries)
    if name != "rank_bm25":
        values |= in_process(add, name, more, directory, int(values["passages"]))
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, nargs="+", default=[100_000])
    parser.add_argument("--engines", nargs="+", default=["bm25", "sqlite_search"])
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--corpus", type=Path, help="a library of your own instead of the made-up one")
    parser.add_argument("--limit", type=float, default=3600, help="seconds that an engine may take for its index")
    parser.add_argument("--folder", type=Path, help="folder with room for the library and the indexes")
    options = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    history: dict[str, list[dict[str, float]]] = {}
    for passages in [0] if options.corpus else options.passages:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            library, more = options.corpus or folder / "library.jsonl", folder / "more.jsonl"
            if not options.corpus:
                write_library(library, passages, seed=2)
            write_library(more, 1_000, seed=3)
            for engine in options.engines:
                values = measure(engine, library, more, folder, make_queries(options.queries), options.limit)
                if values:
                    history.setdefault(engine, []).append(values)
                cells = [f"{values[c]:,.{0 if c == 'passages' else 2}f}" if c in values else "-" for c in COLUMNS[1:]]
                print(f"| {engine} | {' | '.join(cells)} |", flush=True)
            if {"bm25", "pyserini"} <= {*options.engines}:
                print_agreement(folder, make_queries(options.queries) if not options.corpus else take_queries(library))
    for engine, rows in history.items():
        if len(rows) > 1:
            print(
                f"\n{engine}, by {rows[-2]['passages']:,.0f} and {rows[-1]['passages']:,.0f} passages: {extrapolate(rows)}"
            )


def extrapolate(rows: list[dict[str, float]]) -> str:
    """Return what larger libraries would take, by the line through the last two sizes."""
    one, two = rows[-2:]

    def at(passages: float, column: str) -> float:
        slope = (two[column] - one[column]) / (two["passages"] - one["passages"])
        return two[column] + slope * (passages - two["passages"])

    return "; ".join(
        f"{millions} million passages: {at(millions * 1e6, 'CPU s') / 60:,.0f} CPU minutes, "
        f"{at(millions * 1e6, 'disk MB') / 1e3:,.1f} GB of disk"
        for millions in (9.5, 30)
    )


if __name__ == "__main__":
    main()
