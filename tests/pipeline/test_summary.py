from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dsrl.errors import DataError
from dsrl.pipeline.stages.evaluated import compute_gain
from dsrl.pipeline.summary import compute_accuracy, summarise
from dsrl.settings import resolve
from dsrl.storage.attempts import Attempt
from dsrl.storage.evaluations import Evaluation
from dsrl.storage.lineage import lineage
from dsrl.storage.run_store import RunStore
from dsrl.teaching.reply_store import Spending
from dsrl.types import UNREADABLE, Kind, Passage, Sample, Score

FREE = Spending(0, 0.0, True)
SETTINGS = resolve({"task": "mednli", "name": "trial"})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    store = RunStore(tmp_path / "trial")
    yield store
    store.close()


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


def test_accuracy_is_known_when_all_items_are_answered(store: RunStore) -> None:
    assert compute_accuracy(store, "base") is None
    store.replace_items([(f"q{number}", "a") for number in range(4)])
    store.add_evaluations([Evaluation("base", number, "o", "a", number == 0) for number in range(3)])
    assert compute_accuracy(store, "base") is None
    store.add_evaluations([Evaluation("base", 3, "o", "a", True)])
    assert compute_accuracy(store, "base") == 0.5
    assert compute_accuracy(store, "trained") is None


def test_a_summary_has_the_documented_keys_and_none_for_what_is_not_known(store: RunStore) -> None:
    outcome = summarise(store, SETTINGS, FREE)
    assert set(outcome) == {
        *("run", "task", "base_accuracy", "trained_accuracy", "gain_ci95", "n_test", "samples", "teacher_calls"),
        *("cost_usd", "known_usd", "unknown_bills", "uncertain_usd", "budget_usd", "spending", "seconds", "model_path"),
    }
    assert (outcome["run"], outcome["task"], outcome["n_test"]) == ("trial", "mednli", 0)
    for key in ("base_accuracy", "trained_accuracy", "gain_ci95", "model_path"):
        assert outcome[key] is None


def test_a_summary_of_a_whole_run(store: RunStore) -> None:
    fill(store)
    store.replace_items([(f"q{number}", "a") for number in range(10)])
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


def test_the_model_is_where_the_user_wanted_it(store: RunStore) -> None:
    settings = resolve({"task": "mednli", "name": "trial", "output_model": "my/model", "iterations": 2})
    store.stages.finish(1, "trained")
    assert summarise(store, settings, FREE)["model_path"] is None, "the last iteration counts"
    store.stages.finish(2, "trained")
    assert summarise(store, settings, FREE)["model_path"] == "my/model"


# --- the lineage of one sample ---------------------------------------------------------------------------------------


def test_lineage_goes_from_keywords_to_rewards(store: RunStore) -> None:
    store.add_keywords(1, {"medicine": ["medicine", "drugs"]})
    store.add_passages(1, {"medicine": [Passage("p", "about drugs", "Drugs")]})
    fill(store)
    store.add_rewards(1, {"1-3": 0.5})
    record = lineage(store, "1-4h")
    assert (record["kind"], record["parent"], record["label"], record["dropped"]) == ("harder", "1-4", "a", None)
    assert record["passage"] == {"id": "p", "title": "Drugs", "text": "about drugs"}
    assert record["keywords"] == ["medicine", "drugs"]
    assert record["score"] == {"score": 0.25, "passed": 1, "attempts": 4}
    assert record["attempts"] == [
        {"answer": "b", "times": 3, "right": False},
        {"answer": "a", "times": 1, "right": True},
    ]
    parent = lineage(store, "1-3")
    assert parent["rewritten_as"] == ["1-3h"]
    assert parent["greedy"] == {"output": "o", "answer": "a", "solved": 1}
    assert parent["selected"] == 1
    assert parent["rewards"] == [{"step": 1, "reward": 0.5}]
    assert lineage(store, "1-9e")["votes"] == {"unreadable": 1}
    assert lineage(store, "1-0")["dropped"] == "not_json"


def test_a_passage_of_two_domains_is_shown_with_the_domain_of_the_sample(store: RunStore) -> None:
    """Slots take the domains in turn: slot 1 belongs to the second."""
    store.add_keywords(1, {"surgery": ["surgery"], "medicine": ["medicine"]})
    store.add_passages(1, {domain: [Passage("p", "shared")] for domain in ("surgery", "medicine")})
    fill(store)
    assert [lineage(store, sample_id)["domain"] for sample_id in ("1-2", "1-3")] == ["surgery", "medicine"]


def test_the_error_for_an_unknown_sample_shows_what_ids_look_like(store: RunStore) -> None:
    with pytest.raises(DataError, match="the run has no samples yet"):
        lineage(store, "1-0")
    fill(store)
    with pytest.raises(DataError, match=r"run 'trial' has no sample 'x'; ids look like 1-0, 1-1, 1-2"):
        lineage(store, "x")
