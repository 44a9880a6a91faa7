"""The logs of the reward workers become rewards, metrics and counts of failures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from dsrl_verl.reward_log import RewardLog, Tail, is_past_share


def write(path: Path, *records: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        for record in records:
            file.write((record if isinstance(record, str) else json.dumps(record)) + "\n")


def row(number: int, reward: float | None = None, split: str = "train", **more: Any) -> dict[str, Any]:
    outcome = (
        {"fault": "hung", "text": "no answer"} if reward is None else {"reward": reward, "parts": {}, "right": False}
    )
    return {"split": split, "row": number, **outcome, **more}


def test_only_whole_lines_are_read_and_each_once(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "log")
    assert tail.read() == []
    (tmp_path / "log").write_bytes(b'{"a": 1}\nno json\n[1]\n{"b"')
    assert tail.read() == [{"a": 1}]
    with (tmp_path / "log").open("ab") as file:
        file.write(b": 2}\n")
    assert tail.read() == [{"b": 2}]
    assert tail.read() == []


def test_the_rewards_of_a_step_come_from_all_workers_of_this_start(tmp_path: Path) -> None:
    write(tmp_path / "rewards-2-a-1.jsonl", row(4, 1.0, parts={"short": 0.5}), row(5, 1.0), row(0, 9.0))
    write(tmp_path / "rewards-2-b-7.jsonl", row(4, 0.0, parts={"short": 1.5}), row(5, 1.0), row(4))
    write(tmp_path / "rewards-1-a-1.jsonl", row(4, 100.0))
    write(tmp_path / "rewards-2-b-7.jsonl", row(4, 50.0, split="dev", right=True))
    log = RewardLog(tmp_path, 2)
    log.poll()
    assert log.count_faults(range(4, 6)) == 1
    found = log.summarise(range(4, 6))
    assert found.means == (pytest.approx(1 / 3), 1.0)
    assert found.answers == 5
    assert found.metrics["reward"] == pytest.approx(3 / 5)
    assert found.metrics["reward_std"] == pytest.approx((1 / 3) ** 0.5 / 2)
    assert found.metrics["equal_groups"] == 0.5
    assert found.metrics["reward_faults"] == 1
    assert found.metrics["reward/short"] == 1.0
    assert log.examples == ["hung: no answer"]
    assert log.grade() == ({4: True}, 0)
    assert log.grade() == ({}, 0)
    assert log.summarise(range(4, 6)).answers == 0, "a step is forgotten when it is told"


def test_answers_of_two_evaluations_that_are_read_at_once_stay_apart(tmp_path: Path) -> None:
    first = [row(0, 1.0, split="dev", right=True), row(1, split="dev")]
    second = [row(1, 1.0, split="dev", right=True), row(0, 0.0, split="dev", right=False)]
    write(tmp_path / "rewards-1-a-1.jsonl", *first, *second)
    log = RewardLog(tmp_path, 1)
    log.poll()
    assert log.grade() == ({0: True, 1: False}, 1)
    assert log.grade() == ({0: False, 1: True}, 0)
    assert log.grade() == ({}, 0)


def test_a_step_without_rewards_has_finite_metrics(tmp_path: Path) -> None:
    log = RewardLog(tmp_path / "none", 1)
    log.poll()
    found = log.summarise(range(2))
    assert found.means == (0.0, 0.0)
    assert set(found.metrics.values()) == {0.0}


@pytest.mark.parametrize(
    ("faults", "answers", "share", "is_past"),
    [(0, 100, 0.0, False), (1, 100, 0.0, True), (5, 100, 0.05, False), (6, 100, 0.05, True), (1, 16, 0.05, True)],
)
def test_the_share_of_failures(faults: int, answers: int, share: float, is_past: bool) -> None:
    assert is_past_share(faults, answers, share) == is_past
