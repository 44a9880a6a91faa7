"""The tables ``greedy_attempts``, ``attempts``, ``scores``, ``selected``, ``dev_items`` and ``rewards``.

The base model's attempts give each sample its score, the scores select the training set, the training is evaluated on the
development items, and it gives rewards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dsrl.storage.matches import Match, insert_matches
from dsrl.storage.stages import reset_stages, set_state, start_stage_of
from dsrl.storage.tables import Tables, answer_text, insert, slot_bounds
from dsrl.types import Answer, Score

#: The table of format 3.
DEV_TABLE = """
CREATE TABLE dev_items (
    iteration INTEGER NOT NULL, place INTEGER NOT NULL,
    sample TEXT REFERENCES samples (id),              -- NULL for a real item
    input TEXT NOT NULL, label TEXT NOT NULL,
    PRIMARY KEY (iteration, place))
"""
#: Adds a column that a run of format 3 did not have.
ADD_TASKS = "ALTER TABLE dev_items ADD COLUMN task TEXT NOT NULL DEFAULT ''"
TABLES = f"""
CREATE TABLE greedy_attempts (
    sample TEXT PRIMARY KEY REFERENCES samples (id), output TEXT NOT NULL, answer TEXT, solved INTEGER NOT NULL);
CREATE TABLE attempts (
    sample TEXT NOT NULL REFERENCES samples (id), number INTEGER NOT NULL, answer TEXT, times INTEGER NOT NULL,
    passed INTEGER NOT NULL,
    PRIMARY KEY (sample, number)) WITHOUT ROWID;      -- one row a distinct answer
CREATE TABLE scores (
    sample TEXT PRIMARY KEY REFERENCES samples (id), attempts INTEGER NOT NULL, passed INTEGER NOT NULL,
    score REAL NOT NULL);
