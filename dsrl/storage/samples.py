"""The tables ``samples``, ``verdicts`` and ``votes``: what the teacher wrote, and the labels that the votes gave it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from dsrl.storage.matches import Match, insert_matches
from dsrl.storage.stages import set_state
from dsrl.storage.tables import Tables, answer_text, insert, slot_bounds
from dsrl.types import UNREADABLE, Answer, Kind, Sample

TABLES = """
CREATE TABLE samples (
    id TEXT PRIMARY KEY, iteration INTEGER NOT NULL, slot INTEGER NOT NULL, kind TEXT NOT NULL, input TEXT NOT NULL,
    output TEXT NOT NULL, dropped TEXT, parent TEXT REFERENCES samples (id), passage TEXT,
    task TEXT NOT NULL DEFAULT '', domain TEXT NOT NULL DEFAULT '');
CREATE INDEX samples_by_slot ON samples (iteration, slot);
CREATE TABLE verdicts (sample TEXT PRIMARY KEY REFERENCES samples (id), label TEXT, dropped TEXT);
CREATE TABLE votes (
    sample TEXT NOT NULL REFERENCES samples (id), number INTEGER NOT NULL, answer TEXT,
    PRIMARY KEY (sample, number)) WITHOUT ROWID       -- number 0 is the sample's own; NULL is unreadable
"""
#: Adds columns that a run of format 3 did not have. Such a run has one task, and its slots took the domains in turn. It
#: must run before the table ``keywords`` is made again.
ADD_TASKS = """
ALTER TABLE samples ADD COLUMN task TEXT NOT NULL DEFAULT '';
ALTER TABLE samples ADD COLUMN domain TEXT NOT NULL DEFAULT '';
UPDATE samples SET domain = coalesce((
    SELECT k.domain FROM keywords k WHERE k.iteration = samples.iteration AND k.number = 0
    AND (SELECT count(*) FROM keywords b WHERE b.iteration = k.iteration AND b.number = 0 AND b.rowid < k.rowid)
    = samples.slot % (SELECT count(*) FROM keywords n WHERE n.iteration = k.iteration AND n.number = 0)), '')
"""
_SAMPLES = (
    "SELECT s.id, s.iteration, s.slot, s.kind, s.input, s.output, v.label, coalesce(s.dropped, v.dropped) AS reason, "
    "s.parent, s.passage, s.task, s.domain FROM samples s LEFT JOIN verdicts v ON v.sample = s.id"
)
_OF_ITERATION = f"{_SAMPLES} WHERE (?1 IS NULL OR s.iteration = ?1)"


class SampleTables(Tables):
    """Samples as the teacher wrote them, and what verification made of them."""

    def samples(self, iteration: int, slots: range | None = None) -> list[Sample]:
        """Return the samples of an iteration with their label or the reason for dropping them, in the order of slots."""
        rows = self._read(
            f"{_SAMPLES} WHERE s.iteration = ? AND s.slot >= ? AND s.slot < ? ORDER BY s.slot, s.parent IS NOT NULL",
            iteration,
            *slot_bounds(slots),
        )
        return [_make_sample(row) for row in rows]

    def get_sample(self, sample_id: str) -> Sample | None:
        """Return one sample; None if there is none with this id."""
        row = self._read_one(f"{_SAMPLES} WHERE s.id = ?", sample_id)
        return None if row is None else _make_sample(row)

    def list_sample_ids(self, limit: int) -> list[str]:
        """Return the first ids of samples, in alphabetical order."""
        return [row[0] for row in self._read("SELECT id FROM samples ORDER BY id LIMIT ?", limit)]

    def list_rewritten(self, parent: str) -> list[str]:
        """Return the ids of the samples that were rewritten from this one."""
        return [row[0] for row in self._read("SELECT id FROM samples WHERE parent = ?", parent)]

    def count_votes(self, sample_id: str) -> dict[str, int]:
        """Return answer -> how many votes it got; ``unreadable`` counts the votes without an answer."""
        sql = "SELECT coalesce(answer, 'unreadable'), count(*) FROM votes WHERE sample = ? GROUP BY 1"
        return dict(self._read(sql, sample_id))

    def list_votes(self, iteration: int) -> dict[str, list[Answer]]:
        """Return id of a sample -> its own answer and then its votes, in their order."""
        votes: dict[str, list[Answer]] = {}
        rows = self._read(
            "SELECT v.sample, v.answer FROM votes v JOIN samples s ON s.id = v.sample WHERE s.iteration = ? "
            "ORDER BY v.sample, v.number",
            iteration,
        )
        for sample, answer in rows:
            votes.setdefault(sample, []).append(UNREADABLE if answer is None else answer)
        return votes

    def keep_first_votes(self, iteration: int, votes: int) -> None:
        """Remove the votes of an iteration that come after so many."""
        with self._transaction() as database:
            database.execute(
                "DELETE FROM votes WHERE number > ?1 AND sample IN (SELECT id FROM samples WHERE iteration = ?2)",
                (votes, iteration),
            )

    def count_written(self, iteration: int | None = None) -> dict[str, int]:
        """Return kind of sample -> how many were written, in one iteration or (None) in all."""
        return dict(self._read(f"SELECT kind, count(*) FROM ({_OF_ITERATION}) GROUP BY kind", iteration))

    def count_labelled(self, iteration: int | None = None) -> dict[str, int]:
        """Return kind of sample -> how many have a label, in one iteration or (None) in all."""
        sql = f"SELECT kind, count(*) FROM ({_OF_ITERATION}) WHERE label IS NOT NULL GROUP BY kind"
        return dict(self._read(sql, iteration))

    def count_dropped(self, iteration: int | None = None) -> dict[str, int]:
        """Return reason -> how many samples were dropped for it, most frequent first."""
        sql = (
            f"SELECT reason, count(*) FROM ({_OF_ITERATION}) WHERE reason IS NOT NULL "
            "GROUP BY reason ORDER BY 2 DESC, 1"
        )
        return dict(self._read(sql, iteration))

    def add_samples(self, samples: Iterable[Sample], matches: Iterable[Match] = ()) -> None:
        """Store samples as the teacher wrote them, and the test items that some of them copy."""
        samples = list(samples)
        rows = [
            (s.id, s.round, s.slot, s.kind, s.input, s.output, s.dropped, s.parent, s.passage, s.task, s.domain)
            for s in samples
        ]
        with self._transaction() as database:
            insert(database, "samples", rows)
            insert_matches(database, matches)
            for iteration, stage in {(s.round, "adapted" if s.parent else "initial") for s in samples}:
                set_state(database, iteration, stage, "started")

    def add_verdicts(self, verdicts: Iterable[tuple[Sample, Sequence[Answer]]]) -> None:
        """Store the label of each sample, or the reason for dropping it, with every vote; vote 0 is the sample's own."""
        verdicts = list(verdicts)
        votes = [(s.id, i, answer_text(vote)) for s, answers in verdicts for i, vote in enumerate(answers)]
        with self._transaction() as database:
            insert(database, "verdicts", [(s.id, s.label, s.dropped) for s, _ in verdicts])
            insert(database, "votes", votes)
            for iteration in {s.round for s, _ in verdicts}:
                set_state(database, iteration, "verified", "started")


def _make_sample(row: Sequence[Any]) -> Sample:
    sample_id, iteration, slot, kind, *rest = row
    return Sample(sample_id, iteration, slot, cast(Kind, kind), *rest)
