"""verl's metrics under dsrl's names."""

from __future__ import annotations

import math

from dsrl_verl.metrics import convert_metrics, count_left_out, read_step

DATA = {
    "training/global_step": 3,
    "actor/loss": 0.25,
    "actor/kl_loss": 0.01,
    "actor/grad_norm": 0.5,
    "actor/lr": 1e-3,
    "response_length/mean": 7.5,
    "timing_s/step": 2.0,
    "critic/score/mean": 0.5,
    "broken": math.nan,
    "text": "x",
    "flag": True,
}


def test_the_names_of_dsrl_come_first_and_only_numbers_stay() -> None:
    metrics = convert_metrics(DATA)
    assert metrics == {
        "loss": 0.25,
        "kl": 0.01,
        "grad_norm": 0.5,
        "learning_rate": 1e-3,
        "completion_length": 7.5,
        "seconds": 2.0,
        "training/global_step": 3.0,
        "critic/score/mean": 0.5,
    }
    assert all(math.isfinite(value) for value in convert_metrics({}).values())
    many = convert_metrics({f"m{n}" * 100: 1.0 for n in range(1000)})
    assert len(many) == 300
    assert max(map(len, many)) == 100


def test_only_lines_of_training_steps_have_a_step() -> None:
    assert read_step({"step": 3, "data": DATA}) == 3
    for record in ({}, {"step": 3}, {"step": "3", "data": DATA}, {"step": 0, "data": {"val-core/x": 1.0}}):
        assert read_step(record) is None


def test_groups_that_verl_leaves_out_are_counted() -> None:
    assert count_left_out(DATA) == 0
    assert count_left_out({"training/rollout_failure/evicted_samples": 2, "validation/x/evicted_samples": 5}) == 2
