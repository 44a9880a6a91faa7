"""Contamination: samples that copy a test item are set aside before the training, and shown with what they share.

A sample is compared when it is written, before votes and attempts are paid for: it is then dropped. The selection compares
all samples once more, because a resumed run can have other test items. Test items that are given after the training are
compared with the samples that it used; the summary then also gives the accuracy without these items.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from dsrl.pipeline.runtime import OpenRun
from dsrl.similarity.copies import RULES
from dsrl.storage.matches import CONTAMINATED, Match, Meaning
from dsrl.types import Sample

#: If more than this share of the samples is set aside, the user is told to look at them.
REMARKABLE_SHARE = 0.02


def drop_contaminated(run: OpenRun, samples: Iterable[Sample]) -> tuple[list[Sample], list[Match]]:
    """Drop the samples that copy a test item.

    Args:
        run: the open run; it knows the test items.
        samples: samples that were just written.

    Returns:
        The samples, those that copy a test item with the reason ``contaminated``; and the match of each of these.
    """
    kept: list[Sample] = []
    matches = []
    for sample in samples:
        match = None if sample.dropped else find_contamination(run, sample)
        kept.append(sample if match is None else replace(sample, dropped=CONTAMINATED))
        if match is not None:
            matches.append(match)
    return kept, matches


def find_contamination(run: OpenRun, sample: Sample) -> Match | None:
    """Return the test item that a sample copies most clearly; None if it copies none, or if no items are known."""
    return next(iter(_list_matches(run, sample, "contaminated")), None)


def warn_about_contamination(run: OpenRun, iteration: int) -> None:
    """Warn the user if a remarkable share of the samples of an iteration was set aside because they copy test items."""
    counts = run.store.count_samples(iteration)
    written = run.store.count_written(iteration)
    total = counts["initial"] + written.get("harder", 0) + written.get("easier", 0)
    copied = counts["contaminated"]
    if copied > REMARKABLE_SHARE * total:
        run.add_warning(
            f"{copied} of {total} samples copy a test item and were set aside. `dsrl show {run.settings.name}` shows what "
            "they share: if it is only the form of the task, --no-decontaminate (in a new run) keeps them; otherwise the "
            "teacher knows the test set, or the passages hold it",
            f"selected-{iteration}:contaminated",
        )


def compare_training(run: OpenRun) -> None:
    """Find the test items that training samples copy, if items or samples have changed since the last time.

    Samples that copy an item that was known before the training were set aside. What is found here copies an item that was
    given later.
    """
    if not run.settings.decontaminate:
        return
    iterations = range(1, run.settings.iterations + 1)
    trained = {sample for n in iterations for sample in _list_training_ids(run, n)}
    state = _digest(run, trained)
    if run.store.compared_training == state:
        return
    matches: list[Match] = []
    for sample in (sample for n in iterations for sample in run.store.samples(n) if sample.id in trained):
        matches += _list_matches(run, sample, "trained")
    run.store.replace_trained_matches(matches, state)
    if matches:
        samples, items = {match.sample for match in matches}, {match.item for match in matches}
        run.add_warning(
            f"{len(samples)} training samples copy {len(items)} of the {len(run.store.items())} test items, which were "
            f"given after the training. `dsrl show {run.settings.name}` shows them, and the accuracy without these items",
            f"evaluated-0:contaminated {state}",
        )


def _list_training_ids(run: OpenRun, iteration: int) -> list[str]:
    """Return the samples that the training of an iteration has used: to train, or to choose the best model."""
    dev_items = (item.sample for item in run.store.dev_items(iteration))
    return [*run.store.selected(iteration), *(sample for sample in dev_items if sample is not None)]


def _digest(run: OpenRun, trained: Iterable[str]) -> str:
    content: Sequence[object] = [sorted(trained), [item.input for item in run.store.items()]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _list_matches(run: OpenRun, sample: Sample, meaning: Meaning) -> list[Match]:
    """Return the test items that a sample copies, the clearest copy first, and the items of its own task before others.

    The items of the other tasks are compared too, because one model is trained and tested on the tasks together.
    """
    texts = run.context.test_items or ()
    own_first = sorted(run.test_items.items(), key=lambda pair: pair[0] != sample.task)
    copies = [(copy, items.numbers[copy.number]) for _, items in own_first for copy in items.index.find(sample.input)]
    copies.sort(key=lambda pair: RULES.index(pair[0].rule))
    return [
        Match(sample.id, meaning, copy.rule, copy.span, copy.similarity, number, texts[number].input)
        for copy, number in copies
    ]
