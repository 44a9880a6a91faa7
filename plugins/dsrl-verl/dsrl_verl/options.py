"""The options of the trainer ``verl``, checked when the plugin is made."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dsrl_ray.connection import check_address

from dsrl import SettingsError

FLAG = "--trainer-option"
#: A setting of verl stands behind this word: ``set.trainer.val_before_train=true``.
SET = "set"
#: The parts of verl's configuration whose settings may leave out ``actor_rollout_ref.``.
SHORT_PARTS = ("actor", "model", "ref", "rollout")


@dataclass(frozen=True, slots=True)
class TrainerOptions:
    """The options; see :class:`dsrl_verl.trainer.VerlTrainer`."""

    algorithm: str = "grpo"
    ray_address: str = ""
    nodes: int = 1
    gpus_per_node: int = 0
    tensor_parallel: int = 0
    strategy: str = "fsdp2"
    engine: str = "vllm"
    checkpoint_steps: int = 0
    reward_seconds: float = 10.0
    reward_memory_mb: int = 2048
    max_reward_faults: float = 0.05
    settings: Mapping[str, Any] = field(default_factory=dict)


def parse_options(values: Mapping[str, Any]) -> TrainerOptions:
    """Check the options as the user gave them.

    Raises:
        SettingsError: an option is unknown, or its value is wrong.
    """
    known = [name for name in TrainerOptions.__dataclass_fields__ if name != "settings"]
    plain: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for name, value in values.items():
        if name == SET or name.startswith(f"{SET}."):
            settings.update(_flatten(name, value))
        elif name in known:
            plain[name] = value
        else:
            if name == "device":
                raise SettingsError(f"the device is given as --device {value}, and not as an option of the trainer")
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"the options are {', '.join(known)}"
            raise SettingsError(
                f"the trainer verl has no option {name!r}; {hint} A setting of verl is given as {FLAG} {SET}.{name}=.."
            )
    checked: dict[str, Any] = {
        "algorithm": _check_choice("algorithm", plain.get("algorithm", "grpo"), ("grpo", "ppo")),
        "ray_address": check_address(plain.get("ray_address", ""), FLAG),
        "nodes": _check_whole_number("nodes", plain.get("nodes", 1), 1),
        "gpus_per_node": _check_whole_number("gpus_per_node", plain.get("gpus_per_node", 0), 0),
        "tensor_parallel": _check_whole_number("tensor_parallel", plain.get("tensor_parallel", 0), 0),
        "strategy": _check_choice("strategy", plain.get("strategy", "fsdp2"), ("fsdp2", "megatron")),
        "engine": _check_choice("engine", plain.get("engine", "vllm"), ("vllm", "sglang")),
        "checkpoint_steps": _check_whole_number("checkpoint_steps", plain.get("checkpoint_steps", 0), 0),
        "reward_seconds": _check_number("reward_seconds", plain.get("reward_seconds", 10.0), 0.01, 3600.0),
        "reward_memory_mb": _check_whole_number("reward_memory_mb", plain.get("reward_memory_mb", 2048), 64),
        "max_reward_faults": _check_number("max_reward_faults", plain.get("max_reward_faults", 0.05), 0.0, 1.0),
    }
    if checked["nodes"] > 1 and not checked["ray_address"]:
        raise SettingsError(
            f"{FLAG} nodes={checked['nodes']} needs a Ray cluster; start one (ray start --head, then ray start "
            f"--address=HEAD:6379 on the others) and give {FLAG} ray_address=HEAD:6379"
        )
    return TrainerOptions(**checked, settings=settings)


def _flatten(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield key -> value of verl's settings; in a settings file they can be nested tables."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flatten(f"{name}.{key}", inner)
        return
    key = name[len(SET) + 1 :]
    if not key or not all(key.split(".")):
        raise SettingsError(
            f"{FLAG} {name}: write the key of a setting of verl behind {SET}., for example "
            f"{SET}.actor_rollout_ref.actor.optim.lr=2e-6"
        )
    if key.partition(".")[0] in SHORT_PARTS:
        key = f"actor_rollout_ref.{key}"
    yield key, value


def _check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    if value not in choices:
        raise SettingsError(f"{FLAG} {name}={value} must be {' or '.join(choices)}")
    return str(value)


def _check_whole_number(name: str, value: Any, minimum: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise SettingsError(f"{FLAG} {name}={value} must be a whole number of at least {minimum}")
    return value


def _check_number(name: str, value: Any, minimum: float, maximum: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not minimum <= value <= maximum:
        raise SettingsError(f"{FLAG} {name}={value} must be a number from {minimum:g} to {maximum:g}")
    return float(value)
