"""What a training leaves on the disk: a checkpoint while it runs, a model at its end; whole or not at all."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dsrl.errors import StoreError
from dsrl.pipeline.preflight import check_room
from dsrl.types import TrainJob

log = logging.getLogger(__name__)

#: Checkpoints may take at most one part in so many of the time.
_SHARE = 20


def fingerprint(job: TrainJob) -> str:
    """Give a short text that two jobs share if a checkpoint of one is good for the other."""
    told = asdict(job)
    for where in ("output_dir", "work_dir", "device"):
        del told[where]
    return hashlib.blake2b(json.dumps(told, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


class Checkpoints:
    """The checkpoint of one job in its work folder.

    Args:
        folder: made if it is not there.
        job: the job's :func:`fingerprint`.
        seconds: at least so long between two checkpoints.

    Raises:
        StoreError: the folder cannot be made.
    """

    def __init__(self, folder: Path, job: str, seconds: float) -> None:
        self._path, self._finished = folder / "checkpoint.pt", folder / "finished"
        self._job, self._seconds, self._pause = job, seconds, seconds
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"The folder {folder} for checkpoints cannot be made: {error}") from error
        self._last = time.monotonic()

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Give the state that was last saved; None if there is none.

        Raises:
            StoreError: it belongs to another job.
        """
        if not self._path.exists():
            return None
        try:
            state = torch.load(self._path, map_location=device, weights_only=True)
            job = state.pop("job")
        except Exception as error:  # noqa: BLE001  a damaged file may raise anything
            log.warning("The checkpoint %s cannot be read, training starts over: %s", self._path, error)
            return None
        if job != self._job:
            raise StoreError(
                f"{self._path} is a checkpoint of a training with other settings or items: remove it, or give another "
                "folder."
            )
        return dict(state)

    def due(self) -> bool:
        """Say whether it is time to save again."""
        return time.monotonic() - self._last >= self._pause

    def save(self, state: dict[str, Any]) -> None:
        """Save ``state`` (tensors and plain values) in place of the one before."""
        start = time.monotonic()
        partial = self._path.with_suffix(".partial")
        try:
            with partial.open("wb") as file:
                torch.save({**state, "job": self._job}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self._path)
        except (OSError, RuntimeError) as error:  # torch gives a full disk as a RuntimeError
            partial.unlink(missing_ok=True)
            raise StoreError(f"The checkpoint {self._path} cannot be written: {error}") from error
        self._last = time.monotonic()
        if self._seconds:
            self._pause = max(self._seconds, _SHARE * (self._last - start))

    @property
    def finished(self) -> bool:
        """Whether the job was done to its end."""
        return self._finished.exists() and self._finished.read_text() == self._job

    def finish(self) -> None:
        """Note that all steps are done; what is in the output folder from now on is this job's model."""
        partial = self._finished.with_suffix(".partial")
        partial.write_text(self._job)
        os.replace(partial, self._finished)

    def remove(self) -> None:
        """Let go of the checkpoint when the model is saved."""
        self._path.unlink(missing_ok=True)


def check_output(folder: Path) -> None:
    """Refuse an output folder that holds something.

    Raises:
        StoreError: it does.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder} is there already and is no empty folder; the trained model would overwrite it.")


def check_target(folder: Path) -> None:
    """Refuse an output folder that :func:`save_whole` cannot put a folder in the place of.

    Raises:
        StoreError: it is a link or a mounted disk.
    """
    if folder.is_symlink() or os.path.ismount(folder):
        kind = "a symbolic link" if folder.is_symlink() else "the top of a mounted disk"
        raise StoreError(
            f"the folder for the trained model, {folder}, is {kind}, which cannot be replaced by the model; "
            "name a folder below it with --output-model"
        )


def check_training_room(job: TrainJob, weights: int, itemsize: int) -> None:
    """Refuse a disk without room for checkpoints and the model.

    Args:
        job: says where they go.
        weights: bytes of the model's weights.
        itemsize: bytes of one number of them.

    Raises:
        StoreError: there is too little room.
    """
    # A checkpoint holds the weights and the optimizer's two moments in float32; of adapters it is small.
    checkpoint = 0 if job.lora_rank > 0 else weights // itemsize * 4 * 3
    # The next one is written beside the last.
    needed = 2 * checkpoint - _size(job.work_dir / "checkpoint.pt")
    check_room(
        {job.work_dir: max(0, needed), job.output_dir.parent: weights}, "a checkpoint of the training and the model"
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def save_whole(folder: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a folder next to ``folder``, then put it in its place.

    Raises:
        StoreError: it cannot be written.
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
