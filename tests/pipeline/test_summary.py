from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dsrl.pipeline.stages.evaluated import compute_gain
from dsrl.pipeline.summary import load_settings, summarise
from dsrl.settings import resolve, to_toml
from dsrl.storage.attempts import Attempt, DevItem
from dsrl.storage.evaluations import EvalItem, Evaluation
from dsrl.storage.run_store import RunStore
from dsrl.teaching.reply_store import Spending
from dsrl.types import UNREADABLE, Kind, Sample, Score

FREE = Spending(0, 0.0, True)
SETTINGS = resolve({"task": "mednli", "name": "trial"})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    store = RunStore(tmp_path / "trial")
    yield store
    store.close()


def test_a_run_of_an_earlier_version_keeps_what_that_version_did(store: RunStore) -> None:
    tables = to_toml(resolve({"task": "mednli", "name": "trial"}))
    del tables["selection"]["min_agreement"], tables["score"]["attempt_confidence"]
    store.keep_settings(tables)
    found = load_settings(store)
    assert (found.min_agreement, found.attempt_confidence, found.attempts) == (0, 0, 64)


def fill(store: RunStore, iteration: int = 1) -> None:
    """Fill ten slots: two unreadable, one without majority, seven with a label (four solved); two rewritten ones dropped."""

    def sample(slot: int, kind: Kind = "initial", label: str | None = None, dropped: str | None = None) -> Sample:
        parent = None if kind == "initial" else f"{iteration}-{slot}"
        sample_id = f"{iteration}-{slot}" + ("" if kind == "initial" else kind[0])
        return Sample(sample_id, iteration, slot, kind, "q", "o", label, dropped, parent, "p")

    first = [sample(slot, dropped="not_json" if slot < 2 else None) for slot in range(10)]
    store.add_samples(first)
    store.add_verdicts(
        [(sample(2, dropped="no_majority"), ["a", "b"])] + [(sample(s, label="a"), ["a"]) for s in range(3, 10)]
    )
    store.add_greedy_attempts([Attempt(f"{iteration}-{slot}", "o", "a", slot < 7) for slot in range(3, 10)])
    kinds: dict[int, Kind] = {slot: "harder" if slot < 7 else "easier" for slot in range(3, 10)}
    store.add_samples([sample(s, kind, dropped="truncated" if s == 3 else None) for s, kind in kinds.items()])
    store.add_verdicts(
        [(sample(9, "easier", dropped="no_readable_answer"), [UNREADABLE])]
        + [(sample(s, kinds[s], label="a"), ["a"]) for s in range(4, 9)]
    )
    labelled = [s.id for s in store.samples(iteration) if s.label]
    store.add_scores([(Score(sample_id, 4, 1, 0.25), {"a": (1, True), "b": (3, False)}) for sample_id in labelled])
    store.add_selected(iteration, labelled[:5])


def test_an_empty_run_counts_nothing(store: RunStore) -> None:
    counts = store.count_samples()
    assert counts.pop("dropped") == {}  # type: ignore[misc]
    assert set(counts.values()) == {0}


def test_every_sample_is_counted_where_it_went(store: RunStore) -> None:
    fill(store)
    counts = store.count_samples()
    assert counts == {
        "initial": 10,
        "verified": 7,
        "solved": 4,
        "unsolved": 3,
        "harder": 3,
        "easier": 2,
        "scored": 12,
        "contaminated": 0,
        "duplicates": 0,
        "held_out": 0,
        "selected": 5,
        "dropped": {"not_json": 2, "no_majority": 1, "no_readable_answer": 1, "truncated": 1},
    }
    assert next(iter(counts["dropped"])) == "not_json", "the most frequent reason first"


def test_iterations_are_counted_alone_and_together(store: RunStore) -> None:
    fill(store)
    fill(store, 2)
    assert store.count_samples(1) == store.count_samples(2)
    both = store.count_samples()
    assert (both["initial"], both["scored"], both["selected"]) == (20, 24, 10)
    assert store.count_samples(3)["initial"] == 0


def test_a_summary_has_the_documented_keys_and_none_for_what_is_not_known(store: RunStore) -> None:
    outcome = summarise(store, SETTINGS, FREE)
    assert set(outcome) == {
        *("run", "task", "base_accuracy", "trained_accuracy", "gain_ci95", "n_test", "samples", "teacher_calls"),
        *("cost_usd", "known_usd", "unknown_bills", "uncertain_usd", "budget_usd", "spending", "seconds", "model_path"),
        *("parts", "warnings"),
        *("warnings", "n_contaminated", "clean_base_accuracy", "clean_trained_accuracy"),
    }
    assert (outcome["run"], outcome["task"], outcome["n_test"]) == ("trial", "mednli", 0)
    for key in ("base_accuracy", "trained_accuracy", "gain_ci95", "model_path"):
        assert outcome[key] is None


def test_a_summary_of_a_whole_run(store: RunStore) -> None:
    fill(store)
    store.replace_items([EvalItem(f"q{number}", "a") for number in range(10)])
    base = {number: number < 4 for number in range(10)}
    trained = {number: number < 9 for number in range(10)}
    for model, right in (("base", base), ("trained", trained)):
        store.add_evaluations([Evaluation(model, number, "o", "a", correct) for number, correct in right.items()])
    store.stages.finish(1, "trained")
    store.set_seconds({"initial": 1.239, "total": 2.0})
    outcome = summarise(store, SETTINGS, Spending(7, 1.23456789, True))
    assert (outcome["base_accuracy"], outcome["trained_accuracy"], outcome["n_test"]) == (0.4, 0.9, 10)
    assert outcome["gain_ci95"] == pytest.approx(compute_gain(base, trained)[1], abs=1e-4)
    assert outcome["model_path"] == str(store.folder / "model")
    assert outcome["seconds"] == {"initial": 1.24, "total": 2.0}
    assert (outcome["teacher_calls"], outcome["cost_usd"]) == (7, 1.234568)
    assert summarise(store, SETTINGS, Spending(7, 1.2, False))["cost_usd"] is None, "a part of the price is no price"


def test_a_summary_lists_the_warnings_and_not_the_notes(store: RunStore) -> None:
    store.add_event("note", "just so")
    store.add_event("warning", "look out", "trained-1:drift")
    assert summarise(store, SETTINGS, FREE)["warnings"] == ["look out"]


def test_held_out_samples_are_counted_and_real_items_are_not(store: RunStore) -> None:
    fill(store)
    fill(store, 2)
    store.forget_training(1)
    store.add_selected(1, ["1-4"], 12, [DevItem("1-5", "q", "a"), DevItem(None, "real", "a")])
    assert (store.count_samples(1)["held_out"], store.count_samples()["held_out"]) == (1, 1)
    assert store.count_samples(2)["held_out"] == 0


def test_the_model_is_where_the_user_wanted_it(store: RunStore) -> None:
    settings = resolve({"task": "mednli", "name": "trial", "output_model": "my/model", "iterations": 2})
    store.stages.finish(1, "trained")
    assert summarise(store, settings, FREE)["model_path"] is None, "the last iteration counts"
    store.stages.finish(2, "trained")
    assert summarise(store, settings, FREE)["model_path"] == "my/model"
