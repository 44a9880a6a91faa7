"""Runs whose models have answered test items, made without a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dsrl.pipeline.repeats import FOLDER, compute_origin
from dsrl.storage.evaluations import EvalItem, Evaluation
from dsrl.storage.run_store import RunStore


def make_run(name: str, truths: Sequence[bool], label: str = "yes") -> None:
    """Make a run below ``runs``. Its base model answers every item wrongly, its trained model as ``truths`` says."""
    store = RunStore(Path("runs") / name)
    store.keep_settings({"run": {"name": name}, "task": {"task": "mednli"}})
    store.replace_items([EvalItem(f"question {n}", label) for n in range(len(truths))])
    for model, answers in (("base", [False] * len(truths)), ("trained", truths)):
        store.add_evaluations([Evaluation(model, n, "t", label, truth) for n, truth in enumerate(answers)])
    store.close()


def add_repeat(name: str, seed: int, truths: Sequence[bool], origin: str | None = None) -> None:
    """Add a training of such a run with another seed, as ``--repeats`` does."""
    store = RunStore(Path("runs") / name, work=False)
    folder = store.folder / FOLDER / f"as-the-run-seed-{seed}"
    store.copy_to(folder, compute_origin(store) if origin is None else origin)
    store.close()
    copy = RunStore(folder)
    copy.forget_trained(1)
    copy.add_evaluations([Evaluation("trained", n, "t", "yes", truth) for n, truth in enumerate(truths)])
    copy.close()
