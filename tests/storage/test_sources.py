from __future__ import annotations

from dsrl.storage.run_store import RunStore
from dsrl.types import Passage, Sample

INITIAL = Sample("1-00000", 1, 0, "initial", "1 + 1?", "2", passage="p1")


def test_iterations_are_kept_apart(store: RunStore) -> None:
    store.add_keywords(1, {"": {"a": ["a"]}})
    store.add_keywords(2, {"": {"b": ["b"]}})
    store.add_samples([INITIAL, Sample("2-00000", 2, 0, "initial", "x", "y")])
    assert store.keywords(2) == {"": {"b": ["b"]}}
    assert [sample.id for sample in store.samples(2)] == ["2-00000"]
    assert store.pattern(2) is None


def test_tasks_are_kept_apart(store: RunStore) -> None:
    keywords = {"math": {"algebra": ["algebra"], "geometry": ["geometry"]}, "gsm8k": {"algebra": ["sums"]}}
    store.add_keywords(1, keywords)
    assert store.keywords(1) == keywords
    passages = {task: {"algebra": [Passage(task, "text")]} for task in keywords}
    store.add_passages(1, passages)
    assert store.passages(1) == passages


def test_a_domain_without_a_pattern_has_that_of_its_task(store: RunStore) -> None:
    store.add_patterns(1, {("math", ""): "all", ("math", "algebra"): "equations", ("gsm8k", ""): ""})
    assert store.pattern(1, "math", "algebra") == "equations"
    assert store.pattern(1, "math", "geometry") == store.pattern(1, "math") == "all"
    assert store.pattern(1, "gsm8k", "algebra") == ""
    assert store.pattern(2, "math") is None
