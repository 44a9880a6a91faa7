"""The result of a run, read from its store: the numbers of ``dsrl run --json``, ``dsrl show`` and ``dsrl runs``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dsrl.pipeline.setting_paths import read_kept_paths
from dsrl.pipeline.task_results import compute_accuracies, list_parts
from dsrl.pipeline.workspace import Workspace
from dsrl.settings import Settings, list_earlier_values, parse_settings, resolve
from dsrl.storage.metrics import Metrics
from dsrl.storage.run_store import RunStore
from dsrl.teaching.reply_store import Spending, read_spending
from dsrl.types import BEST_STEP, DEV_ACCURACY


def load_settings(store: RunStore) -> Settings:
    """Read the settings that a run was started with; their paths hold in the present folder.

    Raises:
        StoreError: the run holds no settings.
        SettingsError: the settings cannot be read.
    """
    values = parse_settings(store.settings_text, str(store.settings_source))
    # A run of an earlier version has no values for the settings that were added since.
    return resolve(list_earlier_values(), read_kept_paths(values, store.folder))


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


def summarise_attempts(store: RunStore, settings: Settings) -> dict[str, Any] | None:
    """Return on how many attempts the pass rates rest; None if no sample has a score.

    Returns:
        ``samples``: scored samples. ``attempts``: all their attempts. ``least``, ``most``: the fewest and the most at one
        sample. ``share``: of the attempts of a full scoring, 0 to 1.
    """
    total = store.count_attempts()
    if not total.samples:
        return None
    return {**asdict(total), "share": total.attempts / (total.samples * max(settings.attempts, total.most))}


def describe_attempts(summary: Mapping[str, Any]) -> str:
    """Return what :func:`summarise_attempts` has found in one sentence."""
    least, most = summary["least"], summary["most"]
    each = f"{most}" if least == most else f"{least} to {most}"
    return f"{summary['attempts']} attempts of the base model, {each} at each sample ({summary['share']:.0%} of all L)"


def summarise_held_out(store: RunStore, iteration: int) -> dict[str, Any] | None:
    """Return what the held-out samples say about the last training; None if there are none, or no evaluation on them.

    Returns:
        ``items``: their number. ``base_pass_rate``: the mean share of right attempts of the model that the training started
        from. ``accuracy``: that of the model that was kept, greedy.
    """
    scores = store.scores(iteration)
    rates = [
        scores[item.sample].passed / scores[item.sample].attempts
        for item in store.dev_items(iteration)
        if item.sample in scores and scores[item.sample].attempts
    ]
    path = store.folder / "metrics.jsonl"
    if not rates or not path.is_file():
        return None
    metrics = Metrics(path)
    accuracies, kept = metrics.read_values(iteration, DEV_ACCURACY), metrics.read_values(iteration, BEST_STEP)
    if not accuracies:
        return None
    last = kept[max(kept)] if kept else max(accuracies)
    accuracy = accuracies.get(int(last))
    if accuracy is None:
        return None
    return {"items": len(rates), "base_pass_rate": sum(rates) / len(rates), "accuracy": accuracy}


def _summarise_clean(store: RunStore, tasks: Sequence[str]) -> dict[str, Any]:
    """Return the accuracies without the test items that training samples copy; None if there are none."""
    copied = store.list_trained_items()
    clean = compute_accuracies(store, tasks, copied) if copied else None
    return {
        "n_contaminated": len(copied),
        "clean_base_accuracy": clean.base if clean else None,
        "clean_trained_accuracy": clean.trained if clean else None,
    }


def summarise(store: RunStore, settings: Settings, spending: Spending) -> dict[str, Any]:
    """Return the object of ``dsrl run --json``; what is not known yet is None."""
    accuracies = compute_accuracies(store, settings.task)
    model = Path(settings.output_model) if settings.output_model else store.folder / "model"
    return {
        "run": settings.name,
        "task": ", ".join(settings.task),
        "base_accuracy": accuracies.base,
        "trained_accuracy": accuracies.trained,
        "gain_ci95": list(accuracies.gain_ci95) if accuracies.gain_ci95 else None,
        "n_test": len(store.items()),
        "parts": [asdict(part) for part in list_parts(store, settings.task)],
        **_summarise_clean(store, settings.task),
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
