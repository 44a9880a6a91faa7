"""The logs of the reward workers, read while verl runs: which rewards each step had, and how many of them failed."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

#: Texts of failed rewards that an error shows.
_MAX_EXAMPLES = 3


class Tail:
    """The whole lines that are appended to a file, each once.

    Args:
        path: the file; it may appear later.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._position = path, 0

    def read(self) -> list[dict[str, Any]]:
        """Return the JSON objects of the lines that are new and complete; other lines are left out."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._position += len(whole)
        return list(_parse(whole.splitlines()))


def _parse(lines: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            yield record


@dataclass
class RowRewards:
    """The rewards of one row: of all answers to one prompt of one step."""

    rewards: list[float] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)
    faults: int = 0


@dataclass(frozen=True, slots=True)
class StepRewards:
    """The rewards of one step.

    Attributes:
        means: the mean reward of each row of the step, in their order.
        answers: number of answers with a reward, failed ones included.
        metrics: what the trainer reports of them.
    """

    means: tuple[float, ...]
    answers: int
    metrics: dict[str, float]


class RewardLog:
    """The rewards of one start of verl.

    Args:
        folder: where the workers write.
        attempt: number of the start.
    """

    def __init__(self, folder: Path, attempt: int) -> None:
        self._folder, self._pattern = folder, f"rewards-{attempt}-*.jsonl"
        self._tails: dict[Path, Tail] = {}
        self._rows: dict[int, RowRewards] = {}
        #: Row -> whether an answer is right, and whether its reward failed, for each evaluation that was not taken yet.
        self._evaluated: dict[int, deque[tuple[bool, bool]]] = {}
        self.examples: list[str] = []

    def poll(self) -> None:
        """Read what is new."""
        for path in sorted(self._folder.glob(self._pattern)):
            for record in self._tails.setdefault(path, Tail(path)).read():
                self._add(record)

    def _add(self, record: dict[str, Any]) -> None:
        number = int(record.get("row", -1))
        failed = "fault" in record
        if record.get("split") != "train":
            self._evaluated.setdefault(number, deque()).append((bool(record.get("right")), failed))
            row = RowRewards()  # its reward is not trained on
        else:
            row = self._rows.setdefault(number, RowRewards())
        if failed:
            row.faults += 1
            row.rewards.append(0.0)
            text = f"{record['fault']}: {record.get('text', '')}"
            if len(self.examples) < _MAX_EXAMPLES and text not in self.examples:
                self.examples.append(text)
        else:
            row.rewards.append(float(record["reward"]))
            if record.get("parts"):
                row.parts.append(record["parts"])

    def count_faults(self, rows: range) -> int:
        """Return the number of rewards of these rows that failed so far."""
        return sum(self._rows[row].faults for row in rows if row in self._rows)

    def summarise(self, rows: range) -> StepRewards:
        """Return the rewards of a step, and forget them."""
        own = [self._rows.pop(row, RowRewards()) for row in rows]
        rewards = [reward for row in own for reward in row.rewards]
        answered = [row for row in own if row.rewards]
        metrics = {
            "reward": fmean(rewards) if rewards else 0.0,
            "reward_std": fmean(_get_spread(row.rewards) for row in answered) if answered else 0.0,
            "equal_groups": fmean(len(set(row.rewards)) == 1 for row in answered) if answered else 0.0,
            "reward_faults": float(sum(row.faults for row in own)),
        }
        means = tuple(fmean(row.rewards) if row.rewards else 0.0 for row in own)
        return StepRewards(means, len(rewards), metrics | _average_parts(own))

    def grade(self) -> tuple[dict[int, bool], int]:
        """Return row -> whether its answer in the next evaluation is right, and how many rewards failed; forget them.

        Each evaluation asks for one answer to each row, so the first answer that was not taken yet belongs to the next one.
        """
        taken = {row: answers.popleft() for row, answers in self._evaluated.items() if answers}
        return {row: right for row, (right, _) in taken.items()}, sum(failed for _, failed in taken.values())


def is_past_share(faults: int, answers: int, share: float) -> bool:
    """Return whether more than a share of the answers of a step have a reward that failed.

    Args:
        faults: failed rewards of the step so far.
        answers: number of all answers of the step, those included whose reward is still to come.
        share: 0 to 1.
    """
    return faults > share * answers


def _get_spread(rewards: Sequence[float]) -> float:
    spread = stdev(rewards) if len(rewards) > 1 else 0.0
    return spread if math.isfinite(spread) else 0.0


def _average_parts(rows: Sequence[RowRewards]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for row in rows:
        for parts in row.parts:
            for name, value in parts.items():
                values.setdefault(f"reward/{name}", []).append(float(value))
    return {name: fmean(numbers) for name, numbers in values.items()}
