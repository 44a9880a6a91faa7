"""``--paper``: the settings of the paper, and none of what dsrl adds to its method.

The method is fixed: which samples are written, how they are labelled, scored and selected, and what the training computes.
Free are the sizes (N, M) and the numbers that a base model needs (learning rate, lengths). They are the paper's unless the
user, or the recipe of the base model, gives others; :func:`describe_paper` names those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from dsrl.errors import SettingsError
from dsrl.settings import Settings, flag_of

#: Setting -> the paper's value, which nothing else can replace (sections 4.1 to 4.3, appendix A.3).
PAPER_METHOD: Mapping[str, Any] = {
    "passage_length": 0,
    "passages": 10_000,
    "passage_queries": "joined",
    "passage_distinct": False,
    "passage_diversity": 0.0,
    "passage_spread": False,
    "passage_rerank": "",
    "teacher_temperature": 0.7,
    "votes": 16,
    "vote_confidence": 0.0,
    "retries_unreadable": 0,
    "adapt": True,
    "decontaminate": False,
    "attempts": 64,
    "attempt_confidence": 0.0,
    "attempt_temperature": 0.7,
    "selection": "potential",
    "min_agreement": 0.0,
    "max_pass_rate": 1.0,
    "fill": False,
    "never_solved": "last",
    "balance": False,
    "eval_every": 0,
    "group_size": 16,
    "train_temperature": 1.2,
    "train_top_p": 1.0,
    "kl_coef": 0.01,
    "lora_rank": 0,
}
#: The same for options of the trainer ``grpo``; another trainer keeps its own.
PAPER_TRAINER_OPTIONS: Mapping[str, Any] = {"equal_groups": "keep"}
#: Setting -> the paper's value, which the user or the recipe of a base model can replace.
PAPER_NUMBERS: Mapping[str, Any] = {
    "samples": 500,
    "select": 500,
    "learning_rate": 1e-6,
    "epochs": 5,
    "batch_size": 64,
    "max_completion_tokens": 2048,
    "max_prompt_tokens": 2048,
}


def fix_method(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return setting -> value for all that ``--paper`` fixes.

    Args:
        chosen: setting -> value for what the user has set, in a file or by flags.

    Raises:
        SettingsError: the user has set something else; the text names each flag.
    """
    options = dict(chosen.get("trainer_option", {}))
    fixed_options = PAPER_TRAINER_OPTIONS if chosen.get("trainer", Settings.trainer) == "grpo" else {}
    contrary = [
        f"--trainer-option {name}={options[name]} (the paper: {value})"
        for name, value in fixed_options.items()
        if options.get(name, value) != value
    ]
    flags = {setting.name: flag_of(setting) for setting in fields(Settings)}
    contrary += [
        f"{_write_flag(flags[name], chosen[name])} (the paper: {_write_flag(flags[name], value)})"
        for name, value in PAPER_METHOD.items()
        if chosen.get(name, value) != value
    ]
    if contrary:
        raise SettingsError(
            f"--paper sets the method of the paper, but other settings are given: {', '.join(contrary)}. Leave these out, "
            "or leave --paper out"
        )
    return {**PAPER_METHOD, "trainer_option": {**options, **fixed_options}}


def describe_paper(settings: Settings) -> str:
    """Return what ``--paper`` has set in a run with these settings, in flags, and which numbers are not the paper's."""
    flags = {setting.name: flag_of(setting) for setting in fields(Settings)}
    parts = [_write_flag(flags[name], value) for name, value in PAPER_METHOD.items()]
    parts += [f"--trainer-option {name}={value}" for name, value in settings.trainer_option.items()]
    numbers = {name: getattr(settings, name) for name in PAPER_NUMBERS}
    parts += [_write_flag(flags[name], value) for name, value in numbers.items() if value == PAPER_NUMBERS[name]]
    others = [
        f"{_write_flag(flags[name], value)} (the paper: {PAPER_NUMBERS[name]:g})"
        for name, value in numbers.items()
        if value != PAPER_NUMBERS[name]
    ]
    text = f"--paper sets {' '.join(filter(None, parts))}"
    return (
        f"{text}\nother than in the paper, by your settings or the base model's recipe: {', '.join(others)}"
        if others
        else text
    )


def _write_flag(flag: str, value: Any) -> str:
    """Return a setting as the user would write it; empty for a text that is not set."""
    if isinstance(value, bool):
        return flag if value else f"--no-{flag[2:]}"
    return f"{flag} {value:g}" if isinstance(value, float) else f"{flag} {value}" if value != "" else ""
