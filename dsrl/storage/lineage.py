"""Where a sample came from and what became of it, along the foreign keys of the store."""

from __future__ import annotations

from typing import Any

from dsrl.errors import DataError
from dsrl.storage.run_store import RunStore


def lineage(store: RunStore, sample: str) -> dict[str, Any]:
    """Give a sample's way: keywords, passage, parent, text, votes, attempts, score, place in training, rewards.

    Raises:
        DataError: there is no such sample.
    """
    rows = store.rows(
        "SELECT s.id, s.round, s.slot, s.kind, s.input, s.output, v.label, coalesce(s.dropped, v.dropped), s.parent, "
        "s.passage FROM samples s LEFT JOIN verdicts v ON v.sample = s.id WHERE s.id = ?",
        sample,
    )
    if not rows:
        some = [row[0] for row in store.rows("SELECT id FROM samples ORDER BY id LIMIT 3")]
        hint = f"ids look like {', '.join(some)}" if some else "the run has no samples yet"
        raise DataError(f"run {store.folder.name!r} has no sample {sample!r}; {hint}")
    id, round, slot, kind, input, output, label, dropped, parent, passage = rows[0]
    domains = list(store.keywords(round))
    domain = domains[slot % len(domains)] if domains else None  # slots take the domains in turn
    passages = store.rows(
        "SELECT title, text FROM passages WHERE round = ? AND domain = ? AND id = ?", round, domain, passage
    )
    title, text = passages[0] if passages else (None, None)
    keywords = [k for (k,) in store.rows("SELECT keyword FROM keywords WHERE domain = ? AND round = ?", domain, round)]
    votes = store.rows("SELECT coalesce(answer, 'unreadable'), count(*) FROM votes WHERE sample = ? GROUP BY 1", id)
    attempts = store.rows(
        "SELECT coalesce(answer, 'unreadable'), times, passed FROM attempts WHERE sample = ? ORDER BY times DESC", id
    )
    greedy = store.rows(
        "SELECT output, coalesce(answer, 'unreadable'), solved FROM greedy_attempts WHERE sample = ?", id
    )
    score = store.rows("SELECT score, passed, attempts FROM scores WHERE sample = ?", id)
    place = store.rows("SELECT place FROM selected WHERE sample = ?", id)
    rewards = store.rows("SELECT step, reward FROM rewards WHERE sample = ? ORDER BY step", id)
    children = [row[0] for row in store.rows("SELECT id FROM samples WHERE parent = ?", id)]
    return {
        "sample": id,
        "round": round,
        "kind": kind,
        "domain": domain,
        "keywords": keywords,
        "passage": {"id": passage, "title": title, "text": text} if passage else None,
        "parent": parent,
        "rewritten_as": children,
        "input": input,
        "output": output,
        "votes": dict(votes),
        "label": label,
        "dropped": dropped,
        "greedy": dict(zip(("output", "answer", "solved"), greedy[0], strict=True)) if greedy else None,
        "attempts": [{"answer": a, "times": n, "right": bool(r)} for a, n, r in attempts],
        "score": dict(zip(("score", "passed", "attempts"), score[0], strict=True)) if score else None,
        "selected": place[0][0] if place else None,
        "rewards": [{"step": step, "reward": reward} for step, reward in rewards],
    }
