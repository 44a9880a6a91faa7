from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dsrl.pipeline.training_watch import TrainingWatch, find_drift
from dsrl.storage.metrics import Metrics
from dsrl.types import Sample, TrainStep

LOW, HIGH = [0.1, 0.2, 0.1, 0.2], [0.7, 0.8, 0.7, 0.8]


def test_a_rising_reward_with_a_falling_accuracy_is_a_drift() -> None:
    drift = find_drift([0.1, 0.8, 0.9, 0.5], 100, LOW, HIGH)
    assert drift is not None
    assert drift.fall == pytest.approx(0.3)
    assert drift.fall_error == pytest.approx(((0.8 * 0.2 + 0.5 * 0.5) / 100) ** 0.5)
    assert drift.rise == pytest.approx(0.6)
    assert drift.rise_error == pytest.approx((2 * (1 / 300) / 4) ** 0.5)


@pytest.mark.parametrize(
    ("accuracies", "items", "before", "after"),
    [
        ([0.8, 0.5], 100, LOW, HIGH),  # two evaluations
        ([0.8, 0.7, 0.78], 100, LOW, HIGH),  # within the standard error
        ([0.8, 0.7, 0.5], 4, LOW, HIGH),  # few items
        ([0.5, 0.6, 0.8], 100, LOW, HIGH),  # it rises
        ([0.8, 0.7, 0.5], 100, HIGH, LOW),  # the reward falls, too
        ([0.8, 0.7, 0.5], 100, [0.0, 1.0], [0.1, 1.0]),  # within the standard error
        ([0.8, 0.7, 0.5], 100, [], [1.0]),
        ([0.8, 0.7, 0.5], 0, LOW, HIGH),
    ],
)
def test_everything_else_is_none(accuracies: list[float], items: int, before: list[float], after: list[float]) -> None:
    assert find_drift(accuracies, items, before, after) is None


ACCURACIES = {2: 0.9, 4: 0.7, 6: 0.4, 8: 0.1}


@pytest.fixture
def run(make_run: Any) -> Any:
    run = make_run()
    run.store.add_samples([Sample(f"1-{slot}", 1, slot, "initial", "q", "o") for slot in range(4)])
    return run


def train(run: Any, steps: range, metrics: Metrics, accuracies: dict[int, float] = ACCURACIES) -> TrainingWatch:
    """Report steps whose reward rises."""
    watch = TrainingWatch(run, 1, 50, metrics)
    for number in steps:
        rewards = {f"1-{slot}": number / 10 + slot / 1000 for slot in range(4)}
        values = {"reward": number / 10} | ({"dev_accuracy": accuracies[number]} if number in accuracies else {})
        step = TrainStep(number, 8, 1.0, values | ({"best_step": 2.0} if number == 8 else {}), rewards)
        run.store.add_rewards(number, step.rewards)
        metrics.add(1, number, step.metrics)
        watch.add(step)
    return watch


def test_the_alarm_comes_once_in_a_training(run: Any, tmp_path: Path) -> None:
    watch = train(run, range(1, 9), Metrics(tmp_path / "metrics.jsonl"))
    ((_, level, text),) = run.store.events()
    assert level == "warning"
    assert text.startswith(
        "from step 2 to step 6 of the training, the accuracy on the 50 development items fell from 90.0% to 40.0% (standard "
        "error 8.1%), while the reward rose by 0.200 (standard error"
    )
    assert watch.describe_best() == ", the model of step 2 (accuracy 90.0% on the development items)"


def test_the_alarm_comes_in_a_training_that_was_interrupted(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    train(run, range(1, 6), Metrics(path))
    assert run.store.events() == []
    train(run, range(4, 9), Metrics(path))
    assert len(run.store.events()) == 1
    train(run, range(1, 9), Metrics(path))
    assert len(run.store.events()) == 1


def test_evaluations_after_the_step_at_which_a_training_continues_do_not_count(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    good = {2: 0.4, 4: 0.5, 6: 0.1, 8: 0.1}
    TrainingWatch(run, 1, 50, Metrics(path))
    for step in (6, 8):
        Metrics(path).add(1, step, {"dev_accuracy": good[step]})
    train(run, range(1, 6), Metrics(path), good)
    assert run.store.events() == []


def test_a_training_that_is_repeated_is_watched_anew(run: Any, tmp_path: Path) -> None:
    train(run, range(1, 9), Metrics(tmp_path / "metrics.jsonl"))
    run.store.add_event("warning", "of the samples", "scored-1:solved")
    run.store.forget_training(1)
    assert [text for _, _, text in run.store.events()] == ["of the samples"]


def test_a_value_that_is_no_accuracy_is_ignored(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    Metrics(path).add(1, 1, {"dev_accuracy": 7.0})
    watch = train(run, range(2, 9), Metrics(path), {2: float("nan"), 4: -1.0, 6: 2.0})
    assert watch.accuracies == {}
    assert watch.describe_best() == ", the model of step 2"


@pytest.mark.parametrize(
    ("shares", "is_warned"),
    [([1.0, 1.0, 1.0], True), ([1.0, 0.9, 1.0], False), ([None, None], False), ([], False)],
)
def test_a_training_without_differences_is_told(run: Any, tmp_path: Path, shares: list[Any], is_warned: bool) -> None:
    """Steps of an earlier process count."""
    file = tmp_path / "metrics.jsonl"
    for number, share in enumerate(shares, 1):
        Metrics(file).add(1, number, {} if share is None else {"equal_groups": share})
    TrainingWatch(run, 1, 0, Metrics(file)).review_groups()
    texts = [text for _, _, text in run.store.events() if "so the model has learned nothing" in text]
    assert len(texts) == is_warned
    if is_warned:
        assert "in all 3 steps of the training" in texts[0]


@pytest.mark.parametrize(
    ("shares", "rewards", "is_warned"),
    [
        ([0.0] * 5 + [1.0] * 5, [1.0, 0.1, 0.1, 1.0], True),
        ([0.0] * 5 + [0.95] * 5, [1.0, 0.1, 0.1, 1.0], True),
        ([0.0] * 5 + [1.0] * 5, [1.0, 1.0, 1.0, 0.9], False),  # nearly everything is solved
        ([0.0] * 6 + [1.0] * 4, [1.0, 0.1, 0.1, 1.0], False),  # too few steps
        ([0.0] * 30 + [1.0] * 6, [1.0, 0.1, 0.1, 1.0], False),  # too few of many
        ([1.0] * 9 + [0.5], [1.0, 0.1, 0.1, 1.0], False),  # it goes on
    ],
)
def test_a_training_that_came_to_a_standstill_is_told(
    run: Any, tmp_path: Path, shares: list[float], rewards: list[float], is_warned: bool
) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl")
    for number, share in enumerate(shares, 1):
        metrics.add(1, number, {"equal_groups": share})
        run.store.add_rewards(number, {f"1-{slot}": reward for slot, reward in enumerate(rewards)})
    TrainingWatch(run, 1, 0, metrics).review_groups()
    texts = [text for _, _, text in run.store.events()]
    assert len(texts) == is_warned
    if is_warned:
        assert f"in the last 5 of {len(shares)} steps" in texts[0]
        assert "a mean of 0.55 and a maximum of 1.00" in texts[0]
