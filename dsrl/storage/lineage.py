"""Where a sample came from and what became of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from dsrl.errors import DataError
from dsrl.storage.run_store import RunStore


def lineage(store: RunStore, sample_id: str) -> dict[str, Any]:
    """Return the lineage of a sample: keywords, passage, parent, text, votes, attempts, score, place, rewards.

    Raises:
        DataError: the run has no such sample.
    """
    sample = store.get_sample(sample_id)
    if sample is None:
        some = store.list_sample_ids(3)
        hint = f"ids look like {', '.join(some)}" if some else "the run has no samples yet"
        raise DataError(f"run {store.folder.name!r} has no sample {sample_id!r}; {hint}")
    keywords = store.keywords(sample.round).get(sample.task, {})
    passages = store.passages(sample.round).get(sample.task, {}).get(sample.domain, [])
    passage = next((passage for passage in passages if passage.id == sample.passage), None)
    return {
        "sample": sample.id,
        "round": sample.round,
        "kind": sample.kind,
        "task": sample.task or store.read_task_name(),
        "domain": sample.domain or None,
        "keywords": keywords.get(sample.domain, []),
        "passage": {
            "id": sample.passage,
            "title": passage.title if passage else None,
            "text": passage.text if passage else None,
        }
        if sample.passage
        else None,
        "parent": sample.parent,
        "rewritten_as": store.list_rewritten(sample.id),
        "input": sample.input,
        "output": sample.output,
        "votes": store.count_votes(sample.id),
        "label": sample.label,
        "dropped": sample.dropped,
        "matches": [asdict(match) for match in store.list_matches(sample=sample.id)],
        "greedy": store.get_greedy_attempt(sample.id),
        "attempts": store.list_answers(sample.id),
        "score": store.get_score(sample.id),
        "selected": store.get_place(sample.id),
        "rewards": store.list_rewards(sample.id),
    }