CREATE TABLE selected (
    iteration INTEGER NOT NULL, place INTEGER NOT NULL, sample TEXT NOT NULL REFERENCES samples (id),
    PRIMARY KEY (iteration, place));
{DEV_TABLE};
{ADD_TASKS};
CREATE TABLE rewards (
    sample TEXT NOT NULL REFERENCES samples (id), step INTEGER NOT NULL, reward REAL NOT NULL,
    PRIMARY KEY (sample, step)) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The greedy attempt of the base model on a sample."""

    sample: str
    output: str
    answer: Answer
    solved: bool


@dataclass(frozen=True, slots=True)
class AttemptTotal:
    """The attempts behind the scores of a run.

    Attributes:
        samples: number of scored samples.
        attempts: number of all their attempts.
        least, most: the fewest and the most attempts at one sample.
    """

    samples: int
    attempts: int
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class DevItem:
    """A development item: the training is evaluated on it, and never trains on it.

    Attributes:
        sample: id of the sample that was held out; None for an item of real data.
        input: the input, without the output instruction.
        label: the canonical answer.
        task: name of its task; empty in a run of one task.
    """

    sample: str | None
    input: str
    label: str
    task: str = ""


class AttemptTables(Tables):
    """Attempts of the base model, scores, the training set and the rewards of training."""

    def greedy_attempts(self, iteration: int, slots: range | None = None) -> dict[str, bool]:
        """Return sample id -> whether the base model solved it, for the greedy attempts made so far."""
        rows = self._read(
            "SELECT a.sample, a.solved FROM greedy_attempts a JOIN samples s ON s.id = a.sample "
            "WHERE s.iteration = ? AND s.slot >= ? AND s.slot < ?",
            iteration,
            *slot_bounds(slots),
        )
        return {sample: bool(solved) for sample, solved in rows}

    def add_greedy_attempts(self, attempts: Iterable[Attempt]) -> None:
        """Store greedy attempts."""
        rows = [(a.sample, a.output, answer_text(a.answer), a.solved) for a in attempts]
        with self._transaction() as database:
            insert(database, "greedy_attempts", rows)
            start_stage_of(database, "attempted", [row[0] for row in rows])

    def scores(self, iteration: int, slots: range | None = None) -> dict[str, Score]:
        """Return sample id -> score."""
        rows = self._read(
            "SELECT x.sample, x.attempts, x.passed, x.score FROM scores x JOIN samples s ON s.id = x.sample "
            "WHERE s.iteration = ? AND s.slot >= ? AND s.slot < ? ORDER BY s.slot, s.parent IS NOT NULL",
            iteration,
            *slot_bounds(slots),
        )
        return {row[0]: Score(*row) for row in rows}

    def add_scores(self, scored: Iterable[tuple[Score, Mapping[Answer, tuple[int, bool]]]]) -> None:
        """Store scores, each with its distinct answers: answer -> (how many attempts gave it, whether it is right)."""
        scored = list(scored)
        answers = [
            (score.sample, number, answer_text(answer), times, passed)
            for score, counts in scored
            for number, (answer, (times, passed)) in enumerate(counts.items())
        ]
        with self._transaction() as database:
            insert(database, "scores", [(s.sample, s.attempts, s.passed, s.score) for s, _ in scored])
            insert(database, "attempts", answers)
            start_stage_of(database, "scored", [s.sample for s, _ in scored])

    def add_attempts(self, scored: Iterable[tuple[Score, Mapping[Answer, tuple[int, bool]]]]) -> None:
        """Store more attempts at samples that have a score, in one transaction.

        Args:
            scored: the new score of a sample, over all its attempts; and its new answers only, as in :meth:`add_scores`.
        """
        with self._transaction() as database:
            for score, counts in scored:
                database.execute(
                    "UPDATE scores SET attempts = ?, passed = ?, score = ? WHERE sample = ?",
                    (score.attempts, score.passed, score.score, score.sample),
                )
                for answer, (times, passed) in counts.items():
                    text = answer_text(answer)
                    found = database.execute(
                        "UPDATE attempts SET times = times + ? WHERE sample = ? AND answer IS ?",
                        (times, score.sample, text),
                    )
                    if not found.rowcount:
                        database.execute(
                            "INSERT INTO attempts SELECT ?1, coalesce(max(number) + 1, 0), ?2, ?3, ?4 FROM attempts "
                            "WHERE sample = ?1",
                            (score.sample, text, times, passed),
                        )

    def selected(self, iteration: int) -> list[str]:
        """Return the ids of the training set, best first; empty if it was not selected yet."""
        rows = self._read("SELECT sample FROM selected WHERE iteration = ? ORDER BY place", iteration)
        return [row[0] for row in rows]

    def dev_items(self, iteration: int) -> list[DevItem]:
        """Return the development items; empty if there are none, or if the training set was not selected yet."""
        sql = "SELECT sample, input, label, task FROM dev_items WHERE iteration = ? ORDER BY place"
        rows = self._read(sql, iteration)
        return [DevItem(*row) for row in rows]

    def add_selected(
        self,
        iteration: int,
        samples: Sequence[str],
        pool: int | None = None,
        dev_items: Sequence[DevItem] = (),
        set_aside: Sequence[Match] = (),
    ) -> None:
        """Store the training set, the development items, and what was set aside before.

        Args:
            samples: ids, best first.
            pool: how many samples had a score; with it, the stage ``selected`` is finished.
            dev_items: the items that the training is evaluated on.
            set_aside: the copies that could not be selected.
        """
        dev_rows = [
            (iteration, place, item.sample, item.input, item.label, item.task)
            for place, item in enumerate(dev_items, 1)
        ]
        with self._transaction() as database:
            insert(database, "selected", [(iteration, place, sample) for place, sample in enumerate(samples, 1)])
            insert(database, "dev_items", dev_rows)
            insert_matches(database, set_aside)
            if pool is None:
                set_state(database, iteration, "selected", "started")
            else:
                set_state(database, iteration, "selected", "finished", str(pool))

    def add_rewards(self, step: int, rewards: Mapping[str, float]) -> None:
        """Store the mean reward of each sample in a training step; a step that is trained again replaces its rewards."""
        with self._transaction() as database:
            database.executemany(
                "INSERT OR REPLACE INTO rewards VALUES (?, ?, ?)", [(s, step, r) for s, r in rewards.items()]
            )

    def get_step_rewards(self, iteration: int, after: int, last: int) -> list[float]:
        """Return the mean reward of each sample in the training steps ``after + 1 .. last``."""
        rows = self._read(
            "SELECT r.reward FROM rewards r JOIN samples s ON s.id = r.sample "
            "WHERE s.iteration = ? AND r.step > ? AND r.step <= ? ORDER BY r.step, r.sample",
            iteration,
            after,
            last,
        )
        return [reward for (reward,) in rows]

    def _forget_selected(self, database: Any, iteration: int) -> None:
        database.execute("DELETE FROM selected WHERE iteration = ?", (iteration,))
        database.execute("DELETE FROM dev_items WHERE iteration = ?", (iteration,))
        self._forget_rewards(database, iteration)
        reset_stages(database, iteration, ("selected", "trained"))

    def _forget_rewards(self, database: Any, iteration: int) -> None:
        database.execute(
            "DELETE FROM rewards WHERE sample IN (SELECT id FROM samples WHERE iteration = ?)", (iteration,)
        )
        reset_stages(database, iteration, ("trained",))

    # --- one sample, for its lineage ---------------------------------------------------------------------------------

    def get_greedy_attempt(self, sample_id: str) -> dict[str, Any] | None:
        """Return ``output``, ``answer`` and ``solved`` of a sample's greedy attempt; None if there is none."""
        sql = "SELECT output, coalesce(answer, 'unreadable'), solved FROM greedy_attempts WHERE sample = ?"
        return _make_record(("output", "answer", "solved"), self._read_one(sql, sample_id))

    def list_answers(self, sample_id: str) -> list[dict[str, Any]]:
        """Return the distinct answers of a sample's attempts, most frequent first: ``answer``, ``times``, ``right``."""
        rows = self._read(
            "SELECT coalesce(answer, 'unreadable'), times, passed FROM attempts WHERE sample = ? ORDER BY times DESC",
            sample_id,
        )
        return [{"answer": answer, "times": times, "right": bool(passed)} for answer, times, passed in rows]

    def get_score(self, sample_id: str) -> dict[str, Any] | None:
        """Return ``score``, ``passed`` and ``attempts`` of a sample; None if it was not scored."""
        sql = "SELECT score, passed, attempts FROM scores WHERE sample = ?"
        return _make_record(("score", "passed", "attempts"), self._read_one(sql, sample_id))

    def get_place(self, sample_id: str) -> int | None:
        """Return the place of a sample in the training set, from 1; None if it was not selected."""
        row = self._read_one("SELECT place FROM selected WHERE sample = ?", sample_id)
        return None if row is None else int(row[0])

    def list_last_rewards(self) -> dict[str, float]:
        """Return sample -> its mean reward in the last step that it was trained in."""
        # SQLite takes the other columns of a maximum from its row.
        rows = self._read("SELECT sample, reward, max(step) FROM rewards GROUP BY sample")
        return {sample: reward for sample, reward, _ in rows}

    def list_rewards(self, sample_id: str) -> list[dict[str, Any]]:
        """Return the mean rewards of a sample in the order of training: ``step``, ``reward``."""
        rows = self._read("SELECT step, reward FROM rewards WHERE sample = ? ORDER BY step", sample_id)
        return [{"step": step, "reward": reward} for step, reward in rows]

    # --- counts ------------------------------------------------------------------------------------------------------

    def count_solved(self, iteration: int | None = None) -> dict[bool, int]:
        """Return whether the base model solved a sample -> how many samples, in one iteration or (None) in all."""
        rows = self._read(
            "SELECT a.solved, count(*) FROM greedy_attempts a JOIN samples s ON s.id = a.sample "
            "WHERE ?1 IS NULL OR s.iteration = ?1 GROUP BY 1",
            iteration,
        )
        return {bool(solved): count for solved, count in rows}

    def count_unreadable_greedy(self, iteration: int) -> tuple[int, int]:
        """Return how many greedy attempts gave no readable answer, or an empty one, and how many there are."""
        return self._count_unreadable("greedy_attempts", "1", iteration)

    def count_unreadable_attempts(self, iteration: int) -> tuple[int, int]:
        """Return how many of the L attempts gave no readable answer, or an empty one, and how many there are."""
        return self._count_unreadable("attempts", "a.times", iteration)

    def _count_unreadable(self, table: str, weight: str, iteration: int) -> tuple[int, int]:
        unreadable, total = self._read_one(
            f"SELECT coalesce(sum({weight}) FILTER (WHERE coalesce(a.answer, '') = ''), 0), coalesce(sum({weight}), 0) "
            f"FROM {table} a JOIN samples s ON s.id = a.sample WHERE s.iteration = ?",
            iteration,
        )
        return int(unreadable), int(total)

    def list_unreadable(self, iteration: int, limit: int) -> list[tuple[str, int]]:
        """Return distinct texts of greedy attempts without a readable answer as (text, times), most frequent first."""
        rows = self._read(
            "SELECT a.output, count(*) FROM greedy_attempts a JOIN samples s ON s.id = a.sample "
            "WHERE s.iteration = ? AND coalesce(a.answer, '') = '' GROUP BY 1 ORDER BY 2 DESC, min(s.slot) LIMIT ?",
            iteration,
            limit,
        )
        return [(output, times) for output, times in rows]

    def count_attempts(self, iteration: int | None = None) -> AttemptTotal:
        """Count the attempts behind the scores, in one iteration or (None) in all."""
        row = self._read_one(
            "SELECT count(*), coalesce(sum(x.attempts), 0), coalesce(min(x.attempts), 0), coalesce(max(x.attempts), 0) "
            "FROM scores x JOIN samples s ON s.id = x.sample WHERE ?1 IS NULL OR s.iteration = ?1",
            iteration,
        )
        return AttemptTotal(*row)

    def count_scored(self, iteration: int | None = None) -> int:
        """Return how many samples have a score, in one iteration or (None) in all."""
        sql = "SELECT count(*) FROM scores x JOIN samples s ON s.id = x.sample WHERE ?1 IS NULL OR s.iteration = ?1"
        return int(self._read_one(sql, iteration)[0])

    def count_held_out(self, iteration: int | None = None) -> int:
        """Return how many samples were held out as development items, in one iteration or (None) in all."""
        sql = "SELECT count(sample) FROM dev_items WHERE ?1 IS NULL OR iteration = ?1"
        return int(self._read_one(sql, iteration)[0])

    def count_selected(self, iteration: int | None = None) -> int:
        """Return how many samples were selected, in one iteration or (None) in all."""
        sql = "SELECT count(*) FROM selected WHERE ?1 IS NULL OR iteration = ?1"
        return int(self._read_one(sql, iteration)[0])


def _make_record(names: Sequence[str], row: Sequence[Any] | None) -> dict[str, Any] | None:
    return None if row is None else dict(zip(names, row, strict=True))
