"""The contract class of retrievers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dsrl.errors import DataError
from dsrl.plugins.binding import Plugin, load
from dsrl.plugins.checks import TRASH
from dsrl.testing.contracts.base import PluginContract
from dsrl.types import Passage, PluginRef

PASSAGES = (
    Passage("fever", "Fever is a raised body temperature. Paracetamol lowers it.", "Fever"),
    Passage("cough", "A cough that lasts for weeks should be examined.", "Cough"),
    Passage("blood", "Blood pressure is measured in millimetres of mercury.", "Blood pressure"),
    Passage("odd", 'Na\u00efve \u8840\u5727 c++ x86_64 foo^2 "quoted" a:b AND OR NOT end'),
)
#: Keywords that have a meaning in the query language of one engine or another.
QUERY_SYNTAX = (
    *('"fever', "fever^", "+fever", "-fever", "body:fever", "(fever", "fever)", "fever*", "[fever TO", "{fever}"),
    *("AND", "OR NOT", "NEAR(", "fever~2", "fe?er", "/fever/", "\\", "'; DROP TABLE passages; --", "%", "_"),
)


class RetrieverContract(PluginContract):
    """Tests of every retriever.

    Attributes:
        searches: pairs of keywords and the id of the passage of :data:`PASSAGES` that must come first.
    """

    kind = "retriever"
    searches: Any = (
        (["paracetamol"], "fever"),
        (["cough", "weeks"], "cough"),
        (["mercury"], "blood"),
        (["PRESSURE"], "blood"),
    )

    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        """An empty folder for the index."""
        (tmp_path / "index").mkdir()
        return tmp_path / "index"

    @pytest.fixture
    def index(self, subject: Plugin[Any], directory: Path) -> Path:
        """The folder of an index of :data:`PASSAGES`."""
        # A generator: the passages can be read once.
        assert subject.hook.index(passages=(passage for passage in PASSAGES), directory=directory) == len(PASSAGES)
        return directory

    def search(self, retriever: Plugin[Any], index: Path, keywords: list[str], k: int = 10) -> list[Passage]:
        """Return the passages that a retriever finds."""
        return list(retriever.hook.search(directory=index, keywords=keywords, k=k))

    def test_the_best_passage_comes_first(self, subject: Plugin[Any], index: Path) -> None:
        for keywords, best in self.searches:
            assert self.search(subject, index, keywords)[0].id == best, keywords

    def test_passages_come_back_unchanged_and_once(self, subject: Plugin[Any], index: Path) -> None:
        for keywords, _ in self.searches:
            passages = self.search(subject, index, keywords)
            assert set(passages) <= set(PASSAGES)
            assert len(set(passages)) == len(passages)

    def test_at_most_k_passages_come_back(self, subject: Plugin[Any], index: Path) -> None:
        keywords = ["fever cough blood", "pressure weeks paracetamol"]
        everything = self.search(subject, index, keywords, 100)
        for k in range(1, len(PASSAGES) + 2):
            assert self.search(subject, index, keywords, k) == everything[:k]

    @pytest.mark.parametrize("keyword", [*QUERY_SYNTAX, *TRASH], ids=lambda text: ascii(text[:12]))
    def test_any_keyword_is_only_a_term(self, subject: Plugin[Any], index: Path, keyword: str) -> None:
        for keywords in ([keyword], [keyword, "paracetamol"]):
            assert set(self.search(subject, index, keywords)) <= set(PASSAGES)

    def test_no_keywords_are_no_error(self, subject: Plugin[Any], index: Path) -> None:
        assert len(self.search(subject, index, [], 2)) <= 2

    def test_another_process_can_search_the_index(self, subject: Plugin[Any], ref: PluginRef, index: Path) -> None:
        """A later process has a new instance and finds the same."""
        later = load(ref, self.kind)
        for keywords, _ in self.searches:
            assert self.search(later, index, keywords) == self.search(subject, index, keywords)

    def test_an_empty_library(self, subject: Plugin[Any], directory: Path) -> None:
        assert subject.hook.index(passages=iter(()), directory=directory) == 0
        assert self.search(subject, directory, ["fever"]) == []

    def test_a_fault_of_the_library_is_not_swallowed(self, subject: Plugin[Any], directory: Path) -> None:
        def read() -> Iterator[Passage]:
            yield PASSAGES[0]
            raise DataError("library.jsonl:2: this line is broken")

        with pytest.raises(DataError, match="line is broken"):
            subject.hook.index(passages=read(), directory=directory)


class GrowingRetrieverContract(RetrieverContract):
    """Tests of a retriever that can add to an index: it takes ``existing`` and has the hook ``count``."""

    def add(self, retriever: Plugin[Any], index: Path, passages: Sequence[Passage], existing: int) -> int:
        """Add passages to an index and return the number of all."""
        return int(retriever.hook.index(passages=iter(passages), directory=index, existing=existing))

    def test_passages_are_added(self, subject: Plugin[Any], ref: PluginRef, directory: Path) -> None:
        assert self.add(subject, directory, PASSAGES[:1], 0) == 1
        assert subject.hook.count(directory=directory) == 1
        assert self.add(load(ref, self.kind), directory, PASSAGES[1:], 1) == len(PASSAGES)
        assert load(ref, self.kind).hook.count(directory=directory) == len(PASSAGES)
        for keywords, best in self.searches:
            assert self.search(subject, directory, keywords)[0].id == best, keywords

    def test_passages_beyond_the_existing_ones_are_removed(self, subject: Plugin[Any], index: Path) -> None:
        assert self.add(subject, index, (), 2) == 2
        assert subject.hook.count(directory=index) == 2
        assert {p.id for p in self.search(subject, index, ["fever cough blood pressure"])} == {"fever", "cough"}
        assert self.add(subject, index, PASSAGES[2:], 2) == len(PASSAGES)
        found = self.search(subject, index, ["mercury"])
        assert [passage.id for passage in found] == ["blood"]

    def test_an_interrupted_build_can_be_counted(self, subject: Plugin[Any], directory: Path) -> None:
        def read() -> Iterator[Passage]:
            yield PASSAGES[0]
            raise DataError("library.jsonl:2: this line is broken")

        with pytest.raises(DataError, match="line is broken"):
            subject.hook.index(passages=read(), directory=directory)
        assert 0 <= subject.hook.count(directory=directory) <= 1
