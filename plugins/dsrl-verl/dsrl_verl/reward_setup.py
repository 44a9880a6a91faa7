"""What the reward needs in verl's workers, as a file: the tasks, with the content of their overrides, and the limits.

A worker can be on another machine, where a file of an override does not exist; so its content travels, and not its path.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dsrl import BoundPlugin, PluginError, PluginRef, load


@dataclass(frozen=True, slots=True)
class TaskCopy:
    """A task as a worker binds it again.

    Attributes:
        name: the name that the user typed.
        options: the options of the task.
        overrides: file name and content of each override.
    """

    name: str
    options: Mapping[str, Any]
    overrides: tuple[tuple[str, str], ...] = ()


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
            key: TaskCopy(task["name"], task["options"], tuple((name, text) for name, text in task["overrides"]))
            for key, task in facts["tasks"].items()
        }
        return RewardSetup(tasks, Path(facts["log"]), facts["attempt"], facts["seconds"], facts["memory_mb"])


def copy_task(task: BoundPlugin[Any]) -> TaskCopy:
    """Describe a task so that a worker on another machine can bind it again.

    Raises:
        PluginError: an option of the task cannot be written as JSON, or an override cannot be read.
    """
    ref = task.ref
    try:
        json.dumps(dict(ref.options))
    except (TypeError, ValueError) as error:
        raise PluginError(f"task {ref.name!r}: its options cannot be handed to verl's workers: {error}") from error
    try:
        overrides = tuple((Path(path).name, Path(path).read_text(encoding="utf-8")) for path in ref.overrides)
    except (OSError, ValueError) as error:
        raise PluginError(f"task {ref.name!r}: an override cannot be read: {error}") from error
    return TaskCopy(ref.name, dict(ref.options), overrides)


def bind_task(task: TaskCopy) -> BoundPlugin[Any]:
    """Bind a task again in this process; its overrides stand in files of this machine while they are imported.

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
        return load(PluginRef("task", task.name, dict(task.options), tuple(paths)), "task")
