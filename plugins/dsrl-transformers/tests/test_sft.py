from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dsrl_transformers.decode import DecodeSettings
from dsrl_transformers.language_model import load_model
from dsrl_transformers.sft import SFTTrainer

from dsrl import DsrlError, Prompt, SettingsError, TrainItem, TrainJob, TrainStep

ITEMS = tuple(TrainItem(c, Prompt(f"say {c}: "), f"say {c}", c, output=f"{c}{c}.") for c in "abcdefgh")
TASK: Any = SimpleNamespace(hook=SimpleNamespace())


def make_job(model_dir: Path, folder: Path, **settings: Any) -> TrainJob:
    usual: dict[str, Any] = {
        "model": str(model_dir),
        "items": ITEMS,
        "output_dir": folder / "model",
        "work_dir": folder / "work",
        "learning_rate": 1e-2,
        "epochs": 30,
        "batch_size": 8,
        "group_size": 8,
        "temperature": 1.0,
        "top_p": 1.0,
        "kl_coef": 0.01,
        "max_completion_tokens": 8,
        "max_prompt_tokens": 30,
        "seed": 1,
        "device": "cpu",
    }
    return TrainJob(**{**usual, **settings})


def train(job: TrainJob, **options: Any) -> list[TrainStep]:
    steps: list[TrainStep] = []
    SFTTrainer(**options).train(job, TASK, steps.append)
    return steps


def test_the_model_learns_to_write_the_outputs(model_dir: Path, tmp_path: Path) -> None:
    steps = train(make_job(model_dir, tmp_path), checkpoint_seconds=60)
    assert steps[-1].metrics["loss"] < 0.1 < steps[0].metrics["loss"]
    assert all(step.rewards == {} for step in steps)
    lm = load_model(str(tmp_path / "model"), "cpu")
    settings = DecodeSettings(n=1, temperature=0.0, top_p=1.0, max_tokens=8, seed=0, cache_tokens=0)
    answers = lm.complete([lm.encode(item.prompt) for item in ITEMS], settings)
    # It has also learned where an answer ends.
    assert [lm.decode_text(answer.distinct[0]) for answer in answers] == [item.output for item in ITEMS]


def test_small_passes_have_the_same_loss(model_dir: Path, tmp_path: Path) -> None:
    whole = train(make_job(model_dir, tmp_path / "whole", epochs=2))
    parts = train(make_job(model_dir, tmp_path / "parts", epochs=2), batch_tokens=20)
    for one, other in zip(whole, parts, strict=True):
        assert one.metrics["loss"] == pytest.approx(other.metrics["loss"], rel=1e-4)


def test_items_that_cannot_be_trained_on_are_left_out(model_dir: Path, tmp_path: Path) -> None:
    items = (replace(ITEMS[0], output=""), replace(ITEMS[1], output="x" * 40), *ITEMS[2:])
    steps = train(make_job(model_dir, tmp_path, items=items, epochs=1))
    assert steps[0].metrics["left_out"] == 2
    with pytest.raises(DsrlError, match="1 have no output"):
        train(make_job(model_dir, tmp_path / "none", items=items[:2]))


def test_weight_decay_shrinks_the_weights(model_dir: Path, tmp_path: Path) -> None:
    sizes = []
    for decay in (0.0, 1.0):
        train(make_job(model_dir, tmp_path / str(decay), epochs=4), weight_decay=decay)
        weights = load_model(str(tmp_path / str(decay) / "model"), "cpu").model.parameters()
        sizes.append(sum(float(weight.detach().norm()) for weight in weights))
    assert sizes[1] < sizes[0]
    with pytest.raises(SettingsError, match="weight_decay=2 must be a number from 0 to 1"):
        SFTTrainer(weight_decay=2)
