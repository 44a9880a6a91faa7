"""The rows: full batches only, each item as often as it should be, and the number of a row names its step."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from dsrl_verl.rows import make_rows, make_schedule, write_rows

from dsrl import Prompt, TrainItem

ITEM = TrainItem("1-0", Prompt("Is it? Tag it."), "Is it?", "yes")


@pytest.mark.parametrize(
    ("items", "batch", "epochs"), [(8, 4, 2), (8, 3, 2), (5, 8, 3), (1, 1, 1), (7, 7, 1), (10, 4, 1)]
)
def test_every_item_is_trained_on_in_every_epoch(items: int, batch: int, epochs: int) -> None:
    schedule = make_schedule(items, batch, epochs, seed=3)
    assert len(schedule.order) == schedule.steps * schedule.batch
    for epoch in range(epochs):
        assert sorted(schedule.order[epoch * items : (epoch + 1) * items]) == list(range(items))
    counts = Counter(schedule.order)
    assert set(counts.values()) <= {epochs, epochs + 1}
    assert [schedule.get_step(row) for step in range(1, schedule.steps + 1) for row in schedule.get_rows(step)] == [
        step for step in range(1, schedule.steps + 1) for _ in range(schedule.batch)
    ]
    assert schedule.get_epoch(schedule.steps) == epochs
    assert schedule == make_schedule(items, batch, epochs, seed=3)
    assert items < 5 or schedule != make_schedule(items, batch, epochs, seed=4)


def test_without_epochs_there_is_no_step() -> None:
    assert make_schedule(4, 2, 0, seed=1).steps == 0


def test_rows_have_the_columns_that_verl_reads(tmp_path: Path) -> None:
    chat = replace(ITEM, id="1-1", task="t", prompt=Prompt("ä \u2028?", system="Be short.", is_chat=True))
    plain = replace(ITEM, id="1-2", prompt=Prompt("Is it?", system="Be short."))
    path = tmp_path / "data" / "train.parquet"
    write_rows(path, make_rows([ITEM, chat, plain], [0, 1, 2, 0], "train", {"": "mednli", "t": "gsm8k"}))
    rows = pq.read_table(path).to_pylist()
    assert rows[0] == {
        "data_source": "mednli",
        "prompt": [{"role": "user", "content": "Is it? Tag it."}],
        "ability": "mednli",
        "reward_model": {"style": "rule", "ground_truth": "yes"},
        "extra_info": {"split": "train", "index": 0, "id": "1-0", "task": "", "input": "Is it?"},
    }
    assert rows[1]["prompt"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "ä \u2028?"},
    ]
    assert rows[1]["data_source"] == "gsm8k"
    assert rows[2]["prompt"] == [{"role": "user", "content": "Be short.\n\nIs it?"}]
    assert [row["extra_info"]["index"] for row in rows] == [0, 1, 2, 3]
    assert [entry.name for entry in path.parent.iterdir()] == ["train.parquet"]
