from __future__ import annotations

from dsrl.storage.evaluations import Evaluation
from dsrl.storage.run_store import RunStore


def test_answers_to_items_that_stay_are_kept(store: RunStore) -> None:
    store.replace_items([("q", "a"), ("r", "b"), ("s", "c")])
    store.add_evaluations([Evaluation("base", 0, "x", "a", True), Evaluation("base", 1, "y", "a", False)])
    store.add_evaluations([Evaluation("trained", 2, "z", "c", True)])
    store.replace_items([("new", "a"), ("s", "c"), ("r", "b"), ("q", "other"), ("s", "c")])
    assert store.items()[0] == (0, "new", "a")
    assert store.evaluations("base") == {2: False}
    assert store.evaluations("trained") == {1: True, 4: True}
