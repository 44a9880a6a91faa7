"""The rows that verl trains on: one for each prompt of each step, in order, so that the number of a row names its step."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsrl import TrainItem


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which items each step trains on.

    verl drops what is left of an epoch after its last full batch. So all epochs are laid one behind the other and cut into
    full batches; the last one is filled with items of one more epoch.

    Attributes:
        batch: prompts of a step.
        epochs: passes over the items.
        items: number of items.
        order: place of the item of each row.
    """

    batch: int
    epochs: int
    items: int
    order: tuple[int, ...]

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(self.order) // self.batch

    def get_step(self, row: int) -> int:
        """Return the step that trains on a row; steps count from 1, rows from 0."""
        return row // self.batch + 1

    def get_rows(self, step: int) -> range:
        """Return the rows of a step."""
        return range((step - 1) * self.batch, step * self.batch)

    def get_epoch(self, step: int) -> float:
        """Return the number of epochs after a step, with a fraction."""
        return min(float(self.epochs), step * self.batch / self.items)


def make_schedule(items: int, batch: int, epochs: int, seed: int) -> Schedule:
    """Order the items of all epochs; each epoch has an order of its own, which depends on the seed and its number.

    Args:
        items: number of items, at least 1.
        batch: prompts of a step; a larger number than ``items`` becomes ``items``.
        epochs: passes over the items.
        seed: seed of the order.
    """
    batch = min(batch, items)
    steps = math.ceil(items * epochs / batch)
    order: list[int] = []
    for epoch in range(epochs + 1):
        order += random.Random(f"{seed}/{epoch}").sample(range(items), items)
    return Schedule(batch, epochs, items, tuple(order[: steps * batch]))


def make_rows(
    items: Sequence[TrainItem], order: Sequence[int], split: str, names: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Make rows with the columns that verl reads.

    Args:
        items: what to train on.
        order: place of the item of each row.
        split: ``train`` or ``dev``.
        names: name of a task as items have it -> what ``data_source`` says.
    """
    return [
        {
            "data_source": names[items[place].task],
            "prompt": _list_messages(items[place]),
            "ability": names[items[place].task],
            "reward_model": {"style": "rule", "ground_truth": items[place].label},
            "extra_info": {
                "split": split,
                "index": row,
                "id": items[place].id,
                "task": items[place].task,
                "input": items[place].input,
            },
        }
        for row, place in enumerate(order)
    ]


def _list_messages(item: TrainItem) -> list[dict[str, str]]:
    prompt = item.prompt
    if not prompt.is_chat:
        return [{"role": "user", "content": prompt.plain_text}]
    return [{"role": message.role, "content": message.content} for message in prompt.messages]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows to a Parquet file, which appears whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    pq.write_table(pa.Table.from_pylist(list(rows)), temporary)
    temporary.replace(path)
