"""Selection: the M samples of highest potential (paper 4.3, Algorithm 1), and the ablations of Table 4."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping

from dsrl.errors import DataError
from dsrl.pipeline.dev_items import choose_dev_items
from dsrl.pipeline.labels import balance, describe_starved, find_starved
from dsrl.pipeline.runtime import OpenRun
from dsrl.pipeline.stages.trained import forget_training
from dsrl.types import Score


def select_samples(run: OpenRun, iteration: int) -> None:
    """Store the training set and the development items. Both are chosen again if a larger budget has added samples since.

    Raises:
        DataError: there is no sample to train on, or the train split of the user's data cannot be used.
    """
    store, settings = run.store, run.settings
    scores = store.scores(iteration)
    state, pool = store.stages.get_state(iteration, "selected"), store.stages.get_basis(iteration, "selected")
    if state == "finished" and pool == str(len(scores)):
        return
    if state != "pending":
        forget_training(run, iteration)
    with run.clock.measure("selected"):
        samples = [sample for sample in store.samples(iteration) if sample.id in scores]
        labels = {sample.id: str(sample.label) for sample in samples}
        dev_items = choose_dev_items(run, samples)
        held_out = {item.sample for item in dev_items}
        candidates = [score for sample, score in scores.items() if sample not in held_out]
        balanced_labels = labels if settings.balance else None
        selected = select(candidates, settings.select, settings.selection, settings.seed, balanced_labels)
    if not selected:
        raise DataError(
            f"there is no sample to train on; `dsrl show {settings.name}` says why samples were dropped. Try another "
            "teacher or another task description"
        )
    if len(selected) < settings.select and settings.selection != "full":
        run.add_note(f"there are only {len(selected)} samples, fewer than M = {settings.select}; all are selected")
    _warn_about_labels(run, iteration, candidates, selected, labels)
    store.add_selected(iteration, selected, pool=len(scores), dev_items=dev_items)
    outcome = f"{len(selected)} of {len(candidates)}"
    run.progress.finish("selected", f"{outcome}; {len(dev_items)} development items" if dev_items else outcome)


def _warn_about_labels(
    run: OpenRun, iteration: int, candidates: Iterable[Score], selected: Iterable[str], labels: Mapping[str, str]
) -> None:
    """Warn the user if the selection takes too few samples of a label."""
    candidates = list(candidates)
    pool = Counter(labels[score.sample] for score in candidates)
    chosen = Counter(labels[sample] for sample in selected)
    unsolved = Counter(labels[score.sample] for score in candidates if not score.passed)
    if starved := find_starved(pool, chosen):
        run.add_warning(describe_starved(starved, pool, chosen, unsolved), f"selected-{iteration}:labels")


def select(scores: Iterable[Score], m: int, rule: str, seed: int, labels: Mapping[str, str] | None = None) -> list[str]:
    """Choose the training set.

    Args:
        scores: the scores of all samples.
        m: M, the number of samples to choose; ``full`` ignores it. All are chosen if there are fewer.
        rule: ``potential`` (lowest score first, the paper's), ``easy`` (highest pass rate first), ``hard`` (lowest pass
            rate first, with the samples that were never solved), ``random``, ``full`` (all).
        seed: breaks ties, in the same way every time.
        labels: id of a sample -> its label; with it, every label keeps its share (:func:`dsrl.pipeline.labels.balance`).

    Returns:
        The ids of the chosen samples, best first.
    """
    pool = sorted(scores, key=lambda score: _draw(score.sample, seed))
    if rule == "potential":
        pool.sort(key=lambda score: score.score)
    elif rule == "easy":
        pool.sort(key=lambda score: -score.pass_rate)
    elif rule == "hard":
        pool.sort(key=lambda score: score.pass_rate)
    elif rule not in ("random", "full"):
        raise ValueError(f"there is no selection rule {rule!r}")
    order = [score.sample for score in pool]
    if rule == "full":
        return order
    return order[:m] if labels is None else balance(order, labels, m)


def _draw(sample: str, seed: int) -> bytes:
    # A random order that depends on each sample alone, not on which other samples there are.
    return hashlib.sha256(f"{seed}:{sample}".encode()).digest()
