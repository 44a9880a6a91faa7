from __future__ import annotations

from dsrl.storage.matches import CONTAMINATED, Match
from dsrl.storage.run_store import RunStore
from dsrl.types import Sample

EARLY = Match("1-00000", "contaminated", "exact", "a span", item=3, item_input="x" * 1000)
LATE = Match("1-00001", "contaminated", "13-gram", "a span", item=0, item_input="y")
DUPLICATE = Match("1-00002", "duplicate", "near", "a span", 0.9, other="1-00001")
TRAINED = Match("1-00003", "trained", "exact", "a span", item=5, item_input="z")


def fill(store: RunStore) -> None:
    samples = [Sample(f"1-0000{i}", 1, i, "initial", "q", "o") for i in range(4)]
    samples[0] = Sample("1-00000", 1, 0, "initial", "q", "o", dropped=CONTAMINATED)
    store.add_samples(samples, [EARLY])
    store.add_selected(1, ["1-00003"], pool=3, set_aside=[DUPLICATE, LATE])


def test_matches_are_listed_in_the_order_of_the_samples(store: RunStore) -> None:
    fill(store)
    early, *others = store.list_matches()
    assert (early.sample, early.item, early.item_input) == ("1-00000", 3, "x" * 200)
    assert others == [LATE, DUPLICATE]
    assert store.list_matches(sample="1-00002") == [DUPLICATE]
    assert store.list_matches(iteration=2) == []
    assert store.count_matches() == store.count_matches(1) == {"contaminated": 2, "duplicate": 1}
    counts = store.count_samples()
    assert (counts["contaminated"], counts["duplicates"], counts["dropped"]) == (2, 1, {CONTAMINATED: 1})


def test_a_forgotten_selection_keeps_only_what_was_dropped_when_it_was_written(store: RunStore) -> None:
    fill(store)
    store.replace_trained_matches([TRAINED], "state")
    store.forget_training(1)
    assert [match.sample for match in store.list_matches()] == ["1-00000"]
    assert store.compared_training is None


def test_matches_of_the_training_are_replaced(store: RunStore) -> None:
    fill(store)
    assert store.compared_training is None
    store.replace_trained_matches([TRAINED], "first")
    assert (store.list_trained_items(), store.compared_training) == ({5}, "first")
    store.replace_trained_matches([], "second")
    assert (store.list_trained_items(), store.compared_training) == (set(), "second")
    assert len(store.list_matches()) == 3
