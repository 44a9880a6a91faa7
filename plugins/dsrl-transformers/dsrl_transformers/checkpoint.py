"""What a training leaves on the disk: a checkpoint while it runs, and a model at its end. Both are written atomically."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from dsrl import StoreError, TrainItem, TrainJob, check_room

log = logging.getLogger(__name__)

#: Checkpoints may take at most one part in this many of the time.
_MIN_TIME_RATIO = 20
#: Fields of a job that do not change the result of GRPO.
_IRRELEVANT = ("output_dir", "work_dir", "device", "dev_items")


def make_fingerprint(job: TrainJob) -> str:
    """Return a short text. Two jobs have the same one if a checkpoint of one is valid for the other."""
    # Only what the weights depend on: a field that GRPO does not use must not make a checkpoint unusable.
    facts = {f.name: getattr(job, f.name) for f in fields(job) if f.name not in _IRRELEVANT}
    facts["items"] = [_describe_item(item) for item in job.items]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def _describe_item(item: TrainItem) -> dict[str, str]:
    facts = {"id": item.id, "prompt": item.prompt, "input": item.input, "label": item.label}
    if item.prompt.system:
        facts["system"] = item.prompt.system
    if item.prompt.is_chat:
        facts["chat_template"] = "on"
    return facts


class Checkpoints:
    """The checkpoint of one job in its work folder.

    Args:
        folder: the work folder; it is created if it does not exist.
        job: the job's fingerprint, see :func:`make_fingerprint`.
        seconds: minimum time between two checkpoints.

    Raises:
        StoreError: the folder cannot be created.
    """

    def __init__(self, folder: Path, job: str, seconds: float) -> None:
        self._path, self._end_mark = folder / "checkpoint.pt", folder / "finished"
        self._job, self._seconds, self._pause = job, seconds, seconds
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
        if not self._path.exists():
            return None
        try:
            state = torch.load(self._path, map_location=device, weights_only=True)
            job = state.pop("job")
        except Exception as error:  # noqa: BLE001  a damaged file may raise anything
            log.warning("The checkpoint %s cannot be read, so the training starts again: %s", self._path, error)
            return None
        if job != self._job:
            raise StoreError(
                f"{self._path} is a checkpoint of a training with other settings or items. Remove it, or give another "
                "folder."
            )
        return dict(state)

    def is_due(self) -> bool:
        """Return whether it is time for the next checkpoint."""
        return time.monotonic() - self._last_time >= self._pause

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint by ``state`` (tensors and plain values).

        Raises:
            StoreError: the checkpoint cannot be written.
        """
        start = time.monotonic()
        partial = self._path.with_suffix(".partial")
        try:
            with partial.open("wb") as file:
                torch.save({**state, "job": self._job}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self._path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            partial.unlink(missing_ok=True)
            raise StoreError(f"The checkpoint {self._path} cannot be written: {error}") from error
        self._last_time = time.monotonic()
        if self._seconds:
            self._pause = max(self._seconds, _MIN_TIME_RATIO * (self._last_time - start))

    @property
    def is_finished(self) -> bool:
        """Whether all steps of the job are done."""
        return self._end_mark.exists() and self._end_mark.read_text() == self._job

    def mark_finished(self) -> None:
        """Record that all steps are done. From now on, a model in the output folder is the model of this job."""
        partial = self._end_mark.with_suffix(".partial")
        partial.write_text(self._job)
        os.replace(partial, self._end_mark)

    def remove(self) -> None:
        """Delete the checkpoint; the model is saved."""
        self._path.unlink(missing_ok=True)


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
