"""The tables ``keywords``, ``passages`` and ``patterns``: what the samples of an iteration are written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dsrl.storage.stages import set_state
from dsrl.storage.tables import Tables, insert
from dsrl.types import Passage

TABLES = """
CREATE TABLE keywords (
    iteration INTEGER NOT NULL, domain TEXT NOT NULL, number INTEGER NOT NULL, keyword TEXT NOT NULL,
    PRIMARY KEY (iteration, domain, number));
CREATE TABLE passages (
    iteration INTEGER NOT NULL, domain TEXT NOT NULL, number INTEGER NOT NULL, id TEXT NOT NULL, title TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (iteration, domain, number));
CREATE TABLE patterns (iteration INTEGER PRIMARY KEY, text TEXT NOT NULL)
"""


class SourceTables(Tables):
    """Keywords, passages and the pattern of each iteration. Adding them finishes their stage."""

    def keywords(self, iteration: int) -> dict[str, list[str]]:
        """Return domain -> keywords; empty if the teacher was not asked for them yet."""
        by_domain: dict[str, list[str]] = {}
        sql = "SELECT domain, keyword FROM keywords WHERE iteration = ? ORDER BY rowid"
        for domain, keyword in self._read(sql, iteration):
            by_domain.setdefault(domain, []).append(keyword)
        return by_domain

    def add_keywords(self, iteration: int, keywords: Mapping[str, Sequence[str]]) -> None:
        """Store the keywords of every domain."""
        rows = [(iteration, domain, i, word) for domain, words in keywords.items() for i, word in enumerate(words)]
        with self._transaction() as database:
            insert(database, "keywords", rows)
            set_state(database, iteration, "keywords", "finished")

    def passages(self, iteration: int) -> dict[str, list[Passage]]:
        """Return domain -> passages, in the order in which the slots use them."""
        by_domain: dict[str, list[Passage]] = {}
        sql = "SELECT domain, id, text, title FROM passages WHERE iteration = ? ORDER BY domain, number"
        for domain, *passage in self._read(sql, iteration):
            by_domain.setdefault(domain, []).append(Passage(*passage))
        return by_domain

    def add_passages(self, iteration: int, passages: Mapping[str, Sequence[Passage]]) -> None:
        """Store the passages that the samples will be based on; there may be none."""
        rows = [(iteration, d, i, p.id, p.title, p.text) for d, hits in passages.items() for i, p in enumerate(hits)]
        with self._transaction() as database:
            insert(database, "passages", rows)
            set_state(database, iteration, "passages", "finished")

    def pattern(self, iteration: int) -> str | None:
        """Return the pattern; empty if the task has none, None if it was not summarised yet."""
        row = self._read_one("SELECT text FROM patterns WHERE iteration = ?", iteration)
        return None if row is None else str(row[0])

    def add_pattern(self, iteration: int, text: str) -> None:
        """Store the pattern; empty if the task has none."""
        with self._transaction() as database:
            insert(database, "patterns", [(iteration, text)])
            set_state(database, iteration, "pattern", "finished")
