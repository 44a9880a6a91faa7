"""A real server: bulk, back-pressure, restarts, and what it cannot do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("psycopg", reason="make test-retrieval installs psycopg")

import dsrl_postgresql
import psycopg
from dsrl_postgresql import PostgreSQLRetriever

from dsrl.corpus.index import search_passages
from dsrl.corpus.named import build_named, drop_index, link_named, open_named
from dsrl.corpus.reader import Corpus
from dsrl.errors import SettingsError, StoreError
from dsrl.plugins.binding import Plugin, load
from dsrl.types import Passage, PluginRef

PASSAGES = [
    Passage("a", "The heart pumps blood through arteries.", "Heart"),
    Passage("b", "Bread is baked of flour, \U0001f35e and na\u00efve yeast."),
    *(Passage(f"filler{n}", f"Filler text number{n}.") for n in range(20)),
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


def make_plugin(server: Any) -> Plugin[Any]:
    return load(PluginRef("retriever", "postgresql", {"dsn": server.dsn}), "retriever")


def list_tables(server: Any) -> set[str]:
    with psycopg.connect(server.dsn) as connection:
        return {name for (name,) in connection.execute("select tablename from pg_tables where schemaname = 'dsrl'")}


def find(retriever: PostgreSQLRetriever, directory: Path, *keywords: str, k: int = 10) -> list[str]:
    return [passage.id for passage in retriever.search(directory, keywords, k)]


def test_texts_of_any_kind(server: Any, directory: Path) -> None:
    retriever = PostgreSQLRetriever(server.dsn)
    long = " ".join(f"word{n}" for n in range(200_000))  # far more than a tsvector can hold
    odd = [Passage("nul", "zebra\0stripe \udc80 end"), Passage("long", long), Passage("word", "y" * 5000 + " quagga")]
    assert retriever.index([*PASSAGES, *odd], directory, 0) == len(PASSAGES) + 3
    assert retriever.search(directory, ["bread"], 5) == [PASSAGES[1]]
    assert retriever.search(directory, ["zebra"], 5) == [Passage("nul", "zebra stripe  end")]
    assert [passage.text == long for passage in retriever.search(directory, ["word7"], 5)] == [True]
    assert find(retriever, directory, "quagga") == ["word"]
    assert find(retriever, directory, "the of", "\0", "\udc80") == []
    assert find(retriever, directory, "a'b\\ | & ! :* <->", "x" * 300_000) == []
    assert len(find(retriever, directory, *(f"number{n} other{n}" for n in range(3_000)), k=3)) == 3


def test_the_server_is_at_most_one_batch_behind(server: Any, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dsrl_postgresql, "BATCH", 100)

    def read() -> Iterator[Passage]:
        for number in range(500):
            yield Passage(str(number), f"passage number{number}")
            if number % 100 == 50 and number > 100:
                assert PostgreSQLRetriever(server.dsn).count(directory) == number - 50

    assert PostgreSQLRetriever(server.dsn).index(read(), directory, 0) == 500


def test_a_server_that_restarts_while_passages_are_indexed(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dsrl_postgresql, "BATCH", 500)
    library = tmp_path / "library.jsonl"
    library.write_text("".join(json.dumps({"text": f"passage number{n}"}) + "\n" for n in range(3_000)))
    restarts = iter([True])

    def restart(indexed: int) -> None:
        if indexed >= 2_000 and next(restarts, False):
            server.stop()
            server.start()

    home = tmp_path / "indexes"
    with pytest.raises(StoreError, match=r"The PostgreSQL server says: .*give the same command again"):
        build_named(make_plugin(server), Corpus([library]), home, "wiki", on_progress=restart)
    committed = PostgreSQLRetriever(server.dsn).count(home / ".wiki.part" / "index")
    assert 1_000 <= committed <= 2_000
    plugin = make_plugin(server)
    assert build_named(plugin, Corpus([library]), home, "wiki").passages == 3_000
    index = open_named(home, "wiki").open(plugin)
    for number in (0, committed - 1, committed, 2_999):
        assert [p.text for p in search_passages(plugin, index, [f"number{number}"], 5)] == [f"passage number{number}"]


def test_a_search_survives_a_restart(server: Any, directory: Path) -> None:
    retriever = PostgreSQLRetriever(server.dsn)
    retriever.index(PASSAGES, directory, 0)
    server.stop()
    server.start()
    assert find(retriever, directory, "bread") == ["b"]
    assert retriever.count(directory) == len(PASSAGES)


def test_a_server_that_is_down_is_a_sentence(server: Any, directory: Path) -> None:
    retriever = PostgreSQLRetriever(server.dsn)
    retriever.index(PASSAGES, directory, 0)
    server.stop()
    try:
        with pytest.raises(StoreError, match="Check `dsn`, PGHOST and the server"):
            find(retriever, directory, "bread")
    finally:
        server.start()
    assert find(retriever, directory, "bread") == ["b"]


def test_a_table_is_linked_from_another_machine_and_removed_by_its_owner_only(server: Any, tmp_path: Path) -> None:
    library = tmp_path / "library.jsonl"
    library.write_text('{"text": "bread is baked"}\n')
    plugin, before = make_plugin(server), list_tables(server)
    build_named(plugin, Corpus([library]), tmp_path / "one", "wiki")
    assert link_named(plugin, tmp_path / "one" / "wiki" / "index", tmp_path / "two", "wiki").passages == 1
    linked = open_named(tmp_path / "two", "wiki").open(plugin)
    assert [p.text for p in search_passages(plugin, linked, ["bread"], 5)] == ["bread is baked"]
    with pytest.raises(SettingsError, match="nothing is added"):
        plugin.hook.index(passages=iter(()), directory=linked.directory, existing=1)
    drop_index(tmp_path / "two", "wiki", plugin)
    assert len(list_tables(server) - before) == 1
    library.write_text('{"text": "bread is toasted"}\n')
    build_named(plugin, Corpus([library]), tmp_path / "one", "wiki", is_replacing=True)
    assert len(list_tables(server) - before) == 1, "the table that was replaced is removed"
    drop_index(tmp_path / "one", "wiki", plugin)
    assert list_tables(server) == before


def test_a_table_that_is_gone_and_an_index_of_a_newer_version(server: Any, directory: Path) -> None:
    retriever = PostgreSQLRetriever(server.dsn)
    retriever.index(PASSAGES, directory, 0)
    with pytest.raises(SettingsError, match="was made with language=english, not german"):
        find(PostgreSQLRetriever(server.dsn, language="german"), directory, "bread")
    path = directory / "dsrl-postgresql.json"
    made = json.loads(path.read_text())
    path.write_text(json.dumps({**made, "format": 99}))
    with pytest.raises(StoreError, match="newer version of dsrl-postgresql"):
        find(retriever, directory, "bread")
    path.write_text(json.dumps(made))
    retriever.drop(directory)
    for call in (lambda: find(retriever, directory, "bread"), lambda: retriever.count(directory)):
        with pytest.raises(StoreError, match="The table was removed, or it is on another server"):
            call()
    path.write_text("{")
    with pytest.raises(StoreError, match="cannot be opened"):
        find(retriever, directory, "bread")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dsn": "postgresql://me:secret@host/db"}, "holds a password, which would be stored"),
        ({"dsn": "nonsense"}, "option `dsn` cannot be read"),
        ({"timeout": "0"}, "option `timeout` must be a number of seconds"),
        ({"timeout": "x"}, "option `timeout` must be a number of seconds"),
    ],
)
def test_wrong_options(options: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        PostgreSQLRetriever(**options)  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)


def test_what_the_server_does_not_have(server: Any, directory: Path) -> None:
    with pytest.raises(SettingsError, match="no such text search configuration"):
        PostgreSQLRetriever(server.dsn, language="klingon").index([], directory, 0)
    with pytest.raises(StoreError, match=r"nowhere.*Check `dsn`"):
        PostgreSQLRetriever("host=/nowhere").index([], directory, 0)


def test_errors_of_a_full_disk_and_of_rights_in_words() -> None:
    """Raised by hand: a disk cannot be filled up for a test."""
    for error, words in (
        (psycopg.errors.DiskFull("No space left on device"), "Its disk is full. Free some room"),
        (psycopg.errors.InsufficientPrivilege("permission denied"), "Give the user the right"),
        (psycopg.errors.QueryCanceled("statement timeout"), "Raise the retriever's option `timeout`"),
    ):
        with pytest.raises(StoreError, match=words), PostgreSQLRetriever()._translate():
            raise error


def fake_encoder(texts: Sequence[str]) -> list[list[float]]:
    """Stands for a model: "loaf" and "bread" mean the same."""
    meanings = (("bread", "loaf"), ("heart", "cardiac"))
    return [[0.01, *(float(any(word in text.lower() for word in words)) for words in meanings)] for text in texts]


def test_passages_are_found_by_their_meaning(
    vector_server: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dsrl_postgresql, "load_encoder", lambda model: fake_encoder)
    assert "password" not in vector_server
    retriever = PostgreSQLRetriever(vector_server, model="fake")
    assert retriever.index(PASSAGES[:2], directory, 0) == 2
    assert find(retriever, directory, "loaf", k=1) == ["b"]
    assert find(retriever, directory, "cardiac", k=1) == ["a"]
    assert retriever.index(PASSAGES[2:], directory, 2) == len(PASSAGES)
    assert find(retriever, directory, "cardiac number7", k=2) in (["a", "filler7"], ["filler7", "a"])


def test_a_server_without_pgvector_says_so(server: Any, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dsrl_postgresql, "load_encoder", lambda model: fake_encoder)
    with psycopg.connect(server.dsn) as connection:
        if connection.execute("select 1 from pg_available_extensions where name = 'vector'").fetchone():
            pytest.skip("this server has pgvector")
    with pytest.raises(StoreError, match="needs the extension pgvector on the server"):
        PostgreSQLRetriever(server.dsn, model="fake").index([], directory, 0)
