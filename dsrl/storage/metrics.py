"""``metrics.jsonl``: one line for each training step."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from dsrl.storage.files import replace_file
from dsrl.storage.sqlite import store_errors


class Metrics:
    """The file ``metrics.jsonl`` of a run. It holds each training step once, also after a kill.

    Lines are appended. When lines must be removed (a line that a kill has cut off, or the steps of a training that is
    repeated), the whole file is replaced, so that a kill leaves the old file or the new one.

    A line in the middle that cannot be read is ignored and stays in the file.

    Args:
        path: the file; the first step creates it.
        note: called with a sentence for each line that cannot be read.
    """

    def __init__(self, path: Path, note: Callable[[str], None] = lambda text: None) -> None:
        self._path = path
        self._steps: set[tuple[int, int]] = set()
        lines = self._read_lines()
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()  # a kill has cut it off; its step will be repeated
            replace_file(path, b"".join(lines))
        for number, line in enumerate(lines, 1):
            step = _read_step(line)
            if step is None:
                note(f"{path}:{number} is not a line of metrics and is ignored. Correct or remove the line by hand")
            else:
                self._steps.add(step)

    def forget(self, iteration: int) -> None:
        """Remove the lines of an iteration."""
        lines = self._read_lines()
        rest = [line for line in lines if (_read_step(line) or (None,))[0] != iteration]
        if len(rest) < len(lines):
            replace_file(self._path, b"".join(rest))
        self._steps = {step for step in self._steps if step[0] != iteration}

    def add(self, iteration: int, step: int, values: Mapping[str, float]) -> bool:
        """Append a step, unless the file has it already; return whether it was appended."""
        if (iteration, step) in self._steps:
            return False
        line = json.dumps({"round": iteration, "step": step, **values}) + "\n"
        with store_errors(self._path), self._path.open("ab") as file:
            file.write(line.encode())
        self._steps.add((iteration, step))
        return True

    def read_values(self, iteration: int, name: str) -> dict[int, float]:
        """Return step -> value of a metric, for the steps of an iteration that have it as a number."""
        values = {}
        for line in self._read_lines():
            step = _read_step(line)
            value = json.loads(line).get(name) if step is not None and step[0] == iteration else None
            if step is not None and isinstance(value, (int, float)) and not isinstance(value, bool):
                values[step[1]] = float(value)
        return values

    def _read_lines(self) -> list[bytes]:
        with store_errors(self._path):
            return self._path.read_bytes().splitlines(keepends=True) if self._path.is_file() else []


def _read_step(line: bytes) -> tuple[int, int] | None:
    """Return (iteration, step) of a line; None if it is not a line of metrics."""
    try:
        record = json.loads(line)
        iteration, step = record["round"], record["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return (iteration, step) if isinstance(iteration, int) and isinstance(step, int) else None
