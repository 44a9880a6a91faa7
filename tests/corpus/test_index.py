"""Indexes: made once, reused, never half, never wrong."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pluggy
import pytest

from dsrl.corpus import index as retrieval
from dsrl.corpus.embedded import embedded_library
from dsrl.corpus.index import ensure_index, search_passages
from dsrl.corpus.reader import Corpus
from dsrl.errors import DataError, PluginError, SettingsError, StoreError
from dsrl.plugins.binding import Plugin, load
from dsrl.plugins.specs import RetrieverSpec, hookimpl
from dsrl.types import Passage, PluginRef


class FakeRetriever:
    """Keeps the passages in a file; breaks the contract on demand."""

    def __init__(self, fault: str = "", wait: float = 0) -> None:
        self.fault = fault
        self.wait = wait
        self.builds = 0

    @hookimpl
    def index(self, passages: Iterable[Passage], directory: Path) -> int:
        assert list(directory.iterdir()) == []
        self.builds += 1
        count = 0
        with (directory / "passages.jsonl").open("w") as file:
            for passage in passages:
                if self.fault == "stops early" and count == 2:
                    return count
                if self.fault == "is killed" and count == 2:
                    os._exit(9)
                if self.fault == "full disk" and count == 2:
                    raise OSError(28, "No space left on device")
                file.write(json.dumps([passage.id, passage.text, passage.title]) + "\n")
                count += 1
        time.sleep(self.wait)
        return count - 1 if self.fault == "loses one" else count

    @hookimpl
    def search(self, directory: Path, keywords: Sequence[str], k: int) -> Sequence[Any]:
        if self.fault == "finds rubbish":
            return ["text"]
        passages = [Passage(*json.loads(line)) for line in (directory / "passages.jsonl").open()]
        hits = [passage for passage in passages if any(word in passage.text for word in keywords)]
        return hits if self.fault == "finds too many" else hits[:k]


def bound(target: object, name: str = "fake", version: str = "1", **options: object) -> Plugin[Any]:
    manager = pluggy.PluginManager("dsrl")
    manager.add_hookspecs(RetrieverSpec)
    manager.register(target)
    return Plugin(PluginRef("retriever", name, options), "fake-dist", version, manager.hook, manager)


def search_corpus(corpus: Corpus, directory: Path, keywords: Sequence[str], k: int, fault: str = "") -> list[Passage]:
    """Return passages of a corpus from the fake retriever."""
    retriever = bound(FakeRetriever(fault))
    return search_passages(retriever, ensure_index(retriever, corpus, directory), keywords, k)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "library.jsonl"
    texts = ["red apple", "green apple", "red  apple\n", "yellow pear", "blue plum"]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def test_found_in_rank_order_without_repeated_texts(library: Path, tmp_path: Path) -> None:
    hits = search_corpus(Corpus([library]), tmp_path / "index", ["apple", "pear"], 10)
    assert [p.id for p in hits] == ["library.jsonl:1", "library.jsonl:2", "library.jsonl:4"]
    assert search_corpus(Corpus([library]), tmp_path / "index", [], 10) == []


def test_an_index_is_made_once_until_something_changes(library: Path, tmp_path: Path) -> None:
    fake, home = FakeRetriever(), tmp_path / "deep" / "index"
    counts: list[int] = []
    index = ensure_index(bound(fake), Corpus([library]), home, counts.append)
    assert (index.is_new, index.passages, counts) == (True, 5, [5])
    assert json.loads((index.directory.parent / "manifest.json").read_text())["passages"] == 5
    again = ensure_index(bound(fake), Corpus([library]), home, counts.append)
    assert (again.is_new, again.directory, fake.builds, counts) == (False, index.directory, 1, [5])
    for other in (bound(fake, version="2"), bound(fake, name="else"), bound(fake, language="french")):
        assert ensure_index(other, Corpus([library]), home).is_new
    library.write_text(library.read_text().replace("plum", "fig!"))
    assert ensure_index(bound(fake), Corpus([library]), home).is_new
    assert fake.builds == 5


def test_the_corpus_tells_of_faults_also_when_the_index_is_reused(library: Path, tmp_path: Path) -> None:
    library.write_text(library.read_text() + "{oops\n")
    for _ in range(2):
        corpus = Corpus([library])
        search_corpus(corpus, tmp_path / "index", ["apple"], 3)
        assert (corpus.good, corpus.bad) == (5, 1)
        assert corpus.faults[0].startswith(f"{library}:6: not JSON")


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("loses one", r"fake 1 got 5 passages and reports that its index holds 4"),
        ("stops early", r"fake 1 stopped after 3 passages, before the end"),
        ("finds rubbish", r"fake 1 did not return a list of passages"),
        ("finds too many", r"fake 1 was asked for 1 passages and returned 3"),
    ],
)
def test_a_retriever_that_breaks_its_contract(library: Path, tmp_path: Path, fault: str, sentence: str) -> None:
    with pytest.raises(PluginError, match=sentence):
        search_corpus(Corpus([library]), tmp_path / "index", ["apple"], 1, fault)
    folders = [path for path in (tmp_path / "index").iterdir() if not path.name.endswith(".lock")]
    assert len(folders) == (1 if fault.startswith("finds") else 0)


def test_no_room_and_no_permission(library: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot be written to .*: No space left on device\. Free some room"):
        ensure_index(bound(FakeRetriever("full disk")), Corpus([library]), tmp_path / "index")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="choose another folder"):
        ensure_index(bound(FakeRetriever()), Corpus([library]), tmp_path / "file" / "index")


def test_a_corpus_that_changes_or_is_too_broken_leaves_nothing(library: Path, tmp_path: Path) -> None:
    def edit(_: int) -> None:
        library.write_text(library.read_text() + '{"text": "late"}\n')

    fake = FakeRetriever()
    plugin, home = bound(fake), tmp_path / "index"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "PROGRESS_EVERY", 4)
        with pytest.raises(DataError, match="was changed while it was indexed"):
            ensure_index(plugin, Corpus([library]), home, edit)
    library.write_text(library.read_text() + "{\n" * 11)
    with pytest.raises(DataError, match="fault 11"):
        ensure_index(plugin, Corpus([library]), home)
    assert all(path.name.endswith(".lock") for path in home.iterdir())


@pytest.mark.parametrize("k", [0, -1])
def test_k_is_one_or_more(library: Path, tmp_path: Path, k: int) -> None:
    with pytest.raises(SettingsError, match="at least 1"):
        search_corpus(Corpus([library]), tmp_path, ["apple"], k)


def test_a_damaged_index_is_made_again(library: Path, tmp_path: Path) -> None:
    fake = FakeRetriever()
    index = ensure_index(bound(fake), Corpus([library]), tmp_path / "index")
    for harm in ('{"passages": ', "[]", '{"passages": 5}'):
        (index.directory.parent / "manifest.json").write_text(harm)
        assert ensure_index(bound(fake), Corpus([library]), tmp_path / "index").is_new
    assert (
        len(
            search_passages(bound(fake), ensure_index(bound(fake), Corpus([library]), tmp_path / "index"), ["apple"], 9)
        )
        == 2
    )


def build(fault: str, wait: float, library: Path, home: Path) -> None:
    ensure_index(bound(FakeRetriever(fault, wait)), Corpus([library]), home)


def test_a_killed_build_leaves_no_index_and_its_rest_is_cleared(library: Path, tmp_path: Path) -> None:
    home = tmp_path / "index"
    killed = multiprocessing.get_context("fork").Process(target=build, args=("is killed", 0, library, home))
    killed.start()
    killed.join(30)
    assert killed.exitcode == 9
    assert [path for path in home.iterdir() if path.name.endswith(".part")]
    assert ensure_index(bound(FakeRetriever()), Corpus([library]), home).is_new
    assert not [path for path in home.iterdir() if path.name.endswith(".part")]


class GrowingRetriever(FakeRetriever):
    """Can add to its index; every passage that was written is kept."""

    @hookimpl
    def index(self, passages: Iterable[Passage], directory: Path, existing: int) -> int:
        path = directory / "passages.jsonl"
        kept = path.read_text().splitlines(keepends=True)[:existing] if path.exists() else []
        path.write_text("".join(kept))
        count = len(kept)
        with path.open("a", buffering=1) as file:
            for passage in passages:
                if count == 3 and self.fault == "is killed":
                    os._exit(9)
                if count == 3 and self.fault == "full disk":
                    raise StoreError("No space left on device")
                file.write(json.dumps([passage.id, passage.text, passage.title]) + "\n")
                self.builds += 1
                count += 1
        return count

    @hookimpl
    def count(self, directory: Path) -> int:
        return len((directory / "passages.jsonl").read_text().splitlines())


def build_growing(fault: str, library: Path, home: Path) -> None:
    ensure_index(bound(GrowingRetriever(fault)), Corpus([library]), home)


@pytest.mark.parametrize("end", ["is killed", "full disk"])
def test_an_interrupted_build_goes_on_where_it_was(library: Path, tmp_path: Path, end: str) -> None:
    home = tmp_path / "index"
    process = multiprocessing.get_context("fork").Process(target=build_growing, args=(end, library, home))
    process.start()
    process.join(30)
    assert process.exitcode
    retriever = GrowingRetriever()
    corpus, counts = Corpus([library]), []
    index = ensure_index(bound(retriever), corpus, home, counts.append)
    assert (index.is_new, index.passages, retriever.builds, corpus.good, counts) == (True, 5, 2, 5, [5])
    lines = (index.directory / "passages.jsonl").read_text().splitlines()
    assert [json.loads(line)[0] for line in lines] == [f"library.jsonl:{n}" for n in range(1, 6)]
    assert not list(home.glob(".*.part"))


def test_the_remains_of_a_build_of_another_library_are_not_used(library: Path, tmp_path: Path) -> None:
    home = tmp_path / "index"
    with pytest.raises(StoreError, match="No space"):
        build_growing("full disk", library, home)
    library.write_text(library.read_text().replace("plum", "fig!"))
    retriever = GrowingRetriever()
    index = ensure_index(bound(retriever), Corpus([library]), home)
    assert retriever.builds == index.passages == 5


def test_an_index_of_a_newer_version_is_refused(library: Path, tmp_path: Path) -> None:
    index = ensure_index(bound(FakeRetriever()), Corpus([library]), tmp_path / "index")
    path = index.directory.parent / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(StoreError, match=r"made by a newer version of dsrl \(format 99; .*Update dsrl, or remove"):
        ensure_index(bound(FakeRetriever()), Corpus([library]), tmp_path / "index")


@pytest.mark.parametrize("locks", [True, False])
def test_two_processes_may_want_the_same_index(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    if not locks:  # as on some network file systems

        def refuse(*_: object) -> None:
            raise OSError(37, "No locks available")

        monkeypatch.setattr("fcntl.flock", refuse)
    home, fork = tmp_path / "index", multiprocessing.get_context("fork")
    both = [fork.Process(target=build, args=("", 0.3, library, home)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(30)
    assert [process.exitcode for process in both] == [0, 0]
    assert len([path for path in home.iterdir() if not path.name.endswith(".lock")]) == 1
    assert ensure_index(bound(FakeRetriever("loses one")), Corpus([library]), home).passages == 5


def test_the_default_retriever_finds_in_the_embedded_library(tmp_path: Path) -> None:
    bm25 = load(PluginRef("retriever", "bm25"), "retriever")
    corpus = Corpus([embedded_library()])
    index = ensure_index(bm25, corpus, tmp_path)
    hits = search_passages(bm25, index, ["wheezing", "inhaler"], 5)
    assert hits[0].id in {"medical/asthma", "medical/inhalers"}
    hits = search_passages(bm25, index, ["eggs", "cartons", "hens"], 5)
    assert hits[0].id == "quantities/egg-cartons"
    assert len(search_passages(bm25, index, [p.title for p in corpus], 10_000)) > 350


def test_a_fingerprint_that_is_known_is_not_taken_again(library: Path, tmp_path: Path) -> None:
    corpus = Corpus([library])
    fingerprint = corpus.fingerprint()
    index = ensure_index(bound(FakeRetriever()), corpus, tmp_path / "index", fingerprint=fingerprint)
    assert index.is_new
    library.unlink()  # a second reading would fail
    again = ensure_index(bound(FakeRetriever()), corpus, tmp_path / "index", fingerprint=fingerprint)
    assert again.directory == index.directory
