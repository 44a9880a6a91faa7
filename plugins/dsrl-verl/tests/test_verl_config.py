"""Settings of verl are checked against its configuration."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from dsrl_verl.layout import Cluster, Layout
from dsrl_verl.options import parse_options
from dsrl_verl.verl_config import check_settings, list_keys, read_configuration
from dsrl_verl.verl_settings import OWNED, Places, Plan, make_settings

from dsrl import DsrlError, SettingsError

CONFIGURATION: dict[str, Any] = {
    "actor_rollout_ref": {
        "actor": {
            "optim": {"lr": 1e-6, "betas": [0.9, 0.999], "lr_warmup_steps": -1},
            "ppo_epochs": 1,
            "ppo_mini_batch_size": 256,
            "use_kl_loss": False,
            "entropy_coeff": 0,
        },
        "model": {"override_config": {}, "path": "~/models/x"},
        "rollout": {"engine_kwargs": {"vllm": {}}, "name": None},
    },
    "custom_reward_function": {"path": None},
    "trainer": {"total_epochs": 30, "logger": ["console"], "save_freq": -1},
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("actor_rollout_ref.actor.optim.lr", 2e-6),
        ("actor_rollout_ref.actor.optim.lr", 0),
        ("actor_rollout_ref.actor.optim.betas", [0.9, 0.99]),
        ("actor_rollout_ref.actor.use_kl_loss", True),
        ("actor_rollout_ref.actor.entropy_coeff", 0.01),
        ("actor_rollout_ref.actor.optim.lr_warmup_steps", 10),
        ("actor_rollout_ref.model.override_config.attn_implementation", "sdpa"),
        ("actor_rollout_ref.rollout.engine_kwargs.vllm.swap_space", 4),
        ("actor_rollout_ref.rollout.name", "sglang"),
        ("trainer.logger", ["console", "wandb"]),
        ("trainer.total_epochs", None),
    ],
)
def test_good_settings(key: str, value: Any) -> None:
    check_settings({key: value}, CONFIGURATION)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("actor_rollout_ref.actor.optim.lrr", 1e-6, "did you mean set.actor_rollout_ref.actor.optim.lr"),
        ("actor.total_epochs", 3, "set.trainer.total_epochs"),
        ("qqq", 1, "its parts are actor_rollout_ref"),
        ("trainer.total_epochs.more", 1, "no such setting"),
        ("custom_reward_function.path", "x", "never reads it; give set.reward.custom_reward_function"),
        ("actor_rollout_ref.actor.optim", 3, "is a group of settings; set one of them: lr"),
        ("trainer.total_epochs", "abc", "must be a number"),
        ("trainer.total_epochs", True, "must be a number"),
        ("trainer.total_epochs", 2.5, "whole number"),
        ("trainer.total_epochs", float("inf"), "must be a number"),
        ("actor_rollout_ref.actor.ppo_mini_batch_size", -3, "must not be negative"),
        ("actor_rollout_ref.actor.use_kl_loss", 1, "true or false"),
        ("actor_rollout_ref.actor.use_kl_loss", "yes", "true or false"),
        ("trainer.logger", "console", "must be a list"),
        ("actor_rollout_ref.model.path", 3, "must be a text"),
    ],
)
def test_bad_settings_are_refused_with_a_way_out(key: str, value: Any, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_settings({key: value}, CONFIGURATION)
    assert key in str(caught.value)
    assert words in str(caught.value)


def test_keys_are_listed_with_their_groups() -> None:
    keys = list_keys(CONFIGURATION)
    assert {"trainer", "trainer.logger", "actor_rollout_ref.actor.optim.betas"} <= set(keys)


@pytest.mark.skipif(find_spec("verl") is not None, reason="verl is installed")
def test_without_verl_the_error_says_how_to_get_it() -> None:
    with pytest.raises(DsrlError, match="pip install dsrl-verl"):
        read_configuration("fsdp2")


@pytest.mark.skipif(find_spec("verl") is None, reason="verl is not installed: make test-verl")
@pytest.mark.parametrize("strategy", ["fsdp2", "megatron"])
@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_verl_has_every_setting_that_dsrl_gives_it(make_job: Any, strategy: str, algorithm: str) -> None:
    configuration = read_configuration(strategy)
    options = parse_options({"strategy": strategy, "algorithm": algorithm})
    places = Places(*(Path("/w") for _ in range(4)))
    for is_cpu in (False, True):
        if is_cpu and strategy == "megatron":
            continue
        plan = Plan(steps=40, batch=4, answers=32, is_cpu=is_cpu, template="T")
        for rank in (0, 8) if strategy == "fsdp2" else (0,):
            job = make_job(lora_rank=rank)
            found = make_settings(job, options, plan, Cluster(1, 8, 80e9), Layout(1, "none", 0.5), places)
            found.pop("model_engine", None)
            check_settings(found, configuration)
    keys = set(list_keys(configuration)) | {"model_engine"}
    assert {key for key in OWNED if not key.startswith("critic")} <= keys


@pytest.mark.skipif(find_spec("verl") is None, reason="verl is not installed: make test-verl")
def test_settings_are_checked_against_the_real_configuration() -> None:
    configuration = read_configuration("fsdp2")
    assert len(list_keys(configuration)) > 500
    check_settings({"actor_rollout_ref.actor.optim.lr": 2e-6, "trainer.val_before_train": True}, configuration)
    with pytest.raises(SettingsError, match=r"did you mean set.actor_rollout_ref.actor.optim.lr"):
        check_settings({"actor_rollout_ref.actor.optim.lrr": 2e-6}, configuration)
