"""One check of all that a run works with, before the first call of a teacher is paid for.

What can be wrong with a run's inputs is found here: its teachers and their money, its files and folders, the test data,
the base model, and the trainer. Nothing is written to the disk. What belongs to a stage that is done, or that
``--stop-after`` leaves out, is not checked.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dsrl.corpus.reader import Corpus
from dsrl.errors import DataError, SettingsError, StoreError
from dsrl.pipeline.forecast import first_request
from dsrl.pipeline.instructor import Definition
from dsrl.pipeline.stages import STAGES
from dsrl.pipeline.stages.evaluated import load_items
from dsrl.pipeline.stages.trained import (
    UNKNOWN_OUTPUT,
    make_job,
    output_folder,
    owns_output,
    refuse_filled,
    work_folder,
)
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import SamplerSpec, TaskSpec, TeacherSpec, TrainerSpec
from dsrl.settings import Settings
from dsrl.storage.run_store import RunStore
from dsrl.teaching.budget import check_first_call, check_price
from dsrl.teaching.ledger import CallPolicy
from dsrl.teaching.pricing import get_price
from dsrl.teaching.reply_store import read_statistics
from dsrl.types import Purpose, TrainJob

#: A sample takes at least so many bytes in run.db, and its replies as many in calls.db.
_BYTES_A_SAMPLE = 1024
_WEIGHTS = (".safetensors", ".bin")


@dataclass(frozen=True)
class Inputs:
    """All that a run works with, bound but not yet checked.

    Attributes:
        settings: as resolved.
        model: folder or hub id of the base model.
        folder: of the run; it need not be there.
        cache: folder of ``calls.db`` and the indexes; it need not be there.
        task, trainer: bound plugins.
        sampler: bound to the base model.
        teachers: bound plugins, by what they do.
        terms: on which they are asked.
        definition: the task in words.
        stop_after: the last stage of this command.
    """

    settings: Settings
    model: str
    folder: Path
    cache: Path
    task: Plugin[TaskSpec]
    sampler: Plugin[SamplerSpec]
    trainer: Plugin[TrainerSpec]
    teachers: Mapping[Purpose, Plugin[TeacherSpec]]
    policy: CallPolicy
    definition: Definition
    stop_after: str = STAGES[-1]


@dataclass(frozen=True, slots=True)
class RunState:
    """How far a run is, as far as checks depend on it.

    Attributes:
        output: which folder the last training was started for (:func:`dsrl.pipeline.stages.trained.output_mark`); None if
            it was not started.
        trained: whether the last training is done.
        unpaid: whether a larger budget would bring more samples, which are then trained on anew.
        items: the test items that are kept in the run, as (input, canonical label).
        finished: whether nothing is left to do if the test items are still these.
    """

    output: str | None = None
    trained: bool = False
    unpaid: bool = False
    items: tuple[tuple[str, str], ...] = ()
    finished: bool = False


def check_inputs(inputs: Inputs) -> Sequence[tuple[str, str]] | None:
    """Check everything, the cheap things first.

    Returns:
        The test items as (input, canonical label), which were loaded to be checked; None where this command does not
        need them.

    Raises:
        DsrlError: what is wrong, where, and what would work.
    """
    done = _state_of(inputs.folder, inputs.settings.iterations)
    check_teachers(inputs.settings, inputs.teachers, inputs.policy, inputs.task)
    check_files(inputs.settings)
    _check_budget(inputs)
    _check_folders(inputs)
    if _reaches(inputs, "trained"):
        _check_output(inputs, done)
    items = None
    if _reaches(inputs, "evaluated"):
        items = load_items(inputs.task, inputs.settings.dataset_path, inputs.settings.test_size)
    finished = done.finished and (items is None or tuple(items) == done.items)
    if _reaches(inputs, "attempted") and not finished and inputs.sampler.implements("check"):
        inputs.sampler.hook.check()
    if _reaches(inputs, "trained") and (not done.trained or done.unpaid) and inputs.trainer.implements("check"):
        inputs.trainer.hook.check(job=_empty_job(inputs))
    return items


def check_teachers(
    settings: Settings, teachers: Mapping[Purpose, Plugin[TeacherSpec]], policy: CallPolicy, task: Plugin[TaskSpec]
) -> None:
    """Find what is wrong with the teachers before one is asked: no key, no model, no price with a budget.

    Raises:
        DsrlError: what it is.
    """
    models = {purpose: settings.teacher_of(purpose)[1] for purpose in teachers}
    for teacher, model in {(id(t), models[purpose]): (t, models[purpose]) for purpose, t in teachers.items()}.values():
        if teacher.implements("prepare"):
            teacher.hook.prepare(task=task, model=model)
    asked = [models[purpose] or teacher.name for purpose, teacher in teachers.items()]
    for priced in policy.prices:
        if priced not in asked:
            raise SettingsError(
                f"--price is given for {priced!r}, but this run asks {', '.join(dict.fromkeys(asked))}; name that, or leave "
                "it out"
            )
    for purpose, teacher in teachers.items():
        model = models[purpose]
        check_price(policy.budget, get_price(teacher, model, policy.prices), model or teacher.name)
        if policy.batch and not teacher.implements("submit_batch"):
            raise SettingsError(f"teacher {teacher.name!r} has no batches; leave --batch out")


def check_files(settings: Settings) -> None:
    """Refuse files of the settings that are not there, without reading them.

    Raises:
        DataError: names the file and its flag.
    """
    if settings.corpus:
        Corpus([Path(path) for path in settings.corpus])
    path = settings.dataset_path
    if path and (path.startswith((".", "/", "~")) or path.endswith((".jsonl", ".json"))) and not os.path.exists(path):
        raise DataError(f"data set {path} is not there; give --dataset-path an existing file, folder or hub id")
    output = settings.output_model
    if output and os.path.exists(output) and not os.path.isdir(output):
        raise DataError(f"--output-model {output} is a file; name a folder that is empty or not there yet")


def check_writable(folder: Path, flag: str) -> None:
    """Refuse a folder that cannot be made or written into, by writing a file without a name where it will be.

    Args:
        folder: it need not be there; nothing is left behind.
        flag: the setting that names another one, for the text.

    Raises:
        StoreError: names the folder and the flag.
    """
    place = _existing(folder)
    if not place.is_dir():
        raise StoreError(f"{folder} cannot be a folder, for {place} is a file; name another one with {flag}")
    try:
        with tempfile.TemporaryFile(dir=place, prefix=".dsrl-check-"):
            pass
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StoreError(f"{folder}: no room on the disk; free some, or name another folder with {flag}") from error
        raise StoreError(
            f"{folder} cannot be written ({error.strerror}); check the permissions of {place}, or name another folder "
            f"with {flag}"
        ) from error


def check_room(needs: Mapping[Path, int], what: str) -> None:
    """Refuse a disk that has too little room; folders on the same disk count together.

    Args:
        needs: bytes that each folder will take, at least. The folders need not be there.
        what: is going to be written, for the text.

    Raises:
        StoreError: names the folder, what is needed and what is there.
    """
    by_disk: dict[int, list[Path]] = {}
    for folder in needs:
        with suppress(OSError):  # a folder that cannot be reached is told by what writes to it
            by_disk.setdefault(_existing(folder).stat().st_dev, []).append(folder)
    for folders in by_disk.values():
        needed = sum(needs[folder] for folder in folders)
        free = shutil.disk_usage(_existing(folders[0])).free
        if free < needed:
            raise StoreError(
                f"no room on the disk of {folders[0]}: {what} takes at least {_size(needed)}, and {_size(free)} is free; "
                "free some, or use a folder on another disk"
            )


# --- the parts of check_inputs -------------------------------------------------------------------------------------------


def _reaches(inputs: Inputs, stage: str) -> bool:
    return STAGES.index(stage) <= STAGES.index(inputs.stop_after)


def _state_of(folder: Path, rounds: int) -> RunState:
    """Look how far a run is; a run that is not there, or was stopped as it began, has done nothing."""
    if not (folder / "run.db").is_file():
        return RunState()
    store = RunStore(folder, work=False)
    try:
        items = tuple((input, label) for _, input, label in store.items())
        evaluated = items != () and all(len(store.evaluations(m)) == len(items) for m in ("base", "trained"))
        unpaid = bool(store.unpaid())
        return RunState(
            output=store.marked(f"training-{rounds}"),
            trained=store.marked(f"trained-{rounds}") is not None,
            unpaid=unpaid,
            items=items,
            finished=evaluated and not unpaid,
        )
    finally:
        store.close()


def _check_budget(inputs: Inputs) -> None:
    """Refuse a budget that the first call does not fit into, before an index is built; replies that are stored are free."""
    settings, policy = inputs.settings, inputs.policy
    if policy.budget is None:
        return
    first = first_request(settings, inputs.definition, len(settings.domain or tuple(inputs.task.hook.domains())))
    name, model, _ = settings.teacher_of(first.purpose)
    price = get_price(inputs.teachers[first.purpose], model, policy.prices)
    if price is None or read_statistics(inputs.cache / "calls.db", first.purpose, name, model):
        return
    batch = policy.batch and first.purpose == "write"
    check_first_call(policy.budget, price, first, f"{name}:{model}".rstrip(":"), batch)


def _check_folders(inputs: Inputs) -> None:
    check_writable(inputs.folder, "--runs-dir")
    check_writable(inputs.cache, "--cache-dir")
    rows = inputs.settings.samples * _BYTES_A_SAMPLE
    check_room({inputs.folder: rows, inputs.cache: rows}, f"a run of {inputs.settings.samples} samples")


def _check_output(inputs: Inputs, done: RunState) -> None:
    """Refuse a folder for the trained model that cannot take it."""
    settings = inputs.settings
    output = output_folder(settings, inputs.folder, settings.iterations)
    owned = owns_output(done.output, settings, settings.iterations)
    if done.trained:
        if not owned and done.output != UNKNOWN_OUTPUT:
            where = (done.output or "").removeprefix("output: ")
            again = f"give --output-model {where} again" if where else "leave --output-model out"
            raise SettingsError(
                f"run {settings.name!r} is trained already, and its model is in {where or 'the folder of the run'}; "
                f"{again}, and copy the model to where you want it"
            )
        return
    if not owned:
        refuse_filled(output)
    for own in (inputs.folder / "data", inputs.folder / "rounds", inputs.cache):
        ours, theirs = own.resolve(), output.resolve()
        if ours.is_relative_to(theirs) or theirs.is_relative_to(ours):
            raise SettingsError(
                f"--output-model {output} overlaps with {own}, which the run fills; name another folder"
            )
    check_writable(output.parent, "--output-model")
    check_room({output: _weights_size(inputs.model)}, "the trained model")


def _empty_job(inputs: Inputs) -> TrainJob:
    settings, folder = inputs.settings, inputs.folder
    output = output_folder(settings, folder, settings.iterations)
    work = work_folder(folder, settings.iterations)
    return make_job(settings, inputs.definition, inputs.model, (), output, work)


def _weights_size(model: str) -> int:
    """Give the bytes of a base model's weights; 0 for a hub id, which the plugins know more about."""
    folder = Path(model)
    if not folder.is_dir():
        return 0
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in _WEIGHTS and path.is_file())


def _existing(folder: Path) -> Path:
    """Give the folder, or the nearest one above it that is there."""
    place = folder.absolute()
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    return place


def _size(number: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} bytes"
