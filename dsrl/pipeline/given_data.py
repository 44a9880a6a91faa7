"""Training on given data (``dsrl train``): real items take the place of the samples, and no teacher is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from dsrl.errors import DataError, SettingsError
from dsrl.pipeline.contamination import find_contamination, warn_about_contamination
from dsrl.pipeline.dev_items import choose_dev_items
from dsrl.pipeline.inputs import compute_digest
from dsrl.pipeline.runtime import OpenRun
from dsrl.types import UNREADABLE, Example, Sample


def store_given_items(run: OpenRun, path: str) -> None:
    """Read the items of a data set and store them as the samples of a run.

    Args:
        run: the open run, of one task.
        path: as for ``--dataset-path``; the split ``train`` is read.

    Raises:
        DataError: the data cannot be read, or the gold answer of an item cannot.
        SettingsError: the run has several tasks, or it has other samples.
    """
    if len(run.context.tasks) > 1:
        raise SettingsError("dsrl train takes one --task")
    samples = list(_read_samples(run, path))
    source = f"{path} {compute_digest([(sample.input, sample.output) for sample in samples])}"
    if run.store.data == source:
        return
    if run.store.data is not None or run.store.stages.has_reached("keywords"):
        raise SettingsError(
            f"run {run.settings.name!r} has other samples, and the data {path} can be trained on in a run of its own only; "
            "give another --name"
        )
    run.store.keep_data(source)
    run.store.add_samples(samples)
    run.store.add_verdicts((sample, ()) for sample in samples)
    run.store.stages.finish(1, "keywords")  # from now on, the settings are those of this run


def _read_samples(run: OpenRun, path: str) -> Iterator[Sample]:
    ((key, task),) = run.context.tasks.items()
    examples: Iterable[Example] = task.plugin.hook.load_dataset(path=path, split="train") or ()
    for number, example in enumerate(examples):
        label = task.plugin.hook.process_label(output=example.output, input=example.input)
        if label is UNREADABLE:
            raise DataError(
                f"item {number + 1} of {path}: no answer can be read in the gold output {example.output[-80:]!r}"
            )
        yield Sample(
            id=f"1-{number:05d}",
            round=1,
            slot=number,
            kind="initial",
            input=example.input,
            output=example.output,
            label=str(label),
            task=key,
            domain=example.domain,
        )


def select_given_items(run: OpenRun) -> None:
    """Store the training set of a run on given data: at most M items, drawn by the seed; copies of test items are left out.

    Raises:
        DataError: there is no item to train on.
    """
    store, settings = run.store, run.settings
    if store.stages.is_finished(1, "selected"):
        return
    samples = store.samples(1)
    copies = [match for sample in samples if (match := find_contamination(run, sample)) is not None]
    copied = {match.sample for match in copies}
    dev_items = choose_dev_items(run, [sample for sample in samples if sample.id not in copied])
    left_out = copied | {item.sample for item in dev_items}
    pool = [sample.id for sample in samples if sample.id not in left_out]
    if not pool:
        raise DataError("there is no item to train on: all items of --data are also test items")
    drawn = sorted(pool, key=lambda sample: hashlib.sha256(f"{settings.seed}:{sample}".encode()).digest())
    store.add_selected(1, drawn[: settings.select], pool=0, dev_items=dev_items, set_aside=copies)
    warn_about_contamination(run, 1)
    run.progress.finish("selected", f"{min(len(drawn), settings.select)} of {len(drawn)} given items")
