from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dsrl.storage import STAGES
from dsrl.storage.attempts import Attempt, DevItem
from dsrl.storage.evaluations import EvalItem, Evaluation
from dsrl.storage.run_store import SCHEMA, RunStore
from dsrl.storage.sqlite import connect
from dsrl.storage.stages import WHOLE_RUN
from dsrl.types import Sample, Score

#: A run of two iterations in format 1: the first is trained, the second is stopped in the middle of its training.
FORMAT_1 = Path(__file__).parent / "data" / "run-format-1.sql"
#: A run of two domains in format 3, with test items and development items.
FORMAT_3 = Path(__file__).parent / "data" / "run-format-3.sql"
SAMPLE = Sample("1-00000", 1, 0, "initial", "q", "o")


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    folder = tmp_path / "old"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "run.db")) as database:
        database.executescript(FORMAT_1.read_text())
    return folder


def states(store: RunStore) -> dict[tuple[int, str], tuple[str, str | None]]:
    sql = "SELECT iteration, stage, state, basis FROM stages WHERE state <> 'pending'"
    return {(row[0], row[1]): (row[2], row[3]) for row in store._database.execute(sql)}


def test_a_stage_is_pending_then_started_then_finished(store: RunStore) -> None:
    stages = store.stages
    assert (stages.get_state(1, "trained"), stages.get_basis(1, "trained")) == ("pending", None)
    stages.begin(1, "trained", "output: ")
    assert (stages.get_state(1, "trained"), stages.get_basis(1, "trained")) == ("started", "output: ")
    assert not stages.is_finished(1, "trained")
    stages.finish(1, "trained")
    assert stages.is_finished(1, "trained")
    assert stages.get_basis(1, "trained") == "output: ", "a basis that is left out stays"
    assert stages.get_state(2, "trained") == "pending", "iterations are kept apart"


def test_results_and_states_come_together(store: RunStore) -> None:
    store.add_keywords(1, {"": {"d": ["k"]}})
    store.add_passages(1, {})
    store.add_patterns(1, {("", ""): ""})
    store.add_samples([SAMPLE])
    store.add_verdicts([(SAMPLE, ["a"])])
    store.add_greedy_attempts([Attempt("1-00000", "o", "a", True)])
    store.add_samples([Sample("1-00000h", 1, 0, "harder", "q", "o", parent="1-00000")])
    store.add_scores([(Score("1-00000", 1, 0, 1.0), {})])
    store.add_selected(1, ["1-00000"], pool=1)
    store.replace_items([EvalItem("q", "a")])
    assert store.stages.get_state(WHOLE_RUN, "evaluated") == "pending"
    store.add_evaluations([Evaluation("base", 0, "o", "a", True)])
    finished = {(1, stage): ("finished", None) for stage in ("keywords", "passages", "pattern")}
    started = {(1, stage): ("started", None) for stage in ("initial", "verified", "attempted", "adapted", "scored")}
    assert states(store) == {
        **finished,
        **started,
        (1, "selected"): ("finished", "1"),
        (WHOLE_RUN, "evaluated"): ("started", None),
    }


def test_more_results_start_a_finished_stage_again(store: RunStore) -> None:
    store.add_samples([SAMPLE])
    store.stages.finish(1, "initial")
    store.add_samples([Sample("1-00001", 1, 1, "initial", "q", "o")])
    assert store.stages.get_state(1, "initial") == "started"


def test_a_state_is_not_recorded_when_its_results_are_not(store: RunStore) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        store.add_samples([Sample("1-00000h", 1, 0, "harder", "q", "o", parent="1-00000")])
    assert states(store) == {}


def test_a_forgotten_training_is_pending(store: RunStore) -> None:
    store.add_samples([SAMPLE])
    store.add_selected(1, ["1-00000"], pool=1)
    store.stages.finish(1, "trained", "output: ")
    store.replace_items([EvalItem("q", "a")])
    store.add_evaluations([Evaluation(model, 0, "o", "a", True) for model in ("base", "trained")])
    store.stages.finish(WHOLE_RUN, "evaluated")
    store.forget_training(1)
    assert states(store) == {(1, "initial"): ("started", None), (WHOLE_RUN, "evaluated"): ("started", None)}
    store.replace_items([EvalItem("other", "a")])
    assert store.stages.get_state(WHOLE_RUN, "evaluated") == "pending", "nothing is left of it"


def test_unpaid_rows_are_those_of_the_last_sitting(store: RunStore) -> None:
    store.stages.set_unpaid(1, {"verified": 2, "initial": 3})
    store.stages.set_unpaid(2, {"initial": 1})
    assert store.stages.count_unpaid() == {"initial": 4, "verified": 2}
    assert store.stages.count_unpaid(1) == {"initial": 3, "verified": 2}
    assert not store.stages.has_reached("keywords"), "what was not paid for has not started"
    store.add_samples([SAMPLE])
    assert store.stages.count_unpaid(1) == {"initial": 3, "verified": 2}
    store.stages.set_unpaid(1, {})
    assert store.stages.count_unpaid() == {"initial": 1}


