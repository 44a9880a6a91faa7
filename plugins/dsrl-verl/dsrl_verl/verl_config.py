"""Settings of verl checked against verl's own configuration, which is read without importing verl or torch."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dsrl import DsrlError, SettingsError
from dsrl_verl.options import FLAG, SET

#: What verl 0.9 accepts and never reads -> what it reads instead.
_IGNORED = {
    "custom_reward_function": "reward.custom_reward_function",
    "reward_model": "reward.reward_model",
    "sandbox_fusion": "reward.sandbox_fusion",
}
#: Mappings that verl hands on as they are: any key is allowed below them.
_OPEN = (
    "actor_rollout_ref.model.override_config",
    "actor_rollout_ref.rollout.engine_kwargs",
    "critic.model.override_config",
    "data.apply_chat_template_kwargs",
    "data.mm_processor_kwargs",
    "ray_kwargs.ray_init",
    "reward.custom_reward_function.reward_kwargs",
)
#: Texts in a refusal are cut to this length.
_LONGEST = 200


def read_configuration(strategy: str) -> dict[str, Any]:
    """Return verl's configuration with its defaults: nested mappings, in which a reference has its value.

    Args:
        strategy: the trainer's option of this name.

    Raises:
        DsrlError: verl is not installed, or its configuration cannot be read.
    """
    spec = find_spec("verl")
    if spec is None or not spec.submodule_search_locations:
        raise DsrlError(
            "the trainer verl needs the package verl, which is not installed; install dsrl-verl in an environment of its "
            "own: pip install dsrl-verl"
        )
    folder = Path(spec.submodule_search_locations[0]) / "trainer" / "config"
    try:
        # By name: the distribution is called hydra-core.
        hydra, omegaconf = import_module("hydra"), import_module("omegaconf")
        with hydra.initialize_config_dir(str(folder), version_base=None):
            overrides = ["model_engine=megatron"] if strategy == "megatron" else []
            composed = hydra.compose("ppo_trainer", overrides=overrides)
    except Exception as error:
        raise DsrlError(
            f"the configuration of verl in {folder} cannot be read: {type(error).__name__}: {str(error)[:_LONGEST]}; "
            "install verl again"
        ) from error
    return {str(key): value for key, value in _resolve(omegaconf.OmegaConf, composed)}


def _resolve(omegaconf: Any, node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a mapping of the configuration; a value that is missing or cannot be resolved is None."""
    for key in node:
        try:
            value = None if omegaconf.is_missing(node, key) else node[key]
        except Exception:  # noqa: BLE001 - a reference to a part that this configuration does not have
            value = None
        if omegaconf.is_dict(value):
            value = dict(_resolve(omegaconf, value))
        elif omegaconf.is_list(value):
            value = list(value or ())
        yield str(key), value


def check_settings(settings: Mapping[str, Any], configuration: Mapping[str, Any]) -> None:
    """Refuse settings that verl does not have, would not read, or would read as something else.

    Args:
        settings: key -> value.
        configuration: :func:`read_configuration`.

    Raises:
        SettingsError: names the setting, what is wrong with it, and the nearest keys.
    """
    for key, value in settings.items():
        _check_setting(key, value, configuration)


def _check_setting(key: str, value: Any, configuration: Mapping[str, Any]) -> None:
    top = key.partition(".")[0]
    if top in _IGNORED:
        raise SettingsError(
            f"{FLAG} {SET}.{key}: verl accepts this setting and never reads it; give {SET}.{_IGNORED[top]}.."
        )
    if any(key.startswith(f"{parent}.") for parent in _OPEN):
        return
    found, default = _look_up(key, configuration)
    if not found:
        raise SettingsError(f"{FLAG} {SET}.{key}: verl has no such setting; {_name_neighbours(key, configuration)}")
    if isinstance(default, Mapping) and not isinstance(value, Mapping):
        inner = ", ".join(list(default)[:8])
        raise SettingsError(f"{FLAG} {SET}.{key} is a group of settings; set one of them: {inner}")
    reason = _find_fault(value, default)
    if reason:
        raise SettingsError(f"{FLAG} {SET}.{key}={str(value)[:_LONGEST]}: {reason}")


def _look_up(key: str, configuration: Mapping[str, Any]) -> tuple[bool, Any]:
    node: Any = configuration
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return False, None
        node = node[part]
    return True, node


def _find_fault(value: Any, default: Any) -> str:
    """Say what is wrong with a value beside the default of its setting; empty if nothing is."""
    if default is None or value is None:
        return ""  # nothing is known of such a setting, and null switches one off
    if isinstance(default, bool) or isinstance(value, bool):
        return "" if isinstance(default, bool) and isinstance(value, bool) else f"it must be {_name_type(default)}"
    if isinstance(default, int | float):
        if not isinstance(value, int | float) or not math.isfinite(value):
            return f"it must be {_name_type(default)}"
        # Defaults such as 0 and 1 also stand for numbers with a fraction: entropy_coeff, top_p.
        if isinstance(default, int) and abs(default) > 1 and value != int(value):
            return "it must be a whole number"
        if default > 0 and value < 0:
            return f"it must not be negative (verl's default is {default})"
        return ""
    if isinstance(default, list):
        return "" if isinstance(value, list) else "it must be a list, for example ['model','optimizer']"
    if isinstance(default, str):
        return "" if isinstance(value, str | list) else f"it must be a text (verl's default is {default[:_LONGEST]!r})"
    return ""


def _name_type(default: Any) -> str:
    if isinstance(default, bool):
        return f"true or false (verl's default is {str(default).lower()})"
    if isinstance(default, int | float):
        return f"a number (verl's default is {default})"
    return f"of the type of verl's default, {str(default)[:_LONGEST]!r}"


def _name_neighbours(key: str, configuration: Mapping[str, Any]) -> str:
    keys = [name for name in list_keys(configuration) if name.partition(".")[0] not in _IGNORED]
    near = difflib.get_close_matches(key, keys, n=3, cutoff=0.75)
    last = key.rpartition(".")[2]
    near += [name for name in keys if name.rpartition(".")[2] == last and name not in near][: 3 - len(near)]
    if near:
        return f"did you mean {' or '.join(f'{SET}.{name}' for name in near)}?"
    return f"its parts are {', '.join(configuration)}"


def list_keys(configuration: Mapping[str, Any], prefix: str = "") -> list[str]:
    """List the full keys of all settings."""
    keys = []
    for name, value in configuration.items():
        keys.append(prefix + name)
        if isinstance(value, Mapping):
            keys += list_keys(value, f"{prefix}{name}.")
    return keys
