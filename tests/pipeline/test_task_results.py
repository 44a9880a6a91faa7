"""Results of tasks and domains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dsrl.pipeline.stages.evaluated import compute_gain
from dsrl.pipeline.task_results import compute_accuracies, list_parts
from dsrl.storage.evaluations import EvalItem, Evaluation
from dsrl.storage.run_store import RunStore
from dsrl.types import Sample, Score

TASKS = ("gsm8k", "math")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    store = RunStore(tmp_path / "trial")
    yield store
    store.close()


def evaluate(store: RunStore, items: list[EvalItem], base: list[bool], trained: list[bool]) -> None:
    store.replace_items(items)
    for model, answers in (("base", base), ("trained", trained)):
        store.add_evaluations([Evaluation(model, number, "o", "a", right) for number, right in enumerate(answers)])


def test_accuracy_is_known_when_all_items_are_answered(store: RunStore) -> None:
    assert compute_accuracies(store, ("mednli",)).base is None
    store.replace_items([EvalItem(f"q{number}", "a") for number in range(4)])
    store.add_evaluations([Evaluation("base", number, "o", "a", number == 0) for number in range(3)])
    assert compute_accuracies(store, ("mednli",)).base is None
    store.add_evaluations([Evaluation("base", 3, "o", "a", True)])
    accuracies = compute_accuracies(store, ("mednli",))
    assert (accuracies.base, accuracies.trained, accuracies.gain_ci95) == (0.5, None, None)


def test_the_accuracy_of_several_tasks_is_the_mean_over_the_tasks(store: RunStore) -> None:
    """A task with few test items counts as much as one with many."""
    items = [EvalItem(f"q{n}", "a", "gsm8k") for n in range(8)] + [EvalItem(f"r{n}", "a", "math") for n in range(2)]
    evaluate(store, items, [False] * 8 + [True] * 2, [True] * 4 + [False] * 4 + [True] * 2)
    accuracies = compute_accuracies(store, TASKS)
    assert (accuracies.base, accuracies.trained) == (0.5, 0.75)
    assert accuracies.gain_ci95 is not None
    low, high = accuracies.gain_ci95
    assert -1 <= low < 0.25 < high <= 1
    gsm8k, math = list_parts(store, TASKS)
    assert (gsm8k.task, gsm8k.n_test, gsm8k.base_accuracy, gsm8k.trained_accuracy) == ("gsm8k", 8, 0.0, 0.5)
    assert (math.task, math.n_test, math.base_accuracy, math.trained_accuracy) == ("math", 2, 1.0, 1.0)
    expected = compute_gain(dict.fromkeys(range(8), False), {n: n < 4 for n in range(8)})[1]
    assert gsm8k.gain_ci95 == pytest.approx(expected, abs=1e-4)


def test_one_task_without_domains_has_no_parts(store: RunStore) -> None:
    store.add_samples([Sample("1-0", 1, 0, "initial", "q", "o", domain="medicine")])
    evaluate(store, [EvalItem("q", "a")], [True], [True])
    assert list_parts(store, ("mednli",)) == []


def test_each_domain_has_its_samples_and_its_accuracy(store: RunStore) -> None:
    domains = ("geometry", "algebra")
    samples = [Sample(f"1-{n}", 1, n, "initial", "q", "o", domain=domains[n % 2]) for n in range(3)]
    store.add_samples(samples)
    store.add_verdicts([(Sample("1-0", 1, 0, "initial", "q", "o", "a"), ["a"])])
    store.add_scores([(Score("1-0", 4, 1, 0.25), {"a": (4, True)})])
    store.add_selected(1, ["1-0"])
    items = [EvalItem("p", "a", "", "algebra"), EvalItem("q", "a", "", "logic"), EvalItem("r", "a")]
    evaluate(store, items, [True, False, False], [True, True, False])
    parts = list_parts(store, ("math",))
    assert [(p.domain, p.initial, p.verified, p.scored, p.selected, p.n_test) for p in parts] == [
        ("geometry", 2, 1, 1, 1, 0),
        ("algebra", 1, 0, 0, 0, 1),
        ("logic", 0, 0, 0, 0, 1),
    ]
    assert [(p.base_accuracy, p.trained_accuracy) for p in parts] == [(None, None), (1.0, 1.0), (0.0, 1.0)]
