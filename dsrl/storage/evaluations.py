"""The tables ``items`` and ``evaluations``: the test set, and what the base and the trained model answered."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from dsrl.storage.stages import WHOLE_RUN, reset_stages, set_state
from dsrl.storage.tables import Tables, answer_text, insert
from dsrl.types import Answer

TABLES = """
CREATE TABLE items (number INTEGER PRIMARY KEY, input TEXT NOT NULL, label TEXT NOT NULL);
CREATE TABLE evaluations (
    model TEXT NOT NULL, item INTEGER NOT NULL REFERENCES items (number), output TEXT NOT NULL, answer TEXT,
    correct INTEGER NOT NULL,
    PRIMARY KEY (model, item)) WITHOUT ROWID
"""


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

    def items(self) -> list[tuple[int, str, str]]:
        """Return the test items as (number, input, label)."""
        return [cast("tuple[int, str, str]", row) for row in self._read("SELECT * FROM items ORDER BY number")]

    def replace_items(self, items: Sequence[tuple[str, str]]) -> None:
        """Store the test set as (input, label). Answers to items that stay in the set are kept."""
        with self._transaction() as database:
            answers = database.execute(
                "SELECT e.model, i.input, i.label, e.output, e.answer, e.correct "
                "FROM evaluations e JOIN items i ON i.number = e.item"
            ).fetchall()
            database.execute("DELETE FROM evaluations")
            database.execute("DELETE FROM items")
            insert(database, "items", [(number, *item) for number, item in enumerate(items)])
            by_item = {(model, text, label): rest for model, text, label, *rest in answers}
            rows = [
                (model, number, *by_item[model, *item])
                for model in {key[0] for key in by_item}
                for number, item in enumerate(items)
                if (model, *item) in by_item
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

    def _forget_trained(self, database: sqlite3.Connection) -> None:
        database.execute("DELETE FROM evaluations WHERE model = 'trained'")
        _reset_stage(database)


def _reset_stage(database: sqlite3.Connection) -> None:
    """Set the state of the evaluation after answers were removed."""
    reset_stages(database, WHOLE_RUN, ("evaluated",))
    if database.execute("SELECT 1 FROM evaluations LIMIT 1").fetchone():
        set_state(database, WHOLE_RUN, "evaluated", "started")
