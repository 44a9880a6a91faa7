"""Rows of a run for people and other programs: each sample and each test item with all that became of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dsrl.storage.tables import Tables

_SAMPLES = """
SELECT s.id, s.iteration, s.kind, s.task, s.domain, s.input, s.output, v.label, coalesce(s.dropped, v.dropped), s.parent,
    s.passage, g.solved, x.passed, x.attempts, x.score, p.place, o.answer,
    (SELECT CASE WHEN max(o.number) > 0 THEN avg(o.answer = v.label) END
        FROM votes o WHERE o.sample = s.id AND o.answer IS NOT NULL)
FROM samples s
    LEFT JOIN verdicts v ON v.sample = s.id
    LEFT JOIN votes o ON o.sample = s.id AND o.number = 0
    LEFT JOIN greedy_attempts g ON g.sample = s.id
    LEFT JOIN scores x ON x.sample = s.id
    LEFT JOIN selected p ON p.sample = s.id
WHERE ?1 IS NULL OR s.iteration = ?1
ORDER BY s.iteration, s.slot, s.parent IS NOT NULL
"""
_ITEMS = """
SELECT i.number, i.task, i.domain, i.input, i.label, b.output, b.answer, b.correct, t.output, t.answer, t.correct
FROM items i
    LEFT JOIN evaluations b ON b.item = i.number AND b.model = 'base'
    LEFT JOIN evaluations t ON t.item = i.number AND t.model = 'trained'
ORDER BY i.number
"""


@dataclass(frozen=True, slots=True)
class SampleRow:
    """A sample and what became of it; what does not exist (yet) is None.

    Attributes:
        id, iteration, kind, task, domain, input, output: the sample as the teacher wrote it.
        label: the answer that the votes agreed on.
        dropped: the reason why it is not used.
        parent: id of the sample that it was rewritten from.
        passage: id of its passage.
        is_solved: whether the base model's greedy attempt was right; only initial samples have one.
        passed, attempts: how many of the base model's attempts were right, and how many there were.
        score: the score of Equation 7.
        place: its place in the training set, from 1.
        own_answer: the answer in its own output.
        agreement: share of the readable votes (its own answer included) that are the label, 0 to 1; None without votes
            (of a judged task, say).
    """

    id: str
    iteration: int
    kind: str
    task: str
    domain: str
    input: str
    output: str
    label: str | None
    dropped: str | None
    parent: str | None
    passage: str | None
    is_solved: bool | None
    passed: int | None
    attempts: int | None
    score: float | None
    place: int | None
    own_answer: str | None
    agreement: float | None


@dataclass(frozen=True, slots=True)
class ItemRow:
    """A test item and the answers of both models; what does not exist (yet) is None.

    Attributes:
        number: its number, from 0.
        task, domain, input, label: the item.
        base_output, trained_output: the whole text of a model.
        base_answer, trained_answer: the answer that was read in it; None also if it is unreadable.
        base_correct, trained_correct: whether the answer is right.
    """

    number: int
    task: str
    domain: str
    input: str
    label: str
    base_output: str | None
    base_answer: str | None
    base_correct: bool | None
    trained_output: str | None
    trained_answer: str | None
    trained_correct: bool | None


@dataclass(frozen=True, slots=True)
class SampleDetails:
    """What became of a sample.

    Attributes:
        votes: answer -> how many votes it got.
        answers: distinct answers of the attempts, most frequent first: answer, times, whether it is right.
        rewards: mean rewards in the order of training.
    """

    votes: dict[str, int]
    answers: list[tuple[str, int, bool]]
    rewards: list[float]


class ListingTables(Tables):
    """Reads samples and test items together with everything that belongs to them."""

    def list_sample_rows(self, iteration: int | None = None) -> list[SampleRow]:
        """Return the samples of one iteration or (None) of all, in the order of iterations and slots."""
        rows = self._read(_SAMPLES, iteration)
        return [SampleRow(*_read_truths(row, 11)) for row in rows]

    def list_details(self, sample_ids: Iterable[str]) -> dict[str, SampleDetails]:
        """Return id -> what became of a sample, for these samples, in three queries."""
        ids = list(sample_ids)
        details = {sample_id: SampleDetails({}, [], []) for sample_id in ids}
        chosen = "(SELECT value FROM json_each(?))"
        text = json.dumps(ids)
        for sample, answer, count in self._read(
            f"SELECT sample, coalesce(answer, 'unreadable'), count(*) FROM votes WHERE sample IN {chosen} GROUP BY 1, 2",
            text,
        ):
            details[sample].votes[answer] = count
        for sample, answer, times, passed in self._read(
            f"SELECT sample, coalesce(answer, 'unreadable'), times, passed FROM attempts WHERE sample IN {chosen} "
            "ORDER BY sample, times DESC",
            text,
        ):
            details[sample].answers.append((answer, times, bool(passed)))
        sql = f"SELECT sample, reward FROM rewards WHERE sample IN {chosen} ORDER BY sample, step"
        for sample, reward in self._read(sql, text):
            details[sample].rewards.append(reward)
        return details

    def list_item_rows(self) -> list[ItemRow]:
        """Return all test items of the run, in their order."""
        rows = self._read(_ITEMS)
        return [ItemRow(*_read_truths(row, 7, 10)) for row in rows]


def _read_truths(row: Sequence[Any], *places: int) -> list[Any]:
    """Return a row in which the values at these places are truth values, as SQLite has none."""
    return [bool(value) if n in places and value is not None else value for n, value in enumerate(row)]
