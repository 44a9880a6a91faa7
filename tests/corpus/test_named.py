"""Indexes with a name, on the real retriever bm25."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pluggy
import pytest

from dsrl.corpus.index import hold_lock, search_passages
from dsrl.corpus.named import (
    NamedIndex,
    add_to_named,
    build_named,
    check_name,
    drop_index,
    find_named,
    link_named,
    list_indexes,
    open_named,
)
from dsrl.corpus.reader import Corpus
from dsrl.errors import DataError, SettingsError, StoreError
from dsrl.plugins.binding import Plugin, load
from dsrl.plugins.specs import RetrieverSpec, hookimpl
from dsrl.types import Passage, PluginRef

WORDS = ("red", "green", "yellow", "blue")


def bm25(**options: object) -> Plugin[RetrieverSpec]:
    return load(PluginRef("retriever", "bm25", {"threads": 1, "heap_mb": 16, **options}), "retriever")


def write(path: Path, texts: Iterable[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture
def library(tmp_path: Path) -> Path:
    return write(tmp_path / "library.jsonl", (f"{word} apple" for word in WORDS))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "index"


def search(home: Path, name: str, *keywords: str) -> list[str]:
    retriever = bm25()
    return [p.text for p in search_passages(retriever, open_named(home, name).open(retriever), keywords, 100)]


def test_it_is_built_once_and_found_by_its_name(library: Path, home: Path) -> None:
    index = build_named(bm25(), Corpus([library]), home, "fruit")
    assert (index.passages, index.is_new, index.directory) == (4, True, home / "fruit" / "index")
    assert not build_named(bm25(), Corpus([library]), home, "fruit").is_new
    named = open_named(home, "fruit")
    assert (named.name, named.manifest.passages, named.bad, named.list_changes()) == ("fruit", 4, 0, [])
    assert search(home, "fruit", "green") == ["green apple"]
    assert [(state.name, state.state) for state in list_indexes(home)] == [("fruit", "complete")]
    library.unlink()
    assert search(home, "fruit", "green") == ["green apple"], "the index holds the texts"
    assert named.list_changes() == []


def test_another_library_under_the_same_name_is_refused_or_replaces_it(library: Path, home: Path) -> None:
    build_named(bm25(), Corpus([library]), home, "fruit")
    before = open_named(home, "fruit")
    write(library, ["a new pear"])
    assert "has changed since the index 'fruit' was made" in before.list_changes()[0]
    with pytest.raises(SettingsError, match=r"another one: 4 passages of .*library\.jsonl, made by bm25.*--replace"):
        build_named(bm25(), Corpus([library]), home, "fruit")
    with pytest.raises(SettingsError, match="another one"):
        build_named(bm25(language="german"), Corpus([library]), home, "fruit")
    assert build_named(bm25(), Corpus([library]), home, "fruit", is_replacing=True).passages == 1
    assert search(home, "fruit", "pear apple") == ["a new pear"]
    assert open_named(home, "fruit").fingerprint() != before.fingerprint()
    assert sorted(path.name for path in home.iterdir() if path.is_dir()) == ["fruit"]


def test_a_broken_library_does_not_replace_a_good_one(library: Path, home: Path) -> None:
    build_named(bm25(), Corpus([library]), home, "fruit")
    library.write_text(library.read_text() + "{\n" * 20)
    with pytest.raises(DataError, match="fault 11"):
        build_named(bm25(), Corpus([library]), home, "fruit", is_replacing=True)
    assert search(home, "fruit", "green") == ["green apple"]


def test_a_library_is_added_once(library: Path, home: Path, tmp_path: Path) -> None:
    build_named(bm25(), Corpus([library]), home, "fruit")
    (tmp_path / "more").mkdir()
    more = write(tmp_path / "more" / "library.jsonl", ["green pear", "{oops"[1:]])
    index = add_to_named(bm25(), Corpus([more]), home, "fruit")
    assert (index.passages, index.is_new) == (6, True)
    assert not add_to_named(bm25(), Corpus([more]), home, "fruit").is_new
    assert not add_to_named(bm25(), Corpus([library]), home, "fruit").is_new
    assert sorted(search(home, "fruit", "green")) == ["green apple", "green pear"]
    named = open_named(home, "fruit")
    assert [source.passages for source in named.manifest.sources] == [4, 2]
    hits = bm25().hook.search(directory=named.home / "index", keywords=["apple", "pear", "oops"], k=100)
    assert len({hit.id for hit in hits}) == 6, "the two files have the same name, and their passages have different ids"


def test_a_library_that_cannot_be_read_leaves_the_index_as_it_was(library: Path, home: Path, tmp_path: Path) -> None:
    build_named(bm25(), Corpus([library]), home, "fruit")
    broken = write(tmp_path / "broken.jsonl", ["green pear"] * 30)
    broken.write_text(broken.read_text() + "{\n" * 20)
    with pytest.raises(DataError, match="fault 11"):
        add_to_named(bm25(), Corpus([broken]), home, "fruit")
    assert search(home, "fruit", "green") == ["green apple"]
    assert add_to_named(bm25(), Corpus([write(broken, ["green pear"])]), home, "fruit").passages == 5


KILLED = """
import os, signal, sys
from pathlib import Path
import dsrl_bm25
from dsrl.corpus.named import add_to_named, build_named
from dsrl.corpus.reader import Corpus
from dsrl.plugins.binding import load
from dsrl.types import PluginRef
dsrl_bm25.COMMIT_EVERY = 2_000
def kill(indexed):
    if indexed >= 2_000:
        os.kill(os.getpid(), signal.SIGKILL)
