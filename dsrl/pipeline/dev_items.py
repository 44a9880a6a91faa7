"""Development items: what a training is evaluated on while it runs (``--eval-every``). The training never sees them.

They are a tenth of the scored samples, held out before the selection, or real items of the train split of a data set. They
are never test items, because the best model is chosen by them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from dsrl.errors import DataError, SettingsError
from dsrl.pipeline.run_tasks import RunTask, RunTasks
from dsrl.pipeline.runtime import OpenRun
from dsrl.pipeline.task_data import draw, label_items, load_examples, normalise
from dsrl.settings import Settings
from dsrl.storage.attempts import DevItem
from dsrl.types import Sample

#: One of so many samples is held out.
HELD_OUT_SHARE = 10
#: With fewer samples, none is held out: an accuracy on fewer than eight items says nothing.
LEAST_SAMPLES = 80
#: Maximum number of items that are drawn from a train split.
MOST_REAL_ITEMS = 200


def choose_dev_items(run: OpenRun, samples: Sequence[Sample]) -> list[DevItem]:
    """Choose the development items of an iteration; none if the run does not evaluate while it trains.

    Args:
        run: the open run; the user is told if there are too few samples.
        samples: the scored samples.

    Raises:
        DataError: the train split cannot be used.
    """
    settings = run.settings
    if not settings.eval_every:
        return []
    if settings.eval_data == "train":
        return load_all_real_items(run.context.tasks, settings.seed)
    held_out = hold_out(samples, settings.seed)
    if not held_out:
        run.add_note(
            f"only {len(samples)} samples have a score, and of fewer than {LEAST_SAMPLES} none is held out: the training is "
            "not evaluated while it runs (--eval-every), and its last model is kept"
        )
    return [DevItem(sample.id, sample.input, str(sample.label), sample.task) for sample in held_out]


def hold_out(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Choose a tenth of the samples of each task, in the same way every time; none of fewer than :data:`LEAST_SAMPLES`.

    A sample and the one that was rewritten from it are chosen together, because they are much alike. They come in an order
    that the seed draws. In the first pass, no label gets more than its tenth, rounded up; the second pass fills the rest.

    Args:
        samples: samples with a label.
        seed: draws the order.
    """
    if len(samples) < LEAST_SAMPLES:
        return []
    tasks = dict.fromkeys(sample.task for sample in samples)
    return [s for task in tasks for s in _hold_out([sample for sample in samples if sample.task == task], seed)]


def _hold_out(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Choose a tenth of the samples of one task."""
    total = len(samples) // HELD_OUT_SHARE
    families: dict[int, list[Sample]] = {}
    for sample in samples:
        families.setdefault(sample.slot, []).append(sample)
    order = sorted(families, key=lambda slot: draw(seed, "held out", slot))
    room = {label: math.ceil(n / HELD_OUT_SHARE) for label, n in Counter(s.label for s in samples).items()}
    chosen: set[int] = set()
    count = 0
    for is_first_pass in (True, False):
        for slot in order:
            labels = Counter(sample.label for sample in families[slot])
            size = len(families[slot])
            fits = count + size <= total and all(room[label] >= n for label, n in labels.items())
            if slot not in chosen and (fits if is_first_pass else count < total):
                chosen.add(slot)
                count += size
                room = {label: n - labels[label] for label, n in room.items()}
    return [sample for sample in samples if sample.slot in chosen]


def check_eval_data(settings: Settings, tasks: RunTasks, is_needed: bool) -> None:
    """Check, before anything is paid, that there are development items if real items shall be used.

    Args:
        settings: the settings of the run.
        tasks: read the data.
        is_needed: whether the items are not stored yet.

    Raises:
        SettingsError: real items are chosen for a training that is not evaluated while it runs.
        DataError: the train split cannot be used.
    """
    if settings.eval_data == "samples":
        return
    if not settings.eval_every:
        raise SettingsError(
            f"--eval-data {settings.eval_data} has no effect without --eval-every; give both or neither"
        )
    if is_needed:
        load_all_real_items(tasks, settings.seed)


def load_all_real_items(tasks: RunTasks, seed: int) -> list[DevItem]:
    """Draw items from the train split of the data set of each task.

    Raises:
        DataError: as in :func:`load_real_items`.
    """
    return [item for key, task in tasks.items() for item in load_real_items(task, seed, key)]


def load_real_items(task: RunTask, seed: int, key: str = "") -> list[DevItem]:
    """Draw items from the train split of the data set of a task. Test items and demonstrations are left out.

    Args:
        task: reads the data and the labels.
        seed: draws the items.
        key: the name of the task for the items; empty in a run of one task.

    Raises:
        DataError: there is no train split, it holds only test items, or a gold answer cannot be read.
    """
    path, columns = task.dataset_path, task.columns
    name = path or f"the task {task.name!r}"
    examples = load_examples(task.plugin, path, "train", columns)
    if examples is None:
        raise DataError(
            f"--eval-data train: task {task.name!r} has no train split of its own; give one with --dataset-path, or leave "
            "--eval-data out"
        )
    known = {normalise(example.input) for example in load_examples(task.plugin, path, "test", columns) or ()}
    known |= {normalise(demo.input) for demo in task.definition.demos}
    real = {normalise(example.input): example for example in examples}
    order = sorted(real.keys() - known, key=lambda text: draw(seed, "held out", text))
    if not order:
        raise DataError(
            f"--eval-data train: every item of the train split of {name} is also a test item or a demonstration (a JSONL "
            "file has only one split); give a data set with the splits train and test, or leave --eval-data out"
        )
    chosen = [real[text] for text in order[:MOST_REAL_ITEMS]]
    labels = label_items(task.plugin, chosen, f"the train split of {name} (--eval-data train)")
    return [DevItem(None, example.input, label, key) for example, label in labels]
