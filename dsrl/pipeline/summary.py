"""What came out of a run, read from its store: the numbers of ``dsrl run --json`` and ``dsrl show``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

from dsrl.pipeline.stages.evaluated import paired_gain
from dsrl.settings import Settings
from dsrl.storage.run_store import RunStore
from dsrl.teaching.reply_store import Spending


class SampleCounts(TypedDict):
    """Where every sample went. All add up:

    ``initial`` less those dropped is ``verified``; ``verified`` is ``solved`` and ``unsolved``; ``harder`` and ``easier``
    are these less those dropped after rewriting; ``scored`` is ``verified``, ``harder`` and ``easier``. Under ``budget``
    stand rows that there was no money for, those that were not even written among them.
    """

    initial: int
    verified: int
    solved: int
    unsolved: int
    harder: int
    easier: int
    scored: int
    selected: int
    dropped: dict[str, int]


def sample_counts(store: RunStore, round: int | None = None) -> SampleCounts:
    """Count samples, of one round or of all."""
    samples = (
        "SELECT s.id, s.kind, v.label, coalesce(s.dropped, v.dropped) AS reason FROM samples s "
        "LEFT JOIN verdicts v ON v.sample = s.id WHERE (?1 IS NULL OR s.round = ?1)"
    )
    written = store.counts(f"SELECT kind, count(*) FROM ({samples}) GROUP BY kind", round)
    kept = store.counts(f"SELECT kind, count(*) FROM ({samples}) WHERE label IS NOT NULL GROUP BY kind", round)
    dropped = store.counts(
        f"SELECT reason, count(*) FROM ({samples}) WHERE reason IS NOT NULL GROUP BY reason ORDER BY 2 DESC, 1", round
    )
    solved = store.counts(
        f"SELECT a.solved, count(*) FROM greedy_attempts a JOIN ({samples}) s ON s.id = a.sample GROUP BY 1", round
    )
    scored = store.rows(f"SELECT count(*) FROM scores x JOIN ({samples}) s ON s.id = x.sample", round)
    selected = store.rows("SELECT count(*) FROM selected WHERE ?1 IS NULL OR round = ?1", round)
    unpaid = sum(store.unpaid(round).values())
    if unpaid:
        dropped["budget"] = unpaid
    by_solved = {int(key): count for key, count in solved.items()}
    return SampleCounts(
        initial=written.get("initial", 0),
        verified=kept.get("initial", 0),
        solved=by_solved.get(1, 0),
        unsolved=by_solved.get(0, 0),
        harder=kept.get("harder", 0),
        easier=kept.get("easier", 0),
        scored=scored[0][0],
        selected=selected[0][0],
        dropped=dropped,
    )


def accuracy(store: RunStore, model: str) -> float | None:
    """Share of the test items that a model (``base``, ``trained``) got right; None before it has answered all."""
    answered = store.evaluations(model)
    return sum(answered.values()) / len(answered) if answered and len(answered) == len(store.items()) else None


def summarise(store: RunStore, settings: Settings, spending: Spending) -> dict[str, Any]:
    """Give the object of ``dsrl run --json``; what is not known yet is None."""
    base, trained = accuracy(store, "base"), accuracy(store, "trained")
    gain: list[float] | None = None
    if base is not None and trained is not None:
        _, interval = paired_gain(store.evaluations("base"), store.evaluations("trained"))
        gain = [round(bound, 4) for bound in interval]
    finished = store.marked(f"trained-{settings.iterations}") is not None
    model = Path(settings.output_model) if settings.output_model else store.folder / "model"
    return {
        "run": settings.name,
        "task": settings.task,
        "base_accuracy": base,
        "trained_accuracy": trained,
        "gain_ci95": gain,
        "n_test": len(store.items()),
        "samples": sample_counts(store),
        "teacher_calls": spending.calls,
        "cost_usd": round(spending.cost_usd, 6) if spending.priced else None,
        "known_usd": round(spending.cost_usd, 6),
        "unknown_bills": spending.unknown_bills,
        "uncertain_usd": round(spending.uncertain_usd, 6),
        "budget_usd": settings.budget,
        "spending": [asdict(line) for line in spending.lines],
        "seconds": {stage: round(seconds, 2) for stage, seconds in store.seconds().items()},
        "model_path": str(model) if finished else None,
    }
