from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dsrl_transformers import dev_evaluation
from dsrl_transformers.checkpoint import make_fingerprint
from dsrl_transformers.grpo import GRPOTrainer

from dsrl import Prompt, TrainItem, TrainStep

from .test_grpo import ITEMS, job, same, train, weights

DEV = tuple(TrainItem(f"dev-{c}", Prompt(f"say {c}: "), f"say {c}", c) for c in "abcdefgh")


def read_accuracies(steps: list[TrainStep]) -> dict[int, float]:
    return {step.step: step.metrics["dev_accuracy"] for step in steps if "dev_accuracy" in step.metrics}


def test_the_accuracy_is_that_of_greedy_answers(model_dir: Path, tmp_path: Path, task: Any) -> None:
    from dsrl_transformers.decode import DecodeSettings
    from dsrl_transformers.language_model import load_model

    of = job(model_dir, tmp_path, epochs=8, dev_items=DEV, eval_every=5)
    steps = train(task, of)
    accuracies = read_accuracies(steps)
    assert list(accuracies) == [5, 10, 15, 20, 24], "after every fifth step and after the last one"
    best = max(accuracies, key=lambda step: (accuracies[step], step))
    assert steps[-1].metrics["best_step"] == best
    assert not any("best_step" in step.metrics for step in steps[:-1])
    # The saved model is the best one.
    lm = load_model(str(of.output_dir))
    answers = lm.complete([lm.encode(item.prompt) for item in DEV], DecodeSettings(1, 0.0, 1.0, 3, 0, 4096))
    texts = [lm.decode_text(completions.distinct[0]) for completions in answers]
    right = sum(text.startswith(item.label) for text, item in zip(texts, DEV, strict=True))
    assert right / len(DEV) == pytest.approx(accuracies[best])
    assert [path.name for path in of.work_dir.iterdir()] == ["finished"]


@pytest.mark.parametrize("rank", [0, 2])
def test_the_best_weights_are_saved_and_the_later_of_equals(
    model_dir: Path, tmp_path: Path, task: Any, rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = {"lora_rank": rank, "epochs": 2, "learning_rate": 1e-2}

    def train_with(accuracies: dict[int, float], name: str) -> Any:
        monkeypatch.setattr(dev_evaluation.DevEvaluation, "_measure", lambda self, step: accuracies[step])
        of = job(model_dir, tmp_path / name, dev_items=DEV, eval_every=2, **plain)
        return of, train(task, of)

    last, _ = train_with({2: 0.1, 4: 0.2, 6: 0.3}, "last")
    unwatched = job(model_dir, tmp_path / "unwatched", **plain)
    train(task, unwatched)
    assert same(weights(last.output_dir), weights(unwatched.output_dir)), "the evaluation changes nothing"
    middle, steps = train_with({2: 0.3, 4: 0.3, 6: 0.1}, "middle")
    assert steps[-1].metrics["best_step"] == 4
    assert not same(weights(middle.output_dir), weights(last.output_dir))
    first, steps = train_with({2: 0.4, 4: 0.3, 6: 0.1}, "first")
    assert steps[-1].metrics["best_step"] == 2
    assert not same(weights(first.output_dir), weights(middle.output_dir))
    # A kill after the best step, and one after the last step.
    killed = job(model_dir, tmp_path / "killed", dev_items=DEV, eval_every=2, **plain)
    monkeypatch.setattr(dev_evaluation.DevEvaluation, "_measure", lambda self, step: {2: 0.4, 4: 0.3, 6: 0.1}[step])

    def kill(step: TrainStep) -> None:
        if step.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        GRPOTrainer(checkpoint_seconds=0).train(killed, task, kill)
    rest = train(task, killed)
    assert [step.step for step in rest] == [5, 6]
    assert rest[-1].metrics["best_step"] == 2
    assert same(weights(killed.output_dir), weights(first.output_dir))


def test_a_checkpoint_depends_on_the_evaluation_only_if_there_is_one(model_dir: Path, tmp_path: Path) -> None:
    of = job(model_dir, tmp_path)
    assert make_fingerprint(replace(of, eval_every=3)) == make_fingerprint(of)
    assert make_fingerprint(replace(of, dev_items=DEV)) == make_fingerprint(of)
    watched = replace(of, dev_items=DEV, eval_every=3)
    assert make_fingerprint(watched) != make_fingerprint(of)
    assert make_fingerprint(watched) != make_fingerprint(replace(watched, dev_items=DEV[:-1]))


def test_groups_of_equal_rewards_are_counted(model_dir: Path, tmp_path: Path, task: Any) -> None:
    task.hook.reward = lambda output, label, input: float(len(output)) if input == "say a" else 0.5
    steps = train(task, job(model_dir, tmp_path, batch_size=8, kl_coef=0.0, items=ITEMS[:8], epochs=1))
    assert [step.metrics["equal_groups"] for step in steps] == [7 / 8]


def test_answers_that_are_all_alike_are_a_warning(
    model_dir: Path, tmp_path: Path, task: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    task.hook.reward = lambda output, label, input: 0.5
    steps = train(task, job(model_dir, tmp_path / "a", batch_size=3))
    assert len(steps) > 20
    (text,) = [record.getMessage() for record in caplog.records if "the same reward" in record.getMessage()]
    assert "In the last 10 steps (to step 10)" in text
    caplog.clear()
    train(task, job(model_dir, tmp_path / "b", batch_size=8))
    assert "the same reward" not in caplog.text, "fewer than ten steps"
