"""The tables ``keywords``, ``passages`` and ``patterns``: what the samples of an iteration are written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dsrl.storage.stages import set_state
from dsrl.storage.tables import Tables, insert
from dsrl.types import Passage

TABLES = """
CREATE TABLE keywords (
    iteration INTEGER NOT NULL, task TEXT NOT NULL, domain TEXT NOT NULL, number INTEGER NOT NULL, keyword TEXT NOT NULL,
    PRIMARY KEY (iteration, task, domain, number));
CREATE TABLE passages (
    iteration INTEGER NOT NULL, task TEXT NOT NULL, domain TEXT NOT NULL, number INTEGER NOT NULL, id TEXT NOT NULL,
    title TEXT NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (iteration, task, domain, number));
CREATE TABLE patterns (                               -- without a domain: the pattern of the whole task
    iteration INTEGER NOT NULL, task TEXT NOT NULL, domain TEXT NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (iteration, task, domain))
"""
_COLUMNS = {
    "keywords": ("iteration, task, domain, number, keyword", "iteration, '', domain, number, keyword"),
    "passages": ("iteration, task, domain, number, id, title, text", "iteration, '', domain, number, id, title, text"),
    "patterns": ("iteration, task, domain, text", "iteration, '', '', text"),
}
#: Makes the tables again with their columns ``task`` and ``domain``, which a run of format 3 did not have.
ADD_TASKS = ";".join(
    (
        *(f"ALTER TABLE {table} RENAME TO old_{table}" for table in _COLUMNS),
        TABLES,
        *(f"INSERT INTO {t} ({new}) SELECT {old} FROM old_{t} ORDER BY rowid" for t, (new, old) in _COLUMNS.items()),
        *(f"DROP TABLE old_{table}" for table in _COLUMNS),
    )
)


class SourceTables(Tables):
    """Keywords, passages and patterns of each iteration. Adding them finishes their stage.

    A task is named as in :attr:`dsrl.types.Sample.task`: the name is empty in a run of one task.
    """

    def keywords(self, iteration: int) -> dict[str, dict[str, list[str]]]:
        """Return task -> domain -> keywords; empty if the teacher was not asked for them yet."""
        by_task: dict[str, dict[str, list[str]]] = {}
        sql = "SELECT task, domain, keyword FROM keywords WHERE iteration = ? ORDER BY rowid"
        for task, domain, keyword in self._read(sql, iteration):
            by_task.setdefault(task, {}).setdefault(domain, []).append(keyword)
        return by_task

    def add_keywords(self, iteration: int, keywords: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """Store the keywords of every domain of every task (task -> domain -> keywords)."""
        rows = [
            (iteration, task, domain, i, word)
            for task, domains in keywords.items()
            for domain, words in domains.items()
            for i, word in enumerate(words)
        ]
        with self._transaction() as database:
            insert(database, "keywords", rows)
            set_state(database, iteration, "keywords", "finished")

    def passages(self, iteration: int) -> dict[str, dict[str, list[Passage]]]:
        """Return task -> domain -> passages, in the order in which the slots use them."""
        by_task: dict[str, dict[str, list[Passage]]] = {}
        sql = "SELECT task, domain, id, text, title FROM passages WHERE iteration = ? ORDER BY task, domain, number"
        for task, domain, *passage in self._read(sql, iteration):
            by_task.setdefault(task, {}).setdefault(domain, []).append(Passage(*passage))
        return by_task

    def add_passages(self, iteration: int, passages: Mapping[str, Mapping[str, Sequence[Passage]]]) -> None:
        """Store the passages that the samples will be based on (task -> domain -> passages); there may be none."""
        rows = [
            (iteration, task, domain, i, passage.id, passage.title, passage.text)
            for task, domains in passages.items()
            for domain, hits in domains.items()
            for i, passage in enumerate(hits)
        ]
        with self._transaction() as database:
            insert(database, "passages", rows)
            set_state(database, iteration, "passages", "finished")

    def pattern(self, iteration: int, task: str = "", domain: str = "") -> str | None:
        """Return the pattern of a domain, or that of its task if the domain has no pattern of its own.

        Returns:
            The pattern; empty if there is none, None if it was not summarised yet.
        """
        row = self._read_one(
            "SELECT text FROM patterns WHERE iteration = ? AND task = ? AND domain IN (?, '') ORDER BY domain DESC LIMIT 1",
            iteration,
            task,
            domain,
        )
        return None if row is None else str(row[0])

    def add_patterns(self, iteration: int, patterns: Mapping[tuple[str, str], str]) -> None:
        """Store all patterns: (task, domain) -> text. The domain is empty for the pattern of a whole task."""
        with self._transaction() as database:
            insert(database, "patterns", [(iteration, *place, text) for place, text in patterns.items()])
            set_state(database, iteration, "pattern", "finished")

    def clear_patterns(self, iteration: int) -> None:
        """Make all patterns of an iteration empty, as if there were no demonstrations to summarise."""
        with self._transaction() as database:
            database.execute("UPDATE patterns SET text = '' WHERE iteration = ?", (iteration,))