plugin = load(PluginRef("retriever", "bm25", {"threads": 1, "heap_mb": 16}), "retriever")
how = {"build": build_named, "add": add_to_named}[sys.argv[1]]
how(plugin, Corpus([Path(sys.argv[2])]), Path(sys.argv[3]), "fruit", on_progress=kill)
"""


def run_killed(how: str, library: Path, home: Path) -> None:
    process = subprocess.run([sys.executable, "-c", KILLED, how, library, home], capture_output=True, timeout=120)
    assert process.returncode == -signal.SIGKILL, process.stderr


def test_after_kill_9_the_same_build_goes_on_with_what_was_committed(home: Path, tmp_path: Path) -> None:
    large = write(tmp_path / "large.jsonl", (f"passage number{n} of many" for n in range(3_000)))
    run_killed("build", large, home)
    with pytest.raises(
        StoreError, match=r"'fruit' is not finished.* go on with it: dsrl index build .*large\.jsonl --name"
    ):
        find_named(home, "fruit")
    assert [state.state for state in list_indexes(home)] == ["unfinished"]
    committed = bm25().hook.count(directory=home / ".fruit.part" / "index")
    assert 1_000 < committed < 2_100
    counts: list[int] = []
    index = build_named(bm25(), Corpus([large]), home, "fruit", on_progress=counts.append)
    assert (index.passages, counts) == (3_000, [1_000, 2_000, 3_000, 3_000])
    for number in (0, committed - 1, committed, 2_999):
        assert search(home, "fruit", f"number{number}") == [f"passage number{number} of many"]


def test_after_kill_9_an_addition_goes_on_or_is_taken_back(library: Path, home: Path, tmp_path: Path) -> None:
    build_named(bm25(), Corpus([library]), home, "fruit")
    large = write(tmp_path / "large.jsonl", (f"passage number{n} of many" for n in range(3_000)))
    run_killed("add", large, home)
    with pytest.raises(StoreError, match=r"'fruit' is being added to, or that was interrupted.*dsrl index add fruit /"):
        find_named(home, "fruit")
    assert bm25().hook.count(directory=home / "fruit" / "index") > 1_000
    other = write(tmp_path / "other.jsonl", ["green pear"])
    assert add_to_named(bm25(), Corpus([other]), home, "fruit").passages == 5
    assert search(home, "fruit", "passage") == []
    run_killed("add", large, home)
    assert add_to_named(bm25(), Corpus([large]), home, "fruit").passages == 3_005
    assert len(search(home, "fruit", "green")) == 2
    assert search(home, "fruit", "number2999") == ["passage number2999 of many"]


FULL = """
import resource, sys
from pathlib import Path
from dsrl.corpus.named import build_named
from dsrl.corpus.reader import Corpus
from dsrl.errors import StoreError
from dsrl.plugins.binding import load
from dsrl.types import PluginRef
plugin = load(PluginRef("retriever", "bm25", {"threads": 1, "heap_mb": 16}), "retriever")
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    build_named(plugin, Corpus([Path(sys.argv[1])]), Path(sys.argv[2]), "fruit")
except StoreError as error:
    sys.exit(str(error))
