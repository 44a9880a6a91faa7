from __future__ import annotations

from dsrl.storage.attempts import Attempt
from dsrl.storage.run_store import RunStore
from dsrl.types import UNREADABLE, Sample, Score

INITIAL = Sample("1-00000", 1, 0, "initial", "1 + 1?", "2", passage="p1")
HARDER = Sample("1-00000h", 1, 0, "harder", "1 + 1 + 1?", "3", parent="1-00000", passage="p1")


def query(store: RunStore, sql: str) -> list[tuple[object, ...]]:
    """Return the rows of a query, for tables that no method reads whole."""
    return store._database.execute(sql).fetchall()


def test_scores_are_kept_with_the_answers_behind_them(store: RunStore) -> None:
    store.add_samples([INITIAL, HARDER])
    scores = [Score("1-00000", 4, 3, 0.75), Score("1-00000h", 4, 0, 1.0)]
    store.add_scores([(scores[0], {"2": (3, True), UNREADABLE: (1, False)}), (scores[1], {})])
    assert store.scores(1) == {"1-00000": scores[0], "1-00000h": scores[1]}
    rows = query(store, "SELECT answer, times, passed FROM attempts WHERE sample = '1-00000' ORDER BY number")
    assert rows == [("2", 3, 1), (None, 1, 0)]


def test_slots_can_be_read_in_part(store: RunStore) -> None:
    store.add_samples([Sample(f"1-{slot:05d}", 1, slot, "initial", "q", "o") for slot in range(5)])
    assert [sample.slot for sample in store.samples(1, range(1, 3))] == [1, 2]
    assert store.samples(1, range(3, 3)) == []
    store.add_greedy_attempts([Attempt(f"1-{slot:05d}", "o", "a", False) for slot in range(5)])
    assert list(store.greedy_attempts(1, range(4, 9))) == ["1-00004"]
    store.add_scores([(Score(f"1-{slot:05d}", 1, 0, 1.0), {}) for slot in range(5)])
    assert list(store.scores(1, range(2))) == ["1-00000", "1-00001"]


def test_rewards_of_a_step_that_is_trained_again_are_replaced(store: RunStore) -> None:
    store.add_samples([INITIAL])
    store.add_rewards(1, {"1-00000": 0.1})
    store.add_rewards(1, {"1-00000": 0.5})
    assert query(store, "SELECT step, reward FROM rewards") == [(1, 0.5)]
