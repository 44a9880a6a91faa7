"""The work folder of a training: verl's checkpoints, the steps that were told, and which job they belong to."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dsrl import StoreError, TrainStep

#: How the name of a local Ray's folder begins.
RAY_PREFIX = "dsrl-ray-"
_FOLDER = re.compile(r"global_step_(\d+)")


class WorkFolder:
    """The files of one job.

    Args:
        folder: the work folder; it is created.
        job: the fingerprint of the job.

    Raises:
        StoreError: the folder cannot be created, or it belongs to another job.
    """

    def __init__(self, folder: Path, job: str) -> None:
        self.folder, self._job = folder, job
        self.checkpoints = folder / "checkpoints"
        self.rewards = folder / "rewards"
        self._told, self._owner, self._end_mark = folder / "told.jsonl", folder / "job", folder / "finished"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not self._owner.exists():
                _replace(self._owner, job)
            elif self._owner.read_text(encoding="utf-8") != job:
                raise StoreError(
                    f"{folder} holds the checkpoints of a training with other settings or items. Remove it, or give another "
                    "folder."
                )
        except OSError as error:
            raise StoreError(f"the folder {folder} for checkpoints cannot be used: {error}") from error

    @property
    def is_finished(self) -> bool:
        """Whether all steps of the job are done and told."""
        return self._end_mark.exists()

    def mark_finished(self) -> None:
        """Record that all steps are done. From now on, a model in the output folder is the model of this job."""
        _replace(self._end_mark, self._job)

    def remove(self) -> None:
        """Delete everything but the mark of the end; the model is saved."""
        for path in (self.checkpoints, self.rewards):
            shutil.rmtree(path, ignore_errors=True)
        for path in self.folder.glob("attempt-*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self.folder.glob("*.parquet"):
            path.unlink(missing_ok=True)
        self._told.unlink(missing_ok=True)

    def begin_attempt(self) -> tuple[int, Path]:
        """Return number and folder of a new start of verl."""
        numbers = [int(path.name.rpartition("-")[2]) for path in self.folder.glob("attempt-*")]
        number = max(numbers, default=0) + 1
        path = self.folder / f"attempt-{number}"
        path.mkdir()
        return number, path

    def note_ray_folder(self, attempt: Path, folder: Path | None) -> None:
        """Remember the folder of a local Ray, which is elsewhere, so that what a kill leaves in it can be removed."""
        if folder is not None:
            (attempt / "ray").write_text(str(folder), encoding="utf-8")

    def list_ray_folders(self) -> list[Path]:
        """Return the folders that local Rays of earlier attempts have left behind."""
        found = [Path(note.read_text(encoding="utf-8")) for note in self.folder.glob("attempt-*/ray")]
        # A path that a kill has cut off is none of ours.
        return [path for path in found if path.name.startswith(RAY_PREFIX) and path.is_dir()]

    # --- steps ---

    def read_told(self) -> list[TrainStep]:
        """Return the steps that were told, in their order; a line that a kill has cut off is removed."""
        if not self._told.exists():
            return []
        lines = self._told.read_bytes().splitlines(keepends=True)
        steps = [TrainStep(**json.loads(line)) for line in lines if line.endswith(b"\n")]
        if lines and not lines[-1].endswith(b"\n"):
            _replace(self._told, b"".join(lines[:-1]).decode())
        return steps

    def add_told(self, step: TrainStep) -> None:
        """Store a step before it is told."""
        facts: dict[str, Any] = asdict(step)
        with self._told.open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")

    # --- verl's checkpoints ---

    def choose_checkpoint(self, last_told: int) -> tuple[int, Path | None]:
        """Choose where verl goes on, and remove all other checkpoints.

        verl saves a checkpoint before it tells of the step. After a kill in between, the step would never be told; so the
        checkpoint before is taken. A checkpoint that was not written to its end is not named in verl's own file.

        Args:
            last_told: number of the last step that was told; 0 if there is none.

        Returns:
            The step of the checkpoint and its folder; 0 and None if there is none.
        """
        newest = self._read_newest()
        found = {int(match[1]): path for path in self._list() if (match := _FOLDER.fullmatch(path.name))}
        usable = [step for step in found if step <= min(newest, last_told) and _is_whole(found[step])]
        chosen = max(usable, default=0)
        for step, path in found.items():
            if step != chosen:
                shutil.rmtree(path, ignore_errors=True)
        if not chosen:
            self._newest_file.unlink(missing_ok=True)
            return 0, None
        _replace(self._newest_file, str(chosen))
        return chosen, found[chosen]

    def get_checkpoint(self, step: int) -> Path:
        """Return the folder of the checkpoint of a step."""
        return self.checkpoints / f"global_step_{step}"

    @property
    def _newest_file(self) -> Path:
        return self.checkpoints / "latest_checkpointed_iteration.txt"

    def _read_newest(self) -> int:
        try:
            return int(self._newest_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return 0

    def _list(self) -> list[Path]:
        return list(self.checkpoints.glob("global_step_*")) if self.checkpoints.is_dir() else []


def _is_whole(checkpoint: Path) -> bool:
    return (checkpoint / "data.pt").is_file() and any((checkpoint / "actor").glob("*"))


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