"""


def test_a_disk_that_fills_up_is_a_sentence_and_the_same_build_goes_on(home: Path, tmp_path: Path) -> None:
    large = write(tmp_path / "large.jsonl", (f"passage {os.urandom(200).hex()} number{n}" for n in range(3_000)))
    limited = [sys.executable, "-c", FULL, large, home, str(200_000)]
    process = subprocess.run(limited, capture_output=True, text=True, timeout=120)
    assert process.returncode == 1
    assert "cannot be written to" in process.stderr
    assert "Free some room" in process.stderr
    assert build_named(bm25(), Corpus([large]), home, "fruit").passages == 3_000


def test_two_builders_of_one_index(library: Path, home: Path) -> None:
    home.mkdir()
    with hold_lock(home, "fruit"):
        for call in (build_named, add_to_named):
            with pytest.raises(StoreError, match=r"'fruit' is being changed by process \d+\. Wait"):
                call(bm25(), Corpus([library]), home, "fruit")
        build_named(bm25(), Corpus([library]), home, "other")
    build_named(bm25(), Corpus([library]), home, "fruit")
    with hold_lock(home, "fruit"), pytest.raises(StoreError, match="being changed"):
        drop_index(home, "fruit")
    with hold_lock(home, "fruit"):
        (home / ".fruit.lock.owner").unlink()  # as in the moment before the owner writes its number
        with pytest.raises(StoreError, match=r"changed by another process\. Wait"):
            drop_index(home, "fruit")
    drop_index(home, "fruit")
    assert find_named(home, "fruit") is None


def test_two_builders_at_once(home: Path, tmp_path: Path) -> None:
    large = write(tmp_path / "large.jsonl", (f"passage number{n} of many" for n in range(3_000)))
    build = [sys.executable, "-c", KILLED.replace("if indexed >= 2_000", "if False"), "build", large, home]
    both = [subprocess.Popen(build, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=300)[1] for process in both]
    for process, error in zip(both, errors, strict=True):
        # Between the lock and the file that names its owner, the owner is "another process".
        assert process.returncode == 0 or re.search(r"is being changed by (process \d+|another process)\.", error), (
            error
        )
    assert 0 in [process.returncode for process in both]
    assert open_named(home, "fruit").manifest.passages == 3_000


class OnceRetriever:
    """Cannot add to an index."""

    @hookimpl
    def index(self, passages: Iterable[Passage], directory: Path) -> int:
        return len(list(passages))

    @hookimpl
    def search(self, directory: Path, keywords: Sequence[str], k: int) -> Sequence[Any]:
        return []


def test_a_retriever_that_cannot_add(library: Path, home: Path, tmp_path: Path) -> None:
    manager = pluggy.PluginManager("dsrl")
    manager.add_hookspecs(RetrieverSpec)
    manager.register(OnceRetriever())
    once: Plugin[Any] = Plugin(PluginRef("retriever", "once"), "once-dist", "1", manager.hook, manager)
    build_named(once, Corpus([library]), home, "fruit")
    more = write(tmp_path / "more.jsonl", ["green pear"])
    with pytest.raises(
        SettingsError, match=r"once cannot add to an index.*build /.*more\.jsonl --name fruit --retriever once"
    ):
        add_to_named(once, Corpus([more]), home, "fruit")
    with pytest.raises(SettingsError, match=r"made by the retriever once, and bm25 cannot search it.*--retriever once"):
        open_named(home, "fruit").open(bm25())


class LinkingRetriever(OnceRetriever):
    """Searches files with one passage in each line, which another program has made."""

    @hookimpl
    def link(self, source: Path, directory: Path) -> int:
        lines = source.read_text().splitlines()
        if "broken" in lines:
            raise StoreError("This is no index.")
        (directory / "link").write_text(str(source))
        return len(lines)


def test_an_index_of_another_program_is_linked(home: Path, tmp_path: Path) -> None:
    manager = pluggy.PluginManager("dsrl")
    manager.add_hookspecs(RetrieverSpec)
    manager.register(LinkingRetriever())
    linking: Plugin[Any] = Plugin(PluginRef("retriever", "linking"), "linking-dist", "1", manager.hook, manager)
    theirs = tmp_path / "theirs"
    theirs.write_text("broken")
    with pytest.raises(StoreError, match="This is no index"):
        link_named(linking, theirs, home, "theirs")
    assert list_indexes(home) == []
    theirs.write_text("red\ngreen")
    index = link_named(linking, theirs, home, "theirs")
    assert (index.passages, (index.directory / "link").read_text()) == (2, str(theirs))
    named = open_named(home, "theirs")
    assert (named.manifest.sources[0].is_link, named.list_changes()) == (True, [])
    theirs.write_text("red\ngreen\nblue")
    assert "has changed since" in named.list_changes()[0]
    with pytest.raises(SettingsError, match="a link to one that dsrl did not make, so nothing is added"):
        add_to_named(linking, Corpus([write(tmp_path / "more.jsonl", ["x"])]), home, "theirs")
    with pytest.raises(SettingsError, match="There is an index 'theirs' already"):
        link_named(linking, theirs, home, "theirs")
    with pytest.raises(DataError, match="missing cannot be read"):
        link_named(linking, tmp_path / "missing", home, "other")
    drop_index(home, "theirs")
    assert theirs.exists()
    with pytest.raises(SettingsError, match="bm25 cannot search indexes that other programs have made"):
        link_named(bm25(), theirs, home, "theirs")


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".hidden", "a b", "x" * 101, "0123456789abcdef-bm25-1"])
def test_names_that_an_index_cannot_have(name: str, home: Path, library: Path) -> None:
    build_named(bm25(), Corpus([library]), home, "fruit")
    with pytest.raises(SettingsError, match="name of an index"):
        check_name(name)
    with pytest.raises(SettingsError):
        drop_index(home, name)
    assert search(home, "fruit", "green") == ["green apple"]


def test_an_index_that_does_not_exist(library: Path, home: Path) -> None:
    assert find_named(home, str(library)) is None
    assert list_indexes(home) == []
    with pytest.raises(
        SettingsError, match=r"no index 'fruit' in .*; there is none\. `dsrl index build PATH --name fruit`"
    ):
        open_named(home, "fruit")
    build_named(bm25(), Corpus([library]), home, "other")
    for call in (lambda: open_named(home, "fruit"), lambda: drop_index(home, "fruit")):
        with pytest.raises(SettingsError, match="there are: other"):
            call()
    assert isinstance(open_named(home, "other"), NamedIndex)


def test_an_index_of_a_newer_version_can_be_listed_and_dropped(library: Path, home: Path) -> None:
    build_named(bm25(), Corpus([library]), home, "fruit")
    (home / "fruit" / "manifest.json").write_text('{"format": 99}')
    with pytest.raises(StoreError, match="newer version of dsrl"):
        find_named(home, "fruit")
    assert [state.state for state in list_indexes(home)] == ["of a newer version of dsrl"]
    drop_index(home, "fruit")
    assert list_indexes(home) == []
