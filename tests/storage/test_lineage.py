"""The lineage of one sample, from the keywords to the rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from dsrl.errors import DataError
from dsrl.storage.attempts import Attempt
from dsrl.storage.lineage import lineage
from dsrl.storage.run_store import RunStore
from dsrl.types import UNREADABLE, Passage, Sample, Score


def fill(store: RunStore, domains: Sequence[str] = ("medicine",)) -> None:
    """Fill four slots: one unreadable, two with a label, one without a readable vote; slot 1 is rewritten and scored."""
    labelled = [Sample(f"1-{slot}", 1, slot, "initial", "q", "o", "a", passage="p") for slot in (1, 2)]
    voteless = Sample("1-3", 1, 3, "initial", "q", "o", dropped="no_readable_answer", passage="p")
    harder = Sample("1-1h", 1, 1, "harder", "q", "o", "a", parent="1-1", passage="p")
    store.add_samples(
        [Sample("1-0", 1, 0, "initial", "", "", dropped="not_json")]
        + [
            Sample(f"1-{slot}", 1, slot, "initial", "q", "o", passage="p", domain=domains[slot % len(domains)])
            for slot in (1, 2, 3)
        ]
    )
    store.add_verdicts([*((sample, ["a"]) for sample in labelled), (voteless, [UNREADABLE])])
    store.add_greedy_attempts([Attempt("1-1", "o", "a", True), Attempt("1-2", "o", UNREADABLE, False)])
    store.add_samples([replace(harder, label=None, domain=domains[0])])
    store.add_verdicts([(harder, ["a"])])
    scored = ("1-1", "1-1h", "1-2")
    store.add_scores([(Score(sample, 4, 1, 0.25), {"a": (1, True), "b": (3, False)}) for sample in scored])
    store.add_selected(1, ["1-2", "1-1"])
    store.add_rewards(1, {"1-1": 0.5})


def test_lineage_goes_from_keywords_to_rewards(store: RunStore) -> None:
    store.add_keywords(1, {"": {"medicine": ["medicine", "drugs"]}})
    store.add_passages(1, {"": {"medicine": [Passage("p", "about drugs", "Drugs")]}})
    fill(store)
    record = lineage(store, "1-1h")
    assert (record["kind"], record["parent"], record["label"], record["dropped"]) == ("harder", "1-1", "a", None)
    assert record["passage"] == {"id": "p", "title": "Drugs", "text": "about drugs"}
    assert record["keywords"] == ["medicine", "drugs"]
    assert record["score"] == {"score": 0.25, "passed": 1, "attempts": 4}
    assert record["attempts"] == [
        {"answer": "b", "times": 3, "right": False},
        {"answer": "a", "times": 1, "right": True},
    ]
    parent = lineage(store, "1-1")
    assert parent["rewritten_as"] == ["1-1h"]
    assert parent["greedy"] == {"output": "o", "answer": "a", "solved": 1}
    assert parent["selected"] == 2
    assert parent["rewards"] == [{"step": 1, "reward": 0.5}]


def test_a_dropped_sample_shows_its_reason_and_nothing_of_later_stages(store: RunStore) -> None:
    fill(store)
    assert lineage(store, "1-3")["votes"] == {"unreadable": 1}
    record = lineage(store, "1-0")
    assert record["dropped"] == "not_json"
    later = ("passage", "greedy", "score", "selected", "label", "parent")
    assert [record[name] for name in later] == [None] * len(later)
    assert (record["attempts"], record["rewards"], record["rewritten_as"]) == ([], [], [])


def test_a_passage_of_two_domains_is_shown_with_the_domain_of_the_sample(store: RunStore) -> None:
    domains = ("surgery", "medicine")
    store.add_keywords(1, {"": {domain: [domain] for domain in domains}})
    store.add_passages(1, {"": {domain: [Passage("p", f"of {domain}")] for domain in domains}})
    fill(store, domains)
    shown = [lineage(store, sample_id) for sample_id in ("1-2", "1-3")]
    assert [record["domain"] for record in shown] == ["surgery", "medicine"]
    assert [record["passage"]["text"] for record in shown] == ["of surgery", "of medicine"]


def test_a_sample_names_its_task(store: RunStore) -> None:
    store.keep_settings({"task": {"task": "mednli"}})
    store.add_samples(
        [Sample("1-0", 1, 0, "initial", "q", "o"), Sample("1-1", 1, 1, "initial", "q", "o", task="gsm8k")]
    )
    assert [lineage(store, sample_id)["task"] for sample_id in ("1-0", "1-1")] == ["mednli", "gsm8k"]


def test_the_error_for_an_unknown_sample_shows_what_ids_look_like(store: RunStore) -> None:
    with pytest.raises(DataError, match="the run has no samples yet"):
        lineage(store, "1-0")
    fill(store)
    with pytest.raises(DataError, match=r"run 'trial' has no sample 'x'; ids look like 1-0, 1-1, 1-1h"):
        lineage(store, "x")
