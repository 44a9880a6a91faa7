from __future__ import annotations

from dsrl.storage.evaluations import EvalItem, Evaluation
from dsrl.storage.run_store import RunStore


def test_answers_to_items_that_stay_are_kept(store: RunStore) -> None:
    store.replace_items([EvalItem("q", "a"), EvalItem("r", "b"), EvalItem("s", "c")])
    store.add_evaluations([Evaluation("base", 0, "x", "a", True), Evaluation("base", 1, "y", "a", False)])
    store.add_evaluations([Evaluation("trained", 2, "z", "c", True)])
    texts = [("new", "a"), ("s", "c"), ("r", "b"), ("q", "other"), ("s", "c")]
    store.replace_items([EvalItem(*item) for item in texts])
    assert store.items()[0] == EvalItem("new", "a")
    assert store.evaluations("base") == {2: False}
    assert store.evaluations("trained") == {1: True, 4: True}
