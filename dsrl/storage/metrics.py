"""``metrics.jsonl``: one line for each training step."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from dsrl.storage.sqlite import store_errors


class Metrics:
    """The file ``metrics.jsonl`` of a run: each step once, whatever was killed.

    Lines are only ever appended. Where lines must go (a line that a kill has cut off, the steps of a training that is
    made again), the file is replaced by a new one, so that a kill in the middle leaves the old file or the new one.

    A line in the middle that cannot be read is passed over and kept.

    Args:
        path: made with the first step.
        note: called with a sentence for each line that cannot be read.
    """

    def __init__(self, path: Path, note: Callable[[str], None] = lambda text: None) -> None:
        self._path = path
        self._steps: set[tuple[int, int]] = set()
        lines = self._lines()
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()  # a kill in the middle of a line; the step is made again
            self._replace(lines)
        for number, line in enumerate(lines, 1):
            step = _step(line)
            if step is None:
                note(f"{path}:{number} is no line of metrics; it is passed over. Mend or remove the line by hand")
            else:
                self._steps.add(step)

    def forget(self, round: int) -> None:
        """Remove the lines of a round."""
        lines = self._lines()
        kept = [line for line in lines if (_step(line) or (None,))[0] != round]
        if len(kept) < len(lines):
            self._replace(kept)
        self._steps = {step for step in self._steps if step[0] != round}

    def add(self, round: int, step: int, values: Mapping[str, float]) -> None:
        """Add a step unless it is there."""
        if (round, step) in self._steps:
            return
        line = json.dumps({"round": round, "step": step, **values}) + "\n"
        with store_errors(self._path), self._path.open("ab") as file:
            file.write(line.encode())
        self._steps.add((round, step))

    def _lines(self) -> list[bytes]:
        with store_errors(self._path):
            return self._path.read_bytes().splitlines(keepends=True) if self._path.is_file() else []

    def _replace(self, lines: Iterable[bytes]) -> None:
        temporary = self._path.with_name(self._path.name + ".part")
        with store_errors(self._path):
            with temporary.open("wb") as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)


def _step(line: bytes) -> tuple[int, int] | None:
    """Give (round, step) of a line; None where it is no line of metrics."""
    try:
        record = json.loads(line)
        round, step = record["round"], record["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return (round, step) if isinstance(round, int) and isinstance(step, int) else None
