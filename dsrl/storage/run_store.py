"""A run's folder and database: everything that a run has made; each row is written once.

A later stage reads everything it needs from here, so a run that was killed continues with what is missing. The rows are
linked by foreign keys: a sample has votes, a parent, attempts, a score, a place in the training set, and rewards.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypedDict

from dsrl.errors import SettingsError, StoreError
from dsrl.storage import attempts, evaluations, listing, matches, run_record, samples, sources, stages
from dsrl.storage.files import ProcessLock, replace_file
from dsrl.storage.sqlite import Schema, connect, connect_to_read, exists, store_errors
from dsrl.toml_files import parse_toml

_TABLES = ";".join(module.TABLES for module in (run_record, sources, samples, attempts, evaluations, matches, stages))
_RENAMED = ("keywords", "passages", "patterns", "samples", "selected")
#: Format 1 had a column ``round``, and marks in the table ``run`` in place of the table ``stages``. Format 2 had no table
#: ``dev_items``, and no topics of events. Format 3 had one task, no domains of samples
#: and test items, and no table ``matches``.
_MIGRATIONS = {
    1: ";".join(f"ALTER TABLE {table} RENAME COLUMN round TO iteration" for table in _RENAMED)
    + ";"
    + stages.FROM_MARKS,
    2: run_record.ADD_TOPICS + attempts.DEV_TABLE,
    3: ";".join(module.ADD_TASKS for module in (samples, sources, attempts, evaluations)) + ";" + matches.TABLES,
}
SCHEMA = Schema(4, _TABLES, _MIGRATIONS)


class SampleCounts(TypedDict):
    """How many samples went where. The numbers add up:

    ``initial`` less those dropped is ``verified``; ``verified`` is ``solved`` and ``unsolved``; ``harder`` and ``easier``
    are these less those dropped after rewriting; ``scored`` is ``verified``, ``harder`` and ``easier``. ``held_out`` are
    those of the scored ones that the training was evaluated on, and that could not be selected. ``budget`` in ``dropped``
    counts the rows that the budget did not pay for, also those that were not even written.

    ``contaminated`` are the samples that copy a test item. Those that were recognised when they were written are also
    counted in ``dropped``; the others, and the ``duplicates`` of other samples, have a score but cannot be selected.
    """

    initial: int
    verified: int
    solved: int
    unsolved: int
    harder: int
    easier: int
    scored: int
    contaminated: int
    duplicates: int
    held_out: int
    selected: int
    dropped: dict[str, int]


class RunStore(
    run_record.RunRecord,
    sources.SourceTables,
    samples.SampleTables,
    attempts.AttemptTables,
    evaluations.EvaluationTables,
    matches.MatchTables,
    listing.ListingTables,
):
    """The folder and database of one run.

    A store that is opened for work holds a lock, so that no two processes work on one run. One that is opened to read
    takes no lock and writes nothing.

    Args:
        folder: ``runs/<name>``; made if it is missing and ``work`` is true.
        work: take the lock and allow writing.

    Attributes:
        stages: how far the run is.

    Raises:
        StoreError: there is no such run; another process works on it; the disk is full or permission is missing; the
            database is damaged.
    """

    def __init__(self, folder: Path, work: bool = True) -> None:
        self.folder = folder
        path = folder / "run.db"
        self._lock: ProcessLock | None = None
        if not work and not exists(path) and not exists(self.settings_file):
            raise StoreError(f"there is no run {folder.name!r} in {folder.parent}; {_suggest_run(folder)}")
        if work:
            self._lock = lock_run(folder)
        try:
            if not exists(path) and exists(self.settings_file):
                raise StoreError(
                    f"{path} is missing, and with it everything that run {folder.name!r} has made. Put a copy of it back, "
                    "or move the folder away, or give another --name; both start a new run with a new budget"
                )
            database = connect(path, SCHEMA, durable=False) if work else connect_to_read(path, SCHEMA)
            super().__init__(database, path)
            self.stages = stages.Stages(database, path)
            if work:
                self._start_sitting()
        except BaseException:
            if self._lock is not None:
                self._lock.release()
            raise

    def close(self) -> None:
        """Close the database and release the lock."""
        self._database.close()
        if self._lock is not None:
            self._lock.release()

    # --- settings and files ------------------------------------------------------------------------------------------

    @property
    def settings_file(self) -> Path:
        """``run.toml``: a copy of the settings for people; the settings in the database are those that count."""
        return self.folder / "run.toml"

    @property
    def settings_source(self) -> Path:
        """The file that :attr:`settings_text` is read from, for error messages."""
        return self._path if self._read_value("settings") is not None else self.settings_file

    @property
    def settings_text(self) -> str:
        """The settings and versions that the run was started with, as the text of a settings file.

        Raises:
            StoreError: the run holds no settings, or they cannot be read.
        """
        text = self._read_value("settings")
        if text is not None:
            return text
        try:
            # Earlier versions of dsrl stored the settings in the file only.
            return self.settings_file.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise StoreError(
                f"run {self.folder.name!r} was stopped while it was created and holds no settings; the same command starts "
                "it again"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"{self.settings_file} cannot be read: {error}") from error

    def keep_settings(self, tables: Mapping[str, Any]) -> Path | None:
        """Store the settings and versions, and copy them to ``run.toml``.

        Returns:
            Where an edited ``run.toml`` was moved to; None if it was as dsrl wrote it, or missing.
        """
        import tomli_w

        before, text = self._read_value("settings"), tomli_w.dumps(dict(tables))
        with store_errors(self.settings_file):
            present = self.settings_file.read_bytes() if self.settings_file.is_file() else None
        edited = None
        if before is not None and present is not None and present not in (before.encode(), text.encode()):
            edited = self.settings_file.with_name("run.toml.edited")
            with store_errors(edited):
                os.replace(self.settings_file, edited)
        if present != text.encode():
            replace_file(self.settings_file, text.encode())
        if before != text:
            self._set_value("settings", text)
        return edited

    def read_table(self, name: str) -> dict[str, Any]:
        """Return an informative table that is stored with the settings, e.g. ``versions``; empty if there is none.

        Raises:
            SettingsError: the settings cannot be read.
            StoreError: the run holds no settings.
        """
        return dict(parse_toml(self.settings_text, str(self.settings_file)).get(name, {}))

    def read_task_name(self) -> str | None:
        """Return the name of the task of a run of one task; None if the run holds no settings."""
        try:
            table = self.read_table("task")
        except (StoreError, SettingsError):
            return None
        name = table.get("task") or table.get("name")  # the name of the key in version 0.1
        return (
            re.sub(r"^(\.\.?/)+", "", name) if isinstance(name, str) else name
        )  # a path is that from the run's folder

    # --- several tables ----------------------------------------------------------------------------------------------

    def forget_training(self, iteration: int) -> None:
        """Remove the training set of an iteration and everything that followed from it."""
        with self._transaction() as database:
            self._forget_selected(database, iteration)
            self._forget_set_aside(database, iteration)
            self._forget_trained(database)
            self._forget_events(database, iteration, ("selected", "trained"))

    def forget_trained(self, iteration: int) -> None:
        """Remove what followed from the training of an iteration; its training set stays."""
        with self._transaction() as database:
            self._forget_rewards(database, iteration)
            self._forget_trained(database)
            self._forget_events(database, iteration, ("trained",))

    def forget_samples(self, sample_ids: Iterable[str]) -> None:
        """Remove samples, with those that were rewritten from them. The training set must be forgotten before."""
        ids = json.dumps(list(sample_ids))
        with self._transaction() as database:
            _forget_rewritten(database, ids)
            _forget_rows(database, ids, ("greedy_attempts", "attempts", "scores", "votes", "verdicts", "matches"))
            database.execute("DELETE FROM samples WHERE id IN (SELECT value FROM json_each(?))", (ids,))

    def forget_labels(self, sample_ids: Iterable[str]) -> None:
        """Remove the labels of samples and what followed from them. The training set must be forgotten before."""
        ids = json.dumps(list(sample_ids))
        with self._transaction() as database:
            _forget_rewritten(database, ids)
            _forget_rows(database, ids, ("greedy_attempts", "attempts", "scores", "votes", "verdicts"))

    def copy_to(self, folder: Path, origin: str) -> None:
        """Copy the database to another folder as that of a new run, which has spent nothing yet.

        Args:
            folder: it is made, and holds no run.
            origin: a text that says what was copied; :attr:`origin` of the copy.

        Raises:
            StoreError: the folder cannot be written.
        """
        path = folder / "run.db"
        with store_errors(path):
            folder.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(path)) as copy:
                self._database.backup(copy)
                with copy:
                    copy.execute("DELETE FROM run WHERE key IN ('id', 'created', 'sittings', 'paid_calls', 'forecast')")
                    copy.execute("INSERT OR REPLACE INTO run VALUES ('origin', ?)", (origin,))
                    copy.execute("DELETE FROM seconds")
                    copy.execute("DELETE FROM events")

    @property
    def origin(self) -> str | None:
        """What this run is a copy of; None if it is no copy."""
        return self._read_value("origin")

    def count_by_part(self) -> dict[tuple[str, str], dict[str, int]]:
        """Count the samples of each (task, domain), over all iterations, in the order in which the slots use them.

        The counts are ``initial`` (written first), ``verified`` (with a label, rewritten ones too), ``scored`` and
        ``selected``.
        """
        rows = self._read(
            "SELECT s.task, s.domain, count(*) FILTER (WHERE s.parent IS NULL), count(v.label), count(x.sample), "
            "count(p.sample) FROM samples s LEFT JOIN verdicts v ON v.sample = s.id LEFT JOIN scores x ON x.sample = s.id "
            "LEFT JOIN selected p ON p.sample = s.id GROUP BY s.task, s.domain ORDER BY min(s.slot), 1, 2"
        )
        names = ("initial", "verified", "scored", "selected")
        return {(task, domain): dict(zip(names, counts, strict=True)) for task, domain, *counts in rows}

    def count_samples(self, iteration: int | None = None) -> SampleCounts:
        """Count where the samples of one iteration or (None) of all iterations went."""
        written, labelled = self.count_written(iteration), self.count_labelled(iteration)
        solved, dropped = self.count_solved(iteration), self.count_dropped(iteration)
        set_aside = self.count_matches(iteration)
        unpaid = sum(self.stages.count_unpaid(iteration).values())
        if unpaid:
            dropped["budget"] = unpaid
        return SampleCounts(
            initial=written.get("initial", 0),
            verified=labelled.get("initial", 0),
            solved=solved.get(True, 0),
            unsolved=solved.get(False, 0),
            harder=labelled.get("harder", 0),
            easier=labelled.get("easier", 0),
            scored=self.count_scored(iteration),
            contaminated=set_aside.get("contaminated", 0),
            duplicates=set_aside.get("duplicate", 0),
            held_out=self.count_held_out(iteration),
            selected=self.count_selected(iteration),
            dropped=dropped,
        )


def _forget_rewritten(database: sqlite3.Connection, parents: str) -> None:
    """Remove the samples that were rewritten from others; ``parents`` is a JSON list of ids."""
    sql = "SELECT id FROM samples WHERE parent IN (SELECT value FROM json_each(?))"
    ids = json.dumps([row[0] for row in database.execute(sql, (parents,))])
    _forget_rows(database, ids, ("greedy_attempts", "attempts", "scores", "votes", "verdicts", "matches"))
    database.execute("DELETE FROM samples WHERE id IN (SELECT value FROM json_each(?))", (ids,))


def _forget_rows(database: sqlite3.Connection, ids: str, tables: Sequence[str]) -> None:
    """Remove the rows of samples; ``ids`` is a JSON list."""
    for table in tables:
        database.execute(f"DELETE FROM {table} WHERE sample IN (SELECT value FROM json_each(?))", (ids,))


def _suggest_run(folder: Path) -> str:
    near = get_close_matches(folder.name, [run.name for run in run_folders(folder.parent)], n=1)
    return f"did you mean {near[0]!r}?" if near else "`dsrl runs` lists the runs"


def run_folders(runs: Path) -> list[Path]:
    """Return the folders of all runs in ``runs``, also those whose database is missing or cannot be read.

    Raises:
        StoreError: the folder cannot be read.
    """
    with store_errors(runs, "read"):
        folders = sorted(folder for folder in runs.iterdir() if folder.is_dir()) if runs.exists() else []
    return [folder for folder in folders if _is_run(folder)]


def _is_run(folder: Path) -> bool:
    try:
        return any((folder / name).exists() for name in ("run.db", "run.toml"))
    except OSError:
        return True  # the folder cannot be read; opening it will tell the user so


def lock_run(folder: Path, advice: str = "wait for it, or give another --name") -> ProcessLock:
    """Lock the folder of a run, which is made if it is not there, for this process.

    Args:
        folder: the folder of the run.
        advice: what the user can do if another process works on the run.

    Raises:
        StoreError: another process works on the run, or the folder cannot be made.
    """
    with store_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = ProcessLock(folder / ".lock")
        if not lock.acquire(wait=False):
            raise StoreError(f"run {folder.name!r} is being worked on by {lock.read_owner()}; {advice}")
    return lock
