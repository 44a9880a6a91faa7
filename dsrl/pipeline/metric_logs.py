"""The metrics of a training, written where people look: TensorBoard, Weights & Biases, trackio (``--log-to``).

The metrics have the names that they have in ``metrics.jsonl``. A library is imported only if it is asked for, and before
anything is paid it is checked that it is there. A log that fails does not end the training.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from dsrl.errors import SettingsError

PROJECT = "dsrl"


class MetricLog(Protocol):
    """A place for the metrics of one training."""

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write the metrics of a step."""

    def close(self) -> None:
        """Write what is not written yet."""


class TensorBoardLog:
    """Writes event files, without TensorFlow and without torch."""

    def __init__(self, folder: Path, name: str) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(folder / "tensorboard" / name))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        self._writer.close()


class WandbLog:
    """Writes a run of Weights & Biases; offline, unless the environment variable WANDB_MODE says otherwise."""

    def __init__(self, folder: Path, name: str) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self._run: Any = wandb.init(
            project=PROJECT,
            name=name,
            dir=str(folder),
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=wandb.Settings(silent=True, console="off"),
        )

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class TrackioLog:
    """Writes a run of trackio, which keeps it on this machine; TRACKIO_DIR names the folder."""

    def __init__(self, folder: Path, name: str) -> None:
        import trackio

        self._trackio: Any = trackio
        trackio.init(project=PROJECT, name=name)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self._trackio.log(dict(values), step=step)

    def close(self) -> None:
        self._trackio.finish()


#: Value of ``--log-to`` -> what writes the log. The values are the names of the packages, and of dsrl's extras.
LOGS: Mapping[str, Callable[[Path, str], MetricLog]] = {
    "tensorboard": TensorBoardLog,
    "wandb": WandbLog,
    "trackio": TrackioLog,
}


def check_logs(names: Sequence[str]) -> None:
    """Check that the libraries of all logs are installed, without importing them.

    Raises:
        SettingsError: there is no such log, or its library is missing; the text has the command that installs it.
    """
    for name in names:
        if name not in LOGS:
            raise SettingsError(f"--log-to is {name!r}, but must be one of {', '.join(LOGS)}")
        if find_spec(name) is None:
            raise SettingsError(
                f"--log-to {name} needs the package {name}, which is not installed. Install it with: "
                f"pip install 'data-synthesis-rl[{name}]'"
            )


class MetricLogs:
    """All logs of one training.

    Args:
        logs: name -> the log.
        note: receives a sentence about a log that fails; it is not used any more then.
    """

    def __init__(self, logs: Mapping[str, MetricLog], note: Callable[[str], None]) -> None:
        self._logs, self._note = dict(logs), note

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write the metrics of a step to each log."""
        for name, log in list(self._logs.items()):
            with self._drop_on_error(name):
                log.add(step, values)

    def close(self) -> None:
        """Close each log."""
        for name, log in list(self._logs.items()):
            with self._drop_on_error(name):
                log.close()

    @contextmanager
    def _drop_on_error(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a library that may raise anything
            self._logs.pop(name, None)
            self._note(_describe_failure(name, error))


@contextmanager
def open_logs(names: Sequence[str], folder: Path, run: str, note: Callable[[str], None]) -> Iterator[MetricLogs]:
    """Open logs for the length of a training.

    Args:
        names: the values of ``--log-to``.
        folder: folder for the files of the logs, if their library lets one choose it.
        run: the name of the training.
        note: receives a sentence about a log that fails.
    """
    opened: dict[str, MetricLog] = {}
    for name in dict.fromkeys(names):
        try:
            opened[name] = LOGS[name](folder, run)
        except Exception as error:  # noqa: BLE001 - a library that may raise anything
            note(_describe_failure(name, error))
    logs = MetricLogs(opened, note)
    try:
        yield logs
    finally:
        logs.close()


def _describe_failure(name: str, error: BaseException) -> str:
    reason = f"{type(error).__name__}: {error}"
    return f"--log-to {name} has failed and is off from now on ({reason}); metrics.jsonl has everything"
