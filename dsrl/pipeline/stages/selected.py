"""Selection: the M samples of highest potential (paper 4.3, Algorithm 1), and the ablations of Table 4."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from dsrl.errors import DataError
from dsrl.pipeline.runtime import OpenRun
from dsrl.pipeline.stages.trained import forget_training
from dsrl.types import Score


def select_samples(run: OpenRun, iteration: int) -> None:
    """Store the training set. It is selected again if a larger budget has added samples since.

    Raises:
        DataError: there is no sample to train on.
    """
    store, settings = run.store, run.settings
    scores = store.scores(iteration)
    state, pool = store.stages.get_state(iteration, "selected"), store.stages.get_basis(iteration, "selected")
    if state == "finished" and pool == str(len(scores)):
        return
    if state != "pending":
        forget_training(run, iteration)
    with run.clock.measure("selected"):
        selected = select(scores.values(), settings.select, settings.selection, settings.seed)
    if not selected:
        raise DataError(
            f"there is no sample to train on; `dsrl show {settings.name}` says why samples were dropped. Try another "
            "teacher or another task description"
        )
    if len(selected) < settings.select and settings.selection != "full":
        run.add_note(f"there are only {len(selected)} samples, fewer than M = {settings.select}; all are selected")
    store.add_selected(iteration, selected, pool=len(scores))
    run.progress.finish("selected", f"{len(selected)} of {len(scores)}")


def select(scores: Iterable[Score], m: int, rule: str, seed: int) -> list[str]:
    """Choose the training set.

    Args:
        scores: the scores of all samples.
        m: M, the number of samples to choose; ``full`` ignores it. All are chosen if there are fewer.
        rule: ``potential`` (lowest score first, the paper's), ``easy`` (highest pass rate first), ``hard`` (lowest pass
            rate first, with the samples that were never solved), ``random``, ``full`` (all).
        seed: breaks ties, in the same way every time.

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
    chosen = pool if rule == "full" else pool[:m]
    return [score.sample for score in chosen]


def _draw(sample: str, seed: int) -> bytes:
    # A random order that depends on each sample alone, not on which other samples there are.
    return hashlib.sha256(f"{seed}:{sample}".encode()).digest()
