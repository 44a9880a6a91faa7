from __future__ import annotations

from dsrl.storage.run_store import RunStore
from dsrl.types import Sample

INITIAL = Sample("1-00000", 1, 0, "initial", "1 + 1?", "2", passage="p1")


def test_iterations_are_kept_apart(store: RunStore) -> None:
    store.add_keywords(1, {"a": ["a"]})
    store.add_keywords(2, {"b": ["b"]})
    store.add_samples([INITIAL, Sample("2-00000", 2, 0, "initial", "x", "y")])
    assert store.keywords(2) == {"b": ["b"]}
    assert [sample.id for sample in store.samples(2)] == ["2-00000"]
    assert store.pattern(2) is None
