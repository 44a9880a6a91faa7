"""The tables ``items`` and ``evaluations``: the test set, and what the base and the trained model answered."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dsrl.storage.stages import WHOLE_RUN, reset_stages, set_state
from dsrl.storage.tables import Tables, answer_text, insert
from dsrl.types import UNREADABLE, Answer

TABLES = """
CREATE TABLE items (
    number INTEGER PRIMARY KEY, input TEXT NOT NULL, label TEXT NOT NULL, task TEXT NOT NULL DEFAULT '',
    domain TEXT NOT NULL DEFAULT '');
CREATE TABLE evaluations (
    model TEXT NOT NULL, item INTEGER NOT NULL REFERENCES items (number), output TEXT NOT NULL, answer TEXT,
    correct INTEGER NOT NULL,
    PRIMARY KEY (model, item)) WITHOUT ROWID
"""


#: Adds columns that a run of format 3 did not have.
ADD_TASKS = """
ALTER TABLE items ADD COLUMN task TEXT NOT NULL DEFAULT '';
ALTER TABLE items ADD COLUMN domain TEXT NOT NULL DEFAULT ''
"""


@dataclass(frozen=True, slots=True)
class EvalItem:
    """A test item.

    Attributes:
        input: the input, without the output instruction.
        label: the canonical answer.
        task: name of its task; empty in a run of one task.
        domain: the domain of the task that it belongs to; empty if the data set does not say it.
    """

    input: str
    label: str
    task: str = ""
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The answer of one model to one test item; ``model`` is ``base`` or ``trained``."""

    model: str
    item: int
    output: str
    answer: Answer
    correct: bool


class EvaluationTables(Tables):
    """Test items and the answers of the models to them."""

    def items(self) -> list[EvalItem]:
        """Return the test items; the number of an item is its place in this list, from 0."""
        return [EvalItem(*row) for row in self._read("SELECT input, label, task, domain FROM items ORDER BY number")]

    def replace_items(self, items: Sequence[EvalItem]) -> None:
        """Store the test set. Answers to items that stay in the set are kept."""
        with self._transaction() as database:
            answers = database.execute(
                "SELECT e.model, i.input, i.label, i.task, e.output, e.answer, e.correct "
                "FROM evaluations e JOIN items i ON i.number = e.item"
            ).fetchall()
            database.execute("DELETE FROM evaluations")
            database.execute("DELETE FROM items")
            rows = [(number, item.input, item.label, item.task, item.domain) for number, item in enumerate(items)]
            insert(database, "items", rows)
            by_item = {(model, text, label, task): rest for model, text, label, task, *rest in answers}
            rows = [
                (model, number, *by_item[model, item.input, item.label, item.task])
                for model in {key[0] for key in by_item}
                for number, item in enumerate(items)
                if (model, item.input, item.label, item.task) in by_item
            ]
            insert(database, "evaluations", rows)
            _reset_stage(database)

    def evaluations(self, model: str) -> dict[int, bool]:
        """Return number of a test item -> whether the model answered it correctly, for those that it has answered."""
        rows = self._read("SELECT item, correct FROM evaluations WHERE model = ? ORDER BY item", model)
        return {item: bool(correct) for item, correct in rows}

    def add_evaluations(self, evaluations: Iterable[Evaluation]) -> None:
        """Store answers to test items."""
        rows = [(e.model, e.item, e.output, answer_text(e.answer), e.correct) for e in evaluations]
        with self._transaction() as database:
            insert(database, "evaluations", rows)
            set_state(database, WHOLE_RUN, "evaluated", "started")

    def read_evaluations(self, model: str) -> list[Evaluation]:
        """Return the stored answers of a model with their outputs, in the order of the test items."""
        sql = "SELECT model, item, output, answer, correct FROM evaluations WHERE model = ? ORDER BY item"
        return [
            Evaluation(name, item, output, UNREADABLE if answer is None else answer, bool(correct))
            for name, item, output, answer, correct in self._read(sql, model)
        ]

    def replace_grades(self, evaluations: Iterable[Evaluation]) -> None:
        """Store other grades of answers that are stored."""
        rows = [(answer_text(e.answer), e.correct, e.model, e.item) for e in evaluations]
        with self._transaction() as database:
            database.executemany("UPDATE evaluations SET answer = ?, correct = ? WHERE model = ? AND item = ?", rows)

    def _forget_trained(self, database: sqlite3.Connection) -> None:
        database.execute("DELETE FROM evaluations WHERE model = 'trained'")
        _reset_stage(database)


def _reset_stage(database: sqlite3.Connection) -> None:
    """Set the state of the evaluation after answers were removed."""
    reset_stages(database, WHOLE_RUN, ("evaluated",))
    if database.execute("SELECT 1 FROM evaluations LIMIT 1").fetchone():
        set_state(database, WHOLE_RUN, "evaluated", "started")
