"""The table ``matches``: samples that copy a test item or another sample, with the words that both share."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from dsrl.storage.tables import Tables, insert

#: What a match means for its sample. ``contaminated``: it copies a test item and is set aside. ``duplicate``: it copies
#: another sample and is set aside. ``trained``: it was trained on, and copies a test item that was given later.
Meaning = Literal["contaminated", "duplicate", "trained"]
#: The reason for dropping a sample that copies a test item.
CONTAMINATED = "contaminated"

TABLES = """
CREATE TABLE matches (
    sample TEXT NOT NULL REFERENCES samples (id), meaning TEXT NOT NULL,
    rule TEXT NOT NULL,                               -- exact, 13-gram, contained or near
    item INTEGER, item_input TEXT,                    -- the test item and the beginning of its text
    other TEXT REFERENCES samples (id),               -- the sample that is kept
    span TEXT NOT NULL, similarity REAL);
CREATE INDEX matches_by_sample ON matches (sample)
"""
#: Characters of a test item that are kept to recognise it.
_ITEM_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Match:
    """A sample that copies a test item or another sample.

    Attributes:
        sample: id of the sample.
        meaning: see :data:`Meaning`.
        rule: how it was found (:data:`dsrl.similarity.copies.Rule`).
        span: what both share, as it stands in the sample.
        similarity: Jaccard similarity of the word 5-grams for the rule ``near``; else None.
        item: number of the test item, from 0 as in ``test.parquet``; None for a duplicate.
        item_input: the beginning of the test item's input; None for a duplicate.
        other: id of the sample that is kept; None for a test item.
    """

    sample: str
    meaning: Meaning
    rule: str
    span: str
    similarity: float | None = None
    item: int | None = None
    item_input: str | None = None
    other: str | None = None


class MatchTables(Tables):
    """Samples that are copies."""

    def list_matches(self, iteration: int | None = None, sample: str | None = None) -> list[Match]:
        """Return the matches of one iteration and of one sample; None: of all. The order is that of the slots."""
        rows = self._read(
            "SELECT m.sample, m.meaning, m.rule, m.span, m.similarity, m.item, m.item_input, m.other FROM matches m "
            "JOIN samples s ON s.id = m.sample WHERE (?1 IS NULL OR s.iteration = ?1) AND (?2 IS NULL OR s.id = ?2) "
            "ORDER BY s.iteration, s.slot, s.parent IS NOT NULL, m.meaning, m.item, m.rowid",
            iteration,
            sample,
        )
        return [Match(*row) for row in rows]

    def count_matches(self, iteration: int | None = None) -> dict[Meaning, int]:
        """Return meaning -> number of samples, in one iteration or (None) in all."""
        rows = self._read(
            "SELECT m.meaning, count(DISTINCT m.sample) FROM matches m JOIN samples s ON s.id = m.sample "
            "WHERE ?1 IS NULL OR s.iteration = ?1 GROUP BY m.meaning",
            iteration,
        )
        return cast("dict[Meaning, int]", dict(rows))

    def list_trained_items(self) -> set[int]:
        """Return the numbers of the test items that a training sample copies."""
        return {item for (item,) in self._read("SELECT item FROM matches WHERE meaning = 'trained'")}

    @property
    def compared_training(self) -> str | None:
        """A digest of the training samples and test items that were compared last; None if none were."""
        row = self._read_one("SELECT value FROM run WHERE key = 'compared_training'")
        return None if row is None else str(row[0])

    def replace_trained_matches(self, matches: Iterable[Match], state: str) -> None:
        """Store which training samples copy test items, in place of what was stored before.

        Args:
            state: a digest of the samples and items that were compared.
        """
        with self._transaction() as database:
            database.execute("DELETE FROM matches WHERE meaning = 'trained'")
            insert_matches(database, matches)
            database.execute("INSERT OR REPLACE INTO run VALUES ('compared_training', ?)", (state,))

    def _forget_set_aside(self, database: sqlite3.Connection, iteration: int) -> None:
        """Forget what was set aside before the selection; samples that were dropped when they were written stay."""
        database.execute(
            "DELETE FROM matches WHERE sample IN "
            "(SELECT id FROM samples WHERE iteration = ?1 AND coalesce(dropped, '') <> ?2)",
            (iteration, CONTAMINATED),
        )
        database.execute("DELETE FROM run WHERE key = 'compared_training'")


def insert_matches(database: sqlite3.Connection, matches: Iterable[Match]) -> None:
    """Insert matches inside a transaction."""
    rows: Sequence[tuple[object, ...]] = [
        (
            m.sample,
            m.meaning,
            m.rule,
            m.item,
            m.item_input and m.item_input[:_ITEM_LENGTH],
            m.other,
            m.span,
            m.similarity,
        )
        for m in matches
    ]
    insert(database, "matches", rows)
