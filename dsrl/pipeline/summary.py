"""What came out of a run, read from its store: the numbers of ``dsrl run --json`` and ``dsrl show``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from dsrl.pipeline.stages.evaluated import paired_gain
from dsrl.settings import Settings
from dsrl.storage.run_store import RunStore, SampleCounts
from dsrl.teaching.reply_store import Spending


def sample_counts(store: RunStore, round: int | None = None) -> SampleCounts:
    """Count samples, of one round or of all."""
    return store.count_samples(round)


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
