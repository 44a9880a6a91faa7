"""Options are checked when the plugin is made."""

from __future__ import annotations

from typing import Any

import pytest
from dsrl_verl.options import parse_options

from dsrl import SettingsError


def test_settings_of_verl_stand_behind_set_also_as_tables_and_with_short_names() -> None:
    options = parse_options(
        {
            "algorithm": "ppo",
            "set.trainer.val_before_train": True,
            "set.actor.optim.lr": 2e-6,
            "set": {"rollout": {"top_k": 5}, "actor_rollout_ref.ref.strategy": "fsdp2"},
        }
    )
    assert options.algorithm == "ppo"
    assert options.settings == {
        "trainer.val_before_train": True,
        "actor_rollout_ref.actor.optim.lr": 2e-6,
        "actor_rollout_ref.rollout.top_k": 5,
        "actor_rollout_ref.ref.strategy": "fsdp2",
    }


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"algoritm": "ppo"}, "did you mean algorithm"),
        ({"trainer.logger": "x"}, "set.trainer.logger"),
        ({"algorithm": "dpo"}, "must be grpo or ppo"),
        ({"device": "cpu"}, "given as --device cpu"),
        ({"nodes": 2}, "needs a Ray cluster"),
        ({"nodes": 0}, "at least 1"),
        ({"gpus_per_node": 1.5}, "whole number"),
        ({"reward_seconds": 0}, "from 0.01"),
        ({"reward_seconds": True}, "must be a number"),
        ({"max_reward_faults": 5}, "from 0 to 1"),
        ({"ray_address": "no address"}, "HOST:PORT"),
        ({"ray_address": 6379}, "HOST:PORT"),
        ({"set.": 1}, "behind set."),
        ({"set.a..b": 1}, "behind set."),
    ],
)
def test_wrong_options_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_options(values)
    assert words in str(caught.value)


@pytest.mark.parametrize("address", ["auto", "head:6379", "ray://10.0.0.1:10001", "[::1]:6379"])
def test_addresses(address: str) -> None:
    assert parse_options({"ray_address": address}).ray_address == address
