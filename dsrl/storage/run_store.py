"""A run's folder and database: what has been done, a row written once.

Everything that a later stage needs can be read from here, so a killed run goes on by looking at what is missing.
Lineage is foreign keys: keyword -> passage -> sample -> votes -> parent -> attempts -> score -> selected -> reward.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import tomllib
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from dsrl.errors import SettingsError, StoreError
from dsrl.storage.sqlite import Schema, connect, connect_to_read, exists, told, transaction
from dsrl.types import Answer, Kind, Passage, Sample, Score, Unreadable

_VERSION = 1
_SCHEMA = """
CREATE TABLE run (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE keywords (
    round INTEGER NOT NULL, domain TEXT NOT NULL, number INTEGER NOT NULL, keyword TEXT NOT NULL,
    PRIMARY KEY (round, domain, number));
CREATE TABLE passages (
    round INTEGER NOT NULL, domain TEXT NOT NULL, number INTEGER NOT NULL, id TEXT NOT NULL, title TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (round, domain, number));
CREATE TABLE patterns (round INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE samples (
    id TEXT PRIMARY KEY, round INTEGER NOT NULL, slot INTEGER NOT NULL, kind TEXT NOT NULL, input TEXT NOT NULL,
    output TEXT NOT NULL, dropped TEXT, parent TEXT REFERENCES samples (id), passage TEXT);
CREATE INDEX samples_by_slot ON samples (round, slot);
CREATE TABLE verdicts (sample TEXT PRIMARY KEY REFERENCES samples (id), label TEXT, dropped TEXT);
CREATE TABLE votes (
    sample TEXT NOT NULL REFERENCES samples (id), number INTEGER NOT NULL, answer TEXT,
    PRIMARY KEY (sample, number)) WITHOUT ROWID;      -- number 0 is the sample's own; NULL is unreadable
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
    round INTEGER NOT NULL, place INTEGER NOT NULL, sample TEXT NOT NULL REFERENCES samples (id),
    PRIMARY KEY (round, place));
CREATE TABLE rewards (
    sample TEXT NOT NULL REFERENCES samples (id), step INTEGER NOT NULL, reward REAL NOT NULL,
    PRIMARY KEY (sample, step)) WITHOUT ROWID;
CREATE TABLE items (number INTEGER PRIMARY KEY, input TEXT NOT NULL, label TEXT NOT NULL);
CREATE TABLE evaluations (
    model TEXT NOT NULL, item INTEGER NOT NULL REFERENCES items (number), output TEXT NOT NULL, answer TEXT,
    correct INTEGER NOT NULL,
    PRIMARY KEY (model, item)) WITHOUT ROWID;
CREATE TABLE seconds (stage TEXT NOT NULL, sitting INTEGER NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (stage, sitting)) WITHOUT ROWID;
CREATE TABLE events (at REAL NOT NULL, level TEXT NOT NULL, text TEXT NOT NULL)
"""
#: Number of an earlier format -> SQL that makes the next one out of it; see :class:`dsrl.storage.sqlite.Schema`.
_MIGRATIONS: dict[int, str] = {}


_INPUTS = "SELECT key, value FROM run WHERE key GLOB 'input-*'"
#: Stage -> whether it has left something in the run.
_LEFT = {
    "keywords": "SELECT 1 FROM keywords",
    "passages": "SELECT 1 FROM run WHERE key GLOB 'passages-*'",
    "pattern": "SELECT 1 FROM patterns",
    "initial": "SELECT 1 FROM samples",
    "verified": "SELECT 1 FROM verdicts",
    "attempted": "SELECT 1 FROM greedy_attempts",
    "adapted": "SELECT 1 FROM samples WHERE parent IS NOT NULL",
    "scored": "SELECT 1 FROM scores",
    "selected": "SELECT 1 FROM selected",
    "trained": "SELECT 1 FROM run WHERE key GLOB 'training-*'",
    "evaluated": "SELECT 1 FROM evaluations",
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """The greedy attempt of the base model on a sample."""

    sample: str
    output: str
    answer: Answer
    solved: bool


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One test item as one model answered it; ``model`` is ``base`` or ``trained``."""

    model: str
    item: int
    output: str
    answer: Answer
    correct: bool


class RunStore:
    """The folder and database of one run.

    Opened for work it holds a lock, so that two processes cannot work on one run; opened to look it takes none.

    Args:
        folder: ``runs/<name>``; made if it is not there and ``work`` is true.
        work: take the lock and write.

    Raises:
        StoreError: no such run; another process works on it; no room, no permission; damaged.
    """

    def __init__(self, folder: Path, work: bool = True) -> None:
        self.folder = folder
        self._lock: IO[str] | None = None
        self._path = path = folder / "run.db"
        if not work and not exists(path) and not exists(self.settings_file):
            raise StoreError(f"there is no run {folder.name!r} in {folder.parent}; `dsrl runs` lists what is there")
        if work:
            self._lock = _locked(folder)
        try:
            if not exists(path) and exists(self.settings_file):
                raise StoreError(
                    f"{path} is missing, and with it what run {folder.name!r} has made. Put a copy of it back, or move the "
                    "folder away or give another --name: that is a new run then, whose budget begins anew"
                )
            schema = Schema(_VERSION, _SCHEMA, _MIGRATIONS)
            if work:
                self._database = connect(path, schema, durable=False)
                self._start()
            else:
                self._database = connect_to_read(path, schema)
        except BaseException:
            if self._lock is not None:
                self._lock.close()
            raise

    def _start(self) -> None:
        with transaction(self._database, self._path) as database:
            database.execute("INSERT OR IGNORE INTO run VALUES ('id', ?)", (uuid.uuid4().hex,))
            database.execute("INSERT OR IGNORE INTO run VALUES ('created', ?)", (str(time.time()),))
            database.execute("INSERT OR IGNORE INTO run VALUES ('sittings', '0')")
            database.execute("UPDATE run SET value = value + 1 WHERE key = 'sittings'")

    @property
    def id(self) -> str:
        """Unique for this run, whatever its name."""
        return self._value("id")

    @property
    def created(self) -> float:
        """Unix time of the run's start."""
        return float(self._value("created"))

    def _value(self, key: str) -> str:
        row = self._one("SELECT value FROM run WHERE key = ?", key)
        if row is None:
            raise StoreError(f"run {self.folder.name!r} was stopped as it began; the same command starts it again")
        return str(row[0])

    def close(self) -> None:
        """Let go of database and lock."""
        self._database.close()
        if self._lock is not None:
            self._lock.close()

    # --- settings ----------------------------------------------------------------------------------------------------

    @property
    def settings_file(self) -> Path:
        """``run.toml``: a copy of the settings for people; what counts is kept in the database."""
        return self.folder / "run.toml"

    @property
    def settings_text(self) -> str:
        """The settings and versions that the run was started with, as the text of a settings file.

        Raises:
            StoreError: there are none.
        """
        text = self.marked("settings")
        if text is not None:
            return text
        try:
            # A run of an earlier version kept them in the file only.
            return self.settings_file.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise StoreError(
                f"run {self.folder.name!r} was stopped as it began and holds no settings; the same command starts it again"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"{self.settings_file} cannot be read: {error}") from error

    def keep_settings(self, tables: Mapping[str, Any]) -> Path | None:
        """Keep settings and versions, and copy them to ``run.toml``.

        Returns:
            Where a ``run.toml`` that somebody has edited was moved to; None if it was as dsrl wrote it, or gone.
        """
        import tomli_w

        before, text = self.marked("settings"), tomli_w.dumps(dict(tables))
        with told(self.settings_file):
            there = self.settings_file.read_bytes() if self.settings_file.is_file() else None
        edited = None
        if before is not None and there is not None and there not in (before.encode(), text.encode()):
            edited = self.settings_file.with_name("run.toml.edited")
            with told(edited):
                os.replace(self.settings_file, edited)
        if there != text.encode():
            self.write_file("run.toml", text)
        if before != text:
            self.mark("settings", text)
        return edited

    def read_versions(self) -> dict[str, Any]:
        """Give the versions that the run was started with."""
        try:
            return dict(tomllib.loads(self.settings_text).get("versions", {}))
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{self.settings_file} cannot be read: {error}") from error

    def inputs(self) -> dict[str, str]:
        """Name of an input -> the digest that it had; empty if none was kept."""
        return {key.removeprefix("input-"): value for key, value in self._all(_INPUTS)}

    def keep_inputs(self, digests: Mapping[str, str], definition: Mapping[str, Any]) -> None:
        """Keep the digests of a run's inputs, and its task's definition whole."""
        rows = [(f"input-{name}", digest) for name, digest in digests.items()]
        with self._transaction() as database:
            database.execute("DELETE FROM run WHERE key GLOB 'input-*'")
            database.executemany("INSERT INTO run VALUES (?, ?)", rows)
            database.execute("INSERT OR REPLACE INTO run VALUES ('definition', ?)", (json.dumps(definition),))

    def definition(self) -> dict[str, Any] | None:
        """The task's definition and demonstrations that the run was made with; None where an earlier version made it."""
        text = self.marked("definition")
        return None if text is None else dict(json.loads(text))

    def reached(self, stage: str) -> bool:
        """Say whether this stage or a later one has left something in the run."""
        stages = list(_LEFT)
        return any(self._one(f"{_LEFT[later]} LIMIT 1") for later in stages[stages.index(stage) :])

    def write_file(self, name: str, text: str) -> None:
        """Write a file of the run's folder, whole or not at all."""
        path = self.folder / name
        with told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(path.name + ".part")
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)

    # --- the road ----------------------------------------------------------------------------------------------------

    def keywords(self, round: int) -> dict[str, list[str]]:
        """Domain -> keywords; empty if they are not found yet."""
        found: dict[str, list[str]] = {}
        for domain, keyword in self._all("SELECT domain, keyword FROM keywords WHERE round = ? ORDER BY rowid", round):
            found.setdefault(domain, []).append(keyword)
        return found

    def add_keywords(self, round: int, keywords: Mapping[str, Sequence[str]]) -> None:
        """Keep the keywords of every domain."""
        self._insert(
            "keywords", [(round, domain, i, word) for domain, words in keywords.items() for i, word in enumerate(words)]
        )

    def passages(self, round: int) -> dict[str, list[Passage]]:
        """Domain -> passages in the order in which slots take them."""
        found: dict[str, list[Passage]] = {}
        for domain, *passage in self._all(
            "SELECT domain, id, text, title FROM passages WHERE round = ? ORDER BY domain, number", round
        ):
            found.setdefault(domain, []).append(Passage(*passage))
        return found

    def add_passages(self, round: int, passages: Mapping[str, Sequence[Passage]]) -> None:
        """Keep the passages that samples will rest on; there may be none."""
        rows = [(round, d, i, p.id, p.title, p.text) for d, found in passages.items() for i, p in enumerate(found)]
        with self._transaction() as database:
            database.executemany("INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?)", rows)
            database.execute("INSERT INTO run VALUES (?, 'done')", (f"passages-{round}",))

    def has_passages(self, round: int) -> bool:
        """Say whether passages were searched for, found or not."""
        return self.marked(f"passages-{round}") is not None

    def pattern(self, round: int) -> str | None:
        """The pattern; None if it is not summarised yet."""
        row = self._one("SELECT text FROM patterns WHERE round = ?", round)
        return None if row is None else str(row[0])

    def add_pattern(self, round: int, text: str) -> None:
        """Keep the pattern; empty where there is none."""
        self._insert("patterns", [(round, text)])

    def samples(self, round: int, slots: range | None = None) -> list[Sample]:
        """Samples of a round with what verification made of them, in the order of slots."""
        within = range(2**62) if slots is None else slots
        rows = self._all(
            "SELECT s.id, s.round, s.slot, s.kind, s.input, s.output, v.label, coalesce(s.dropped, v.dropped), "
            "s.parent, s.passage FROM samples s LEFT JOIN verdicts v ON v.sample = s.id "
            "WHERE s.round = ? AND s.slot >= ? AND s.slot < ? ORDER BY s.slot, s.parent IS NOT NULL",
            round,
            within.start,
            within.stop,
        )
        return [_sample(row) for row in rows]

    def add_samples(self, samples: Iterable[Sample]) -> None:
        """Keep samples as written."""
        self._insert(
            "samples",
            [(s.id, s.round, s.slot, s.kind, s.input, s.output, s.dropped, s.parent, s.passage) for s in samples],
        )

    def add_verdicts(self, verdicts: Iterable[tuple[Sample, Sequence[Answer]]]) -> None:
        """Keep what verification made of samples (label or reason), with every vote; vote 0 is the sample's own."""
        verdicts = list(verdicts)
        with self._transaction() as database:
            database.executemany(
                "INSERT INTO verdicts VALUES (?, ?, ?)", [(s.id, s.label, s.dropped) for s, _ in verdicts]
            )
            database.executemany(
                "INSERT INTO votes VALUES (?, ?, ?)",
                [(s.id, i, _text(vote)) for s, votes in verdicts for i, vote in enumerate(votes)],
            )

    def greedy_attempts(self, round: int, slots: range | None = None) -> dict[str, bool]:
        """Sample id -> solved, of the greedy attempts made so far."""
        within = range(2**62) if slots is None else slots
        rows = self._all(
            "SELECT a.sample, a.solved FROM greedy_attempts a JOIN samples s ON s.id = a.sample "
            "WHERE s.round = ? AND s.slot >= ? AND s.slot < ?",
            round,
            within.start,
            within.stop,
        )
        return {sample: bool(solved) for sample, solved in rows}

    def add_greedy_attempts(self, attempts: Iterable[Attempt]) -> None:
        """Keep greedy attempts."""
        self._insert("greedy_attempts", [(a.sample, a.output, _text(a.answer), a.solved) for a in attempts])

    def scores(self, round: int, slots: range | None = None) -> dict[str, Score]:
        """Sample id -> score."""
        within = range(2**62) if slots is None else slots
        rows = self._all(
            "SELECT x.sample, x.attempts, x.passed, x.score FROM scores x JOIN samples s ON s.id = x.sample "
            "WHERE s.round = ? AND s.slot >= ? AND s.slot < ? ORDER BY s.slot, s.parent IS NOT NULL",
            round,
            within.start,
            within.stop,
        )
        return {row[0]: Score(*row) for row in rows}

    def add_scores(self, scored: Iterable[tuple[Score, Mapping[Answer, tuple[int, bool]]]]) -> None:
        """Keep scores with the distinct answers behind them: answer -> (times, whether right)."""
        scored = list(scored)
        with self._transaction() as database:
            database.executemany(
                "INSERT INTO scores VALUES (?, ?, ?, ?)", [(s.sample, s.attempts, s.passed, s.score) for s, _ in scored]
            )
            database.executemany(
                "INSERT INTO attempts VALUES (?, ?, ?, ?, ?)",
                [
                    (score.sample, number, _text(answer), times, passed)
                    for score, answers in scored
                    for number, (answer, (times, passed)) in enumerate(answers.items())
                ],
            )

    def selected(self, round: int) -> list[str]:
        """Ids of the training set, best first; empty if it is not chosen yet."""
        return [row[0] for row in self._all("SELECT sample FROM selected WHERE round = ? ORDER BY place", round)]

    def add_selected(self, round: int, samples: Sequence[str]) -> None:
        """Keep the training set, best first."""
        self._insert("selected", [(round, place, sample) for place, sample in enumerate(samples, 1)])

    def add_rewards(self, step: int, rewards: Mapping[str, float]) -> None:
        """Keep the mean reward of each sample of a training step."""
        with self._transaction() as database:
            database.executemany(
                "INSERT OR REPLACE INTO rewards VALUES (?, ?, ?)", [(s, step, r) for s, r in rewards.items()]
            )

    def items(self) -> list[tuple[int, str, str]]:
        """Test items as (number, input, label)."""
        return [cast("tuple[int, str, str]", row) for row in self._all("SELECT * FROM items ORDER BY number")]

    def replace_items(self, items: Sequence[tuple[str, str]]) -> None:
        """Keep the test set as (input, label); what the models answered to items that stay is kept."""
        with self._transaction() as database:
            answered = database.execute(
                "SELECT e.model, i.input, i.label, e.output, e.answer, e.correct "
                "FROM evaluations e JOIN items i ON i.number = e.item"
            ).fetchall()
            database.execute("DELETE FROM evaluations")
            database.execute("DELETE FROM items")
            database.executemany("INSERT INTO items VALUES (?, ?, ?)", [(n, *item) for n, item in enumerate(items)])
            by_item = {(model, input, label): rest for model, input, label, *rest in answered}
            database.executemany(
                "INSERT INTO evaluations VALUES (?, ?, ?, ?, ?)",
                [
                    (model, number, *by_item[model, *item])
                    for model in {key[0] for key in by_item}
                    for number, item in enumerate(items)
                    if (model, *item) in by_item
                ],
            )

    def evaluations(self, model: str) -> dict[int, bool]:
        """Item number -> right, of a model."""
        rows = self._all("SELECT item, correct FROM evaluations WHERE model = ? ORDER BY item", model)
        return {item: bool(correct) for item, correct in rows}

    def add_evaluations(self, evaluated: Iterable[Evaluated]) -> None:
        """Keep answers to test items."""
        self._insert("evaluations", [(e.model, e.item, e.output, _text(e.answer), e.correct) for e in evaluated])

    # --- what was seen on the way ------------------------------------------------------------------------------------

    def mark(self, key: str, value: str = "done") -> None:
        """Remember that something is finished."""
        with self._transaction() as database:
            database.execute("INSERT OR REPLACE INTO run VALUES (?, ?)", (key, value))

    def marked(self, key: str) -> str | None:
        """The value given to :meth:`mark`; None if it was not."""
        row = self._one("SELECT value FROM run WHERE key = ?", key)
        return None if row is None else str(row[0])

    @property
    def paid_calls(self) -> int:
        """How many calls the run has paid for at least; ``calls.db`` must have them."""
        return int(self.marked("paid_calls") or 0)

    def keep_paid_calls(self, count: int) -> None:
        """Remember that the run has paid for so many calls."""
        self.mark("paid_calls", str(count))

    def set_unpaid(self, round: int, unpaid: Mapping[str, int]) -> None:
        """Keep for how many rows of a stage there was no money; the last sitting counts."""
        self.mark(f"unpaid-{round}", json.dumps(dict(unpaid)))

    def unpaid(self, round: int | None = None) -> dict[str, int]:
        """Stage -> rows that there was no money for, of one round or of all."""
        rows = self._all(
            "SELECT value FROM run WHERE key GLOB 'unpaid-*' AND (?1 IS NULL OR key = 'unpaid-' || ?1)", round
        )
        counts: Counter[str] = Counter()
        for (value,) in rows:
            counts.update(json.loads(value))
        return dict(counts)

    def forget_training(self, round: int) -> None:
        """Take back the selection of a round and all that followed from it."""
        with self._transaction() as database:
            database.execute("DELETE FROM selected WHERE round = ?", (round,))
            database.execute("DELETE FROM rewards WHERE sample IN (SELECT id FROM samples WHERE round = ?)", (round,))
            database.execute("DELETE FROM evaluations WHERE model = 'trained'")
            keys = [(f"{key}-{round}",) for key in ("selected", "training", "trained")]
            database.executemany("DELETE FROM run WHERE key = ?", keys)

    def add_event(self, level: str, text: str) -> None:
        """Keep a note or warning for whoever looks at the run; the same one once."""
        with self._transaction() as database:
            database.execute(
                "INSERT INTO events SELECT ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM events WHERE text = ?)",
                (time.time(), level, text, text),
            )

    def events(self) -> list[tuple[float, str, str]]:
        """All notes and warnings as (Unix time, level, text)."""
        return [cast("tuple[float, str, str]", row) for row in self._all("SELECT * FROM events ORDER BY rowid")]

    def set_seconds(self, seconds: Mapping[str, float]) -> None:
        """Keep how long each stage was at work in this sitting."""
        sitting = int(self._value("sittings"))
        with self._transaction() as database:
            database.executemany(
                "INSERT OR REPLACE INTO seconds VALUES (?, ?, ?)", [(stage, sitting, s) for stage, s in seconds.items()]
            )

    def seconds(self) -> dict[str, float]:
        """Stage -> seconds at work, all sittings together."""
        return dict(self._all("SELECT stage, sum(seconds) FROM seconds GROUP BY stage"))

    def counts(self, sql: str, *values: Any) -> dict[str, int]:
        """Give the rows of a two-column query as a dict; for views of the run."""
        return dict(self._all(sql, *values))

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Give the rows of a query; for views of the run."""
        return self._all(sql, *values)

    # --- SQLite ------------------------------------------------------------------------------------------------------

    def _transaction(self) -> Any:
        return transaction(self._database, self._path)

    def _insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if not rows:
            return
        marks = ", ".join("?" * len(rows[0]))
        with self._transaction() as database:
            database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)

    def _all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with told(self._path):
            return self._database.execute(sql, values).fetchall()

    def _one(self, sql: str, *values: Any) -> Any:
        with told(self._path):
            return self._database.execute(sql, values).fetchone()


def run_folders(runs: Path) -> list[Path]:
    """Give the folders of the runs in ``runs``, those among them whose database is lost or cannot be read; none without it.

    Raises:
        StoreError: the folder cannot be read.
    """
    with told(runs, "read"):
        folders = sorted(folder for folder in runs.iterdir() if folder.is_dir()) if runs.exists() else []
    return [folder for folder in folders if _is_run(folder)]


def _is_run(folder: Path) -> bool:
    try:
        return any((folder / name).exists() for name in ("run.db", "run.toml"))
    except OSError:
        return True  # it cannot be looked into, which the user should learn


def _sample(row: Sequence[Any]) -> Sample:
    id, round, slot, kind, input, output, label, dropped, parent, passage = row
    return Sample(id, round, slot, cast(Kind, kind), input, output, label, dropped, parent, passage)


def _text(answer: Answer) -> str | None:
    return None if isinstance(answer, Unreadable) else answer


def _locked(folder: Path) -> IO[str]:
    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            owner = lock.read().strip() or "another process"
            lock.close()
            raise StoreError(
                f"run {folder.name!r} is being worked on by process {owner}; wait for it, or give another --name"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
    return lock
