"""The result of a run, read from its store: the numbers of ``dsrl run --json``, ``dsrl show`` and ``dsrl runs``."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dsrl.pipeline.stages.evaluated import compute_gain
from dsrl.pipeline.workspace import Workspace
from dsrl.settings import Settings, parse_settings, resolve
from dsrl.storage.run_store import RunStore
from dsrl.teaching.reply_store import Spending, read_spending


def load_settings(store: RunStore) -> Settings:
    """Read the settings that a run was started with.

    Raises:
        StoreError: the run holds no settings.
        SettingsError: the settings cannot be read.
    """
    return resolve(parse_settings(store.settings_text, str(store.settings_source)))


def load_spending(store: RunStore, workspace: Workspace) -> Spending:
    """Read what the teacher calls of a run have cost.

    If calls that the run has paid for are missing from the reply store, the cost is not known (``priced`` is false).
    """
    spending = read_spending(workspace.reply_store, store.id)
    return replace(spending, priced=False) if spending.calls < store.paid_calls else spending


def load_notes(store: RunStore, workspace: Workspace) -> list[str]:
    """Read the notes of a run; add one if calls that it has paid for are missing from the reply store."""
    notes = [text for _, _, text in store.events()]
    missing = store.paid_calls - read_spending(workspace.reply_store, store.id).calls
    if missing > 0:
        path = workspace.reply_store
        notes.append(f"{missing} calls that this run has paid for are not in {path}, so its cost is not known")
    return notes


def load_result(store: RunStore, workspace: Workspace) -> dict[str, Any]:
    """Return the object of ``dsrl run --json`` for a run that is open."""
    return summarise(store, load_settings(store), load_spending(store, workspace))


def compute_accuracy(store: RunStore, model: str, leave_out: Set[int] = frozenset()) -> float | None:
    """Return the share of the test items that a model answered correctly; None before it has answered all.

    Args:
        store: the store of the run.
        model: ``base`` or ``trained``.
        leave_out: numbers of test items that do not count; None is returned if no other is left.
    """
    answers = store.evaluations(model)
    if len(answers) != len(store.items()):
        return None
    counted = [correct for item, correct in answers.items() if item not in leave_out]
    return sum(counted) / len(counted) if counted else None


def _summarise_clean(store: RunStore) -> dict[str, Any]:
    """Return the accuracies without the test items that training samples copy; None if there are none."""
    copied = store.list_trained_items()
    return {
        "n_contaminated": len(copied),
        "clean_base_accuracy": compute_accuracy(store, "base", copied) if copied else None,
        "clean_trained_accuracy": compute_accuracy(store, "trained", copied) if copied else None,
    }


def summarise(store: RunStore, settings: Settings, spending: Spending) -> dict[str, Any]:
    """Return the object of ``dsrl run --json``; what is not known yet is None."""
    base, trained = compute_accuracy(store, "base"), compute_accuracy(store, "trained")
    interval: list[float] | None = None
    if base is not None and trained is not None:
        _, bounds = compute_gain(store.evaluations("base"), store.evaluations("trained"))
        interval = [round(bound, 4) for bound in bounds]
    model = Path(settings.output_model) if settings.output_model else store.folder / "model"
    return {
        "run": settings.name,
        "task": settings.task,
        "base_accuracy": base,
        "trained_accuracy": trained,
        "gain_ci95": interval,
        "n_test": len(store.items()),
        **_summarise_clean(store),
        "samples": store.count_samples(),
        "teacher_calls": spending.calls,
        "cost_usd": round(spending.cost_usd, 6) if spending.priced else None,
        "known_usd": round(spending.cost_usd, 6),
        "unknown_bills": spending.unknown_bills,
        "uncertain_usd": round(spending.uncertain_usd, 6),
        "budget_usd": settings.budget,
        "spending": [asdict(line) for line in spending.lines],
        "seconds": {stage: round(seconds, 2) for stage, seconds in store.seconds().items()},
        "model_path": str(model) if store.stages.is_finished(settings.iterations, "trained") else None,
        "warnings": [text for _, level, text in store.events() if level == "warning"],
    }
