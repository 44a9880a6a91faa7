"""Trainings of a run that were repeated with other seeds, on the same samples; each is a run below the folder of the run."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

from dsrl.errors import DsrlError
from dsrl.pipeline.inputs import compute_digest
from dsrl.storage.run_store import RunStore, run_folders

#: The folder of the trainings, below that of the run.
FOLDER = "ablations"
#: The name that a run has among its variants: the same samples and settings, trained with other seeds.
AS_THE_RUN = "as the run"
_NAME = re.compile(r"as-the-run-seed-(\d+)")


def compute_origin(store: RunStore) -> str:
    """Return a digest of the samples, the training set and the test items of a run; it is stored with each repetition."""
    items = [(item.input, item.label) for item in store.items()]
    return compute_digest([store.id, len(store.scores(1)), store.selected(1), items])


def read_repeats(store: RunStore) -> dict[int, dict[int, bool]]:
    """Return seed -> number of a test item -> whether the model of that training answers it rightly.

    Only trainings that have answered all present test items are returned, and not that of the run itself. One that cannot
    be read is left out.

    Raises:
        StoreError: the run cannot be read.
    """
    found = {
        int(name[1]): folder for folder in run_folders(store.folder / FOLDER) if (name := _NAME.fullmatch(folder.name))
    }
    if not found:
        return {}
    origin, n_items = compute_origin(store), len(store.items())
    answers = {seed: _read_answers(found[seed], origin) for seed in sorted(found)}
    return {seed: own for seed, own in answers.items() if len(own) == n_items}


def _read_answers(folder: Path, origin: str) -> dict[int, bool]:
    try:
        with closing(RunStore(folder, work=False)) as run:
            return run.evaluations("trained") if run.origin == origin else {}
    except DsrlError:
        return {}