@pytest.mark.parametrize("work", [True, False])
def test_the_marks_of_an_earlier_format_become_states(old_run: Path, work: bool) -> None:
    store = RunStore(old_run, work)
    states_of_first = {stage: states(store)[1, stage] for stage in ("passages", "selected", "trained")}
    assert states_of_first == {
        "passages": ("finished", None),
        "selected": ("finished", "2"),
        "trained": ("finished", "output: "),
    }
    assert states(store)[2, "selected"] == ("started", None), "it was stopped before it was marked"
    assert states(store)[2, "trained"] == ("started", "output: /models/mine")
    assert {stage: state for (iteration, stage), (state, _) in states(store).items() if iteration != 1} == {
        "keywords": "finished",
        "passages": "finished",
        "pattern": "finished",
        "initial": "started",
        "verified": "started",
        "selected": "started",
        "trained": "started",
        "evaluated": "started",
    }
    assert store.stages.count_unpaid(2) == {"initial": 3, "adapted": 1}
    assert store.stages.count_unpaid(1) == {}
    assert (store.id, store.paid_calls, store.settings_text) == ("aa", 7, "x = 1")
    assert [sample.id for sample in store.samples(1)] == ["1-00000", "1-00000h"]
    assert store.keywords(2) == {"": {"d": ["k2"]}}
    keys = {key for (key,) in store._database.execute("SELECT key FROM run")}
    assert keys == {"id", "created", "sittings", "settings", "paid_calls", "input-demos"}
    store.close()


def test_a_migrated_run_is_built_as_a_new_one(old_run: Path, tmp_path: Path) -> None:
    def columns(database: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'index') ORDER BY name")
        return {name: database.execute(f"PRAGMA table_xinfo('{name}')").fetchall() for (name,) in tables}

    with (
        closing(connect(old_run / "run.db", SCHEMA, durable=False)) as old,
        closing(connect(tmp_path / "new.db", SCHEMA, durable=False)) as new,
    ):
        assert columns(old) == columns(new)
        assert old.execute("PRAGMA foreign_key_check").fetchall() == []
        assert old.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_stage_is_reached_if_it_or_a_later_one_has_started(store: RunStore) -> None:
    assert not any(map(store.stages.has_reached, STAGES))
    store.add_keywords(1, {"": {"d": ["k"]}})
    assert [stage for stage in STAGES if store.stages.has_reached(stage)] == ["keywords"]
    store.stages.begin(1, "trained")
    assert [stage for stage in STAGES if not store.stages.has_reached(stage)] == ["evaluated"]


def test_a_run_of_format_2_is_migrated(tmp_path: Path) -> None:
    """Format 2 had neither development items nor topics of events."""
    folder = tmp_path / "old"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "run.db")) as database:
        database.executescript(FORMAT_3.read_text())
        database.executescript("DROP TABLE dev_items; ALTER TABLE events DROP COLUMN topic; PRAGMA user_version=2")
        database.execute("INSERT INTO events VALUES (1.0, 'note', 'old')")
        database.commit()
    for work in (False, True):
        store = RunStore(folder, work)
        assert store.dev_items(1) == []
        assert store.events() == [(1.0, "note", "old")]
        store.close()
    store = RunStore(folder)
    assert store.add_event("warning", "new", "trained-1:drift")
    store.close()


@pytest.mark.parametrize("work", [True, False])
def test_a_run_of_format_3_is_migrated_to_one_task(tmp_path: Path, work: bool) -> None:
    """Format 3 had one task. Its samples did not say their domain: the slots took the domains in turn."""
    folder = tmp_path / "old"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "run.db")) as database:
        database.executescript(FORMAT_3.read_text())
    store = RunStore(folder, work)
    assert store.keywords(1) == {"": {"surgery": ["surgery", "knife"], "medicine": ["medicine"]}}
    assert [passage.id for passage in store.passages(1)[""]["surgery"]] == ["p2", "p1"]
    assert store.pattern(1) == store.pattern(1, domain="medicine") == "short"
    domains = {sample.id: (sample.task, sample.domain) for sample in (*store.samples(1), *store.samples(2))}
    assert domains == {
        "1-0": ("", "surgery"),
        "1-1": ("", "medicine"),
        "1-1h": ("", "medicine"),
        "1-2": ("", "surgery"),
        "2-0": ("", ""),
    }
    assert store.dev_items(1) == [DevItem(None, "real", "a"), DevItem("1-1h", "q", "a")]
    assert store.items() == [EvalItem("i0", "a"), EvalItem("i1", "b")]
    assert store.evaluations("base") == {1: True}
    store.close()


def test_a_migrated_run_of_format_3_is_built_as_a_new_one(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "old.db")) as database:
        database.executescript("PRAGMA journal_mode=WAL;" + FORMAT_3.read_text())
    tables = "SELECT name, type FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
    columns = "SELECT m.name, c.* FROM sqlite_master m, pragma_table_xinfo(m.name) c ORDER BY m.name, c.cid"
    with (
        closing(connect(tmp_path / "old.db", SCHEMA, durable=False)) as old,
        closing(connect(tmp_path / "new.db", SCHEMA, durable=False)) as new,
    ):
        for sql in (tables, columns):
            assert old.execute(sql).fetchall() == new.execute(sql).fetchall()
        assert old.execute("PRAGMA foreign_key_check").fetchall() == []
