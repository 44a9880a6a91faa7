"""What a training leaves on the disk: a checkpoint while it runs, and a model at its end. Both are written atomically."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from dsrl import StoreError, TrainItem, TrainJob, check_room

log = logging.getLogger(__name__)

#: Checkpoints may take at most one part in this many of the time.
_MIN_TIME_RATIO = 10
#: If a kill can lose more than so much of a training, the user is warned.
_MAX_LOSS_SECONDS = 60.0
#: Fields of a job that do not change the result of GRPO.
_IRRELEVANT = ("output_dir", "work_dir", "device")
#: Fields that matter only if the model is evaluated in training.
_FOR_EVALUATION = ("dev_items", "eval_every")


def make_fingerprint(job: TrainJob, with_outputs: bool = False) -> str:
    """Return a short text. Two jobs have the same one if a checkpoint of one is valid for the other.

    Args:
        job: the job.
        with_outputs: whether the training depends on the outputs of the items.
    """
    # Only what the weights depend on: a field that GRPO does not use must not make a checkpoint unusable.
    is_evaluated = job.eval_every > 0 and job.dev_items
    unused: tuple[str, ...] = _IRRELEVANT if is_evaluated else _IRRELEVANT + _FOR_EVALUATION
    unused += () if job.choose else ("choose",)  # as in the fingerprints of earlier versions
    facts = {f.name: getattr(job, f.name) for f in fields(job) if f.name not in unused}
    for name in ("items", "dev_items"):
        if name in facts:
            facts[name] = [_describe_item(item) for item in facts[name]]
    if with_outputs:
        facts["outputs"] = [item.output for item in job.items]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def _describe_item(item: TrainItem) -> dict[str, str]:
    facts = {"id": item.id, "prompt": item.prompt, "input": item.input, "label": item.label}
    if item.task:
        facts["task"] = item.task
    if item.prompt.system:
        facts["system"] = item.prompt.system
    if item.prompt.is_chat:
        facts["chat_template"] = "on"
    return facts


class Checkpoints:
    """The checkpoint of one job in its work folder, and the best weights so far.

    Args:
        folder: the work folder; it is created if it does not exist.
        job: the job's fingerprint, see :func:`make_fingerprint`.
        seconds: minimum time between two checkpoints; 0: one after every step, however long that takes. None: the first one
            is written after the first step, which shows how long it takes, and the others after ``default_seconds``.
        default_seconds: minimum time between two checkpoints if ``seconds`` is None.

    Raises:
        StoreError: the folder cannot be created.
    """

    def __init__(self, folder: Path, job: str, seconds: float | None, default_seconds: float = 15.0) -> None:
        self._path, self._end_mark, self._best_path = folder / "checkpoint.pt", folder / "finished", folder / "best.pt"
        self._job, self._is_every_step = job, seconds == 0
        self._seconds = default_seconds if seconds is None else seconds
        self._pause = 0.0 if seconds is None else seconds
        self._is_first, self._is_warned = True, False
        self._sync: threading.Thread | None = None
        self._sync_errors: list[OSError] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"The folder {folder} for checkpoints cannot be created: {error}") from error
        self._last_time = time.monotonic()

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Return the state that was last saved; None if there is no readable checkpoint.

        Raises:
            StoreError: the checkpoint belongs to another job.
        """
        return self._read(self._path, device, "so the training starts again")

    def load_best(self, device: torch.device) -> dict[str, Any] | None:
        """Return the best weights, with ``step`` and ``accuracy``; None if there are none that can be read.

        Raises:
            StoreError: they belong to another job.
        """
        return self._read(self._best_path, device, "so the best weights so far are lost")

    def save_best(self, state: dict[str, Any]) -> None:
        """Replace the best weights by ``state``: ``step``, ``accuracy`` and ``weights``.

        Raises:
            StoreError: they cannot be written.
        """
        self._write(self._best_path, state)
        self._finish_file(self._best_path)
        self._raise_sync_error()

    def announce(self) -> None:
        """Warn, before the first step, of a loss that follows from the setting alone."""
        if self._pause > _MAX_LOSS_SECONDS:
            self._is_warned = True
            log.warning(
                "There is at most one checkpoint every %.0f s (--trainer-option checkpoint_seconds): a kill can lose so "
                "much of the training, and the step that is then running.",
                self._pause,
            )

    def is_due(self) -> bool:
        """Return whether it is time for the next checkpoint."""
        return time.monotonic() - self._last_time >= self._pause

    def save(self, state: dict[str, Any], step_seconds: float = 0.0) -> None:
        """Replace the checkpoint by ``state`` (tensors and plain values).

        The state is in the system's hands when the function returns. Unless there is a checkpoint after every step by
        request, another thread waits until the disk has it, and only then replaces the last checkpoint.

        Args:
            state: what to save.
            step_seconds: how long the last step took. A kill can lose a step in addition to the time between checkpoints.

        Raises:
            StoreError: this checkpoint, or the one before it, cannot be written.
        """
        start = time.monotonic()
        self.wait()
        self._write(self._path, state)
        if self._is_every_step:
            self._finish_file(self._path)
            self._raise_sync_error()
        else:
            self._sync = threading.Thread(target=self._finish_file, args=(self._path,), name="dsrl-checkpoint")
            self._sync.start()
        self._last_time = time.monotonic()
        if not self._is_every_step:
            seconds = self._last_time - start
            self._pause = max(self._seconds, (_MIN_TIME_RATIO - 1) * seconds)
            self._report_loss(seconds, step_seconds)
        self._is_first = False

    def wait(self) -> None:
        """Wait until the disk has the last checkpoint.

        Raises:
            StoreError: it cannot be written.
        """
        if self._sync is not None:
            self._sync.join()
            self._sync = None
        self._raise_sync_error()

    @property
    def is_finished(self) -> bool:
        """Whether all steps of the job are done."""
        return self._end_mark.exists() and self._end_mark.read_text() == self._job

    def mark_finished(self) -> None:
        """Record that all steps are done. From now on, a model in the output folder is the model of this job."""
        self.wait()
        partial = self._end_mark.with_suffix(".partial")
        partial.write_text(self._job)
        os.replace(partial, self._end_mark)

    def remove(self) -> None:
        """Delete the checkpoint and the best weights; the model is saved."""
        self.wait()
        self._path.unlink(missing_ok=True)
        self._best_path.unlink(missing_ok=True)

    def _report_loss(self, seconds: float, step_seconds: float) -> None:
        """Say once how much a kill can lose, as a warning if that is much; again if it becomes much later."""
        loss = self._pause + step_seconds
        is_much = loss > _MAX_LOSS_SECONDS
        if self._is_warned or not (self._is_first or is_much):
            return
        self._is_warned = is_much
        log.log(
            logging.WARNING if is_much else logging.INFO,
            "A checkpoint takes %.1f s and a step %.1f s. Checkpoints take at most a tenth of the time, so there is one "
            "every %.0f s or after the step that is then running: a kill can lose about %.0f s of the training.",
            seconds, step_seconds, self._pause, loss,
        )  # fmt: skip

    def _read(self, path: Path, device: torch.device, consequence: str) -> dict[str, Any] | None:
        if not path.exists():
            return None
        try:
            state = torch.load(path, map_location=device, weights_only=True)
            job = state.pop("job")
        except Exception as error:  # noqa: BLE001  a damaged file may raise anything
            log.warning("The checkpoint %s cannot be read, %s: %s", path, consequence, error)
            return None
        if job != self._job:
            raise StoreError(
                f"{path} is a checkpoint of a training with other settings or items. Remove it, or give another folder."
            )
        return dict(state)

    def _write(self, path: Path, state: dict[str, Any]) -> None:
        """Write a state beside its file, without waiting for the disk."""
        partial = path.with_suffix(".partial")
        try:
            with partial.open("wb") as file, _without_checksums():
                torch.save({**state, "job": self._job}, file)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            partial.unlink(missing_ok=True)
            raise StoreError(f"The checkpoint {path} cannot be written: {error}") from error

    def _finish_file(self, path: Path) -> None:
        """Wait until the disk has the new file, and put it in the place of the old one."""
        partial = path.with_suffix(".partial")
        try:
            descriptor = os.open(partial, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(partial, path)
        except OSError as error:
            self._sync_errors.append(error)

    def _raise_sync_error(self) -> None:
        if self._sync_errors:
            error = self._sync_errors.pop()
            raise StoreError(f"The checkpoint {self._path} cannot be written: {error}") from error


@contextmanager
def _without_checksums() -> Iterator[None]:
    """Let torch write files without checksums, which take two thirds of the time. Nothing reads them."""
    functions = torch.serialization
    if not hasattr(functions, "set_crc32_options"):
        yield
        return
    is_enabled = functions.get_crc32_options()
    functions.set_crc32_options(False)
    try:
        yield
    finally:
        functions.set_crc32_options(is_enabled)


def check_output_is_free(folder: Path) -> None:
    """Check that the output folder does not exist or is empty.

    Raises:
        StoreError: there is something in its place.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(
            f"{folder} exists and is not an empty folder; the trained model would overwrite it. Remove it, or give another "
            "folder with --output-model."
        )


def check_output_place(folder: Path) -> None:
    """Check that :func:`write_folder` can put a folder in the place of the output folder.

    Raises:
        StoreError: the output folder is a symbolic link or the top of a mounted disk.
    """
    if folder.is_symlink() or os.path.ismount(folder):
        kind = "a symbolic link" if folder.is_symlink() else "the top of a mounted disk"
        raise StoreError(
            f"the folder for the trained model, {folder}, is {kind}, which the model cannot replace; give a folder below it "
            "with --output-model"
        )


def check_training_room(job: TrainJob, weight_bytes: int, itemsize: int) -> None:
    """Check that the disk has space for the checkpoints and the model.

    Args:
        job: names the folders.
        weight_bytes: size of the model's weights in bytes.
        itemsize: bytes of one number of the weights.

    Raises:
        StoreError: the disk has too little space.
    """
    # A checkpoint holds the weights and the optimizer's two moments in float32. For adapters it is small.
    checkpoint = 0 if job.lora_rank > 0 else weight_bytes // itemsize * 4 * 3
    # The next checkpoint is written beside the last one.
    needs = 2 * checkpoint - _get_size(job.work_dir / "checkpoint.pt")
    if job.eval_every > 0 and job.lora_rank == 0:
        needs += 2 * weight_bytes  # the best weights, and the next ones beside them
    check_room(
        {job.work_dir: max(0, needs), job.output_dir.parent: weight_bytes},
        "a checkpoint of the training and the model",
    )


def _get_size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a new folder beside ``folder``, then rename it to ``folder``.

    Raises:
        StoreError: the folder cannot be written.
    """
    partial = folder.with_name(folder.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write(partial)
        os.replace(partial, folder)
    except OSError as error:
        raise StoreError(f"The model cannot be written to {folder}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
