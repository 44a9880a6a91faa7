"""What the reward needs in verl's workers, as a file: the tasks, with the content of their files, and the limits.

A worker can be on another machine, where an override or the file of a task does not exist; so the content travels, and not
the path.
"""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tomli_w

from dsrl import BoundPlugin, PluginError, PluginRef, load

#: Endings of the names of tasks from a file.
_TASK_FILES = (".toml", ".py")


@dataclass(frozen=True, slots=True)
class TaskCopy:
    """A task as a worker binds it again.

    Attributes:
        name: the name that the user typed.
        options: the options of the task.
        overrides: file name and content of each override.
        file: content of the task's own file, if it is one from a file; ``name`` is then the name of the file.
    """

    name: str
    options: Mapping[str, Any]
    overrides: tuple[tuple[str, str], ...] = ()
    file: str | None = None


@dataclass(frozen=True, slots=True)
class RewardSetup:
    """What a reward worker reads when it starts.

    Attributes:
        tasks: the tasks by the name that items have.
        log: folder of the logs of rewards.
        attempt: number of this start of verl; the logs of different starts are different files.
        seconds: time that one reward may take.
        memory_mb: mebibytes that the process of the rewards may take after its imports.
    """

    tasks: Mapping[str, TaskCopy]
    log: Path
    attempt: int
    seconds: float
    memory_mb: int

    def write(self, path: Path) -> None:
        """Write the file for the workers."""
        facts = {**asdict(self), "log": str(self.log)}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(facts), encoding="utf-8")

    @staticmethod
    def read(path: Path) -> RewardSetup:
        """Read the file."""
        facts = json.loads(path.read_text(encoding="utf-8"))
        tasks = {
            key: TaskCopy(
                task["name"], task["options"], tuple((name, text) for name, text in task["overrides"]), task["file"]
            )
            for key, task in facts["tasks"].items()
        }
        return RewardSetup(tasks, Path(facts["log"]), facts["attempt"], facts["seconds"], facts["memory_mb"])


def copy_task(task: BoundPlugin[Any]) -> TaskCopy:
    """Describe a task so that a worker on another machine can bind it again.

    Raises:
        PluginError: an option of the task cannot be written as JSON, or a file cannot be read.
    """
    ref = task.ref
    try:
        json.dumps(dict(ref.options))
    except (TypeError, ValueError) as error:
        raise PluginError(f"task {ref.name!r}: its options cannot be handed to verl's workers: {error}") from error
    try:
        overrides = tuple((Path(path).name, Path(path).read_text(encoding="utf-8")) for path in ref.overrides)
        file = _read_task_file(Path(ref.name)) if Path(ref.name).suffix in _TASK_FILES else None
    except (OSError, ValueError) as error:
        raise PluginError(f"task {ref.name!r}: a file of it cannot be read: {error}") from error
    return TaskCopy(ref.name if file is None else Path(ref.name).name, dict(ref.options), overrides, file)


def _read_task_file(path: Path) -> str:
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix != ".toml":
        return text
    # These name other files, which a worker may not have, and no reward needs them.
    return tomli_w.dumps({key: value for key, value in tomllib.loads(text).items() if key not in ("data", "demos")})


def bind_task(task: TaskCopy) -> BoundPlugin[Any]:
    """Bind a task again in this process; its code stands in files of this machine while it is imported.

    Raises:
        DsrlError: the task, or an override, cannot be imported here.
    """
    with tempfile.TemporaryDirectory(prefix="dsrl-override-") as folder:
        paths = []
        for number, (name, text) in enumerate(task.overrides):
            path = Path(folder, str(number), name)
            path.parent.mkdir()
            path.write_text(text, encoding="utf-8")
            paths.append(str(path))
        name = task.name
        if task.file is not None:
            file = Path(folder, task.name)
            file.write_text(task.file, encoding="utf-8")
            name = str(file)
        return load(PluginRef("task", name, dict(task.options), tuple(paths)), "task")
