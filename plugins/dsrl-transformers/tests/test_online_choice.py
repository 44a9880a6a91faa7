"""The choice of the items of each step: its posteriors, and a training that uses them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from dsrl_transformers.checkpoint import make_fingerprint
from dsrl_transformers.grpo import GRPOTrainer
from dsrl_transformers.online_choice import DECAY, UTILITIES, OnlineChoice, compute_learnability, compute_liveness

from dsrl import Prompt, SettingsError, TrainItem, TrainStep

from .test_grpo import ITEMS, job, same, train, weights


def make_item(name: str, passed: int = 0, attempts: int = 0, **values: Any) -> TrainItem:
    return TrainItem(name, Prompt("p"), "i", "l", passed=passed, attempts=attempts, **values)


def make_choice(items: list[TrainItem], utility: str = "learnability", seed: int = 0) -> OnlineChoice:
    return OnlineChoice(items, 16, seed, utility)


def test_the_utilities() -> None:
    assert compute_learnability(0.5, 16) == 0.25
    assert compute_liveness(0.0, 16) == compute_liveness(1.0, 16) == 0.0
    assert compute_liveness(0.5, 2) == pytest.approx(0.25)
    assert compute_liveness(0.1, 16) > compute_liveness(0.5, 16), "it prefers harder items"


@pytest.mark.parametrize("utility", UTILITIES)
def test_items_that_are_sometimes_solved_are_chosen(utility: str) -> None:
    pool = [make_item(f"never{n}", 0, 999) for n in range(20)]
    pool += [make_item(f"half{n}", 500, 999) for n in range(20)] + [
        make_item(f"always{n}", 999, 999) for n in range(20)
    ]
    choice = make_choice(pool, utility)
    assert {item.id[:4] for step in range(10) for item in choice.choose(15, step)} == {"half"}


def test_the_posteriors_begin_with_all_attempts_before_the_training() -> None:
    items = [make_item("a", 5, 8, is_solved=True), make_item("b", 5, 8, is_solved=False), make_item("c")]
    assert make_choice(items).get_state() == {"a": [6.0, 3.0], "b": [5.0, 4.0], "c": [0.0, 0.0]}


def test_evidence_decays_when_an_item_is_answered_again() -> None:
    choice = make_choice([make_item("a", 8, 8), make_item("b", 1, 8)])
    choice.add("a", 4, 16)
    assert choice.get_state() == {"a": [DECAY * 8 + 4, 12.0], "b": [1.0, 7.0]}


def test_the_same_state_gives_the_same_choice_and_others_come_for_a_refill() -> None:
    pool = [make_item(str(n), n % 9, 8) for n in range(40)]
    one, two = make_choice(pool), make_choice(pool)
    one.add("3", 8, 16)
    two.set_state(one.get_state())
    first = one.choose(12, 5)
    assert first == two.choose(12, 5)
    assert first != one.choose(12, 6)
    assert first != make_choice(pool, seed=1).choose(12, 5)
    assert len({item.id for item in first}) == 12
    without = {item.id for item in first}
    assert not without & {item.id for item in one.choose(12, 5, without)}
    assert len(one.choose(99, 5, without)) == 28


def test_the_tasks_of_a_run_take_turns() -> None:
    pool = [make_item(f"x{n}", 4, 8, task="x") for n in range(20)] + [
        make_item(f"y{n}", 0, 8, task="y") for n in range(20)
    ]
    assert Counter(item.task for item in make_choice(pool).choose(10, 1)) == {"x": 5, "y": 5}


# --- a training ------------------------------------------------------------------------------------------------------


def test_a_training_makes_as_many_steps_as_on_the_chosen_number(model_dir: Path, tmp_path: Path, task: Any) -> None:
    steps = train(task, job(model_dir, tmp_path, choose=16, epochs=6))
    assert {step.steps for step in steps} == {12}, "two steps an epoch, of 12 and 4 items"
    for step in steps:
        size = 12 if step.step % 2 else 4
        assert size <= len(step.rewards) == size + step.metrics["refilled"]
        assert step.metrics["refilled"] <= size
    rewards = [step.metrics["reward"] for step in steps]
    assert sum(rewards[-4:]) > sum(rewards[:4])


def test_prompts_without_a_difference_are_replaced_once(model_dir: Path, tmp_path: Path, task: Any) -> None:
    steps = train(task, job(model_dir, tmp_path, choose=12, epochs=4))
    plain = train(task, job(model_dir, tmp_path / "plain", epochs=4))

    def average(some: list[TrainStep]) -> float:
        return sum(step.metrics["equal_groups"] for step in some) / len(some)

    assert any(step.metrics["refilled"] for step in steps)
    assert average(steps) < average(plain)


@pytest.mark.parametrize("rank", [0, 2])
def test_a_training_that_was_stopped_goes_on_with_the_same_choice(
    model_dir: Path, tmp_path: Path, task: Any, rank: int
) -> None:
    whole, broken = (
        job(model_dir, tmp_path / name, choose=16, epochs=4, lora_rank=rank) for name in ("whole", "broken")
    )
    undisturbed = train(task, whole)

    def stop(step: TrainStep) -> None:
        if step.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        GRPOTrainer(checkpoint_seconds=0).train(broken, task, stop)
    rest = train(task, broken)
    assert [step.step for step in rest] == [5, 6, 7, 8]
    assert [step.rewards for step in rest] == [step.rewards for step in undisturbed[4:]]
    assert same(weights(whole.output_dir), weights(broken.output_dir))


def test_a_pool_that_is_smaller_than_a_step_is_no_fault(model_dir: Path, tmp_path: Path, task: Any) -> None:
    steps = train(task, job(model_dir, tmp_path, items=ITEMS[:5], choose=16, epochs=2))
    assert [len(step.rewards) for step in steps] == [5, 5]


def test_a_checkpoint_without_a_choice_is_not_one_with_it(tmp_path: Path) -> None:
    of = job(Path("model"), tmp_path)
    assert make_fingerprint(of) != make_fingerprint(job(Path("model"), tmp_path, choose=16))


def test_an_unknown_utility_is_refused() -> None:
    with pytest.raises(SettingsError, match="utility=speed must be learnability or liveness"):
        GRPOTrainer(utility="speed")
