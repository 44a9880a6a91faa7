"""What ``--paper`` sets, and what it refuses."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from dsrl.errors import SettingsError
from dsrl.pipeline.paper import PAPER_METHOD, PAPER_NUMBERS, describe_paper
from dsrl.pipeline.setup import resolve_settings
from dsrl.settings import Settings, to_toml


def resolve(**flags: Any) -> Settings:
    return resolve_settings(None, {"task": "mednli", **flags}, paper=True)


def test_the_paper_has_no_step_that_dsrl_adds() -> None:
    settings = resolve()
    assert not any(
        (settings.decontaminate, settings.balance, settings.eval_every, settings.fill, settings.min_agreement)
    )
    assert (settings.selection, settings.never_solved, settings.max_pass_rate) == ("potential", "last", 1.0)
    assert (settings.votes, settings.attempts, settings.vote_confidence) == (16, 64, 0.0)
    assert settings.trainer_option == {"equal_groups": "keep"}


def test_all_that_is_set_is_said() -> None:
    settings = resolve(samples=40)
    text, others = describe_paper(settings).split("\n")
    assert "--no-decontaminate" in text
    assert "--selection potential" in text
    assert "--trainer-option equal_groups=keep" in text
    assert "--samples 40 (the paper: 500)" in others
    assert "--learning-rate 0.0002 (the paper: 1e-06)" in others, "the recipe of tiny"
    names = {setting.name for setting in fields(Settings)}
    assert {*PAPER_METHOD, *PAPER_NUMBERS} <= names


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"balance": True}, "--balance (the paper: --no-balance)"),
        ({"decontaminate": True}, "--decontaminate (the paper: --no-decontaminate)"),
        ({"min_agreement": 0.75}, "--min-agreement 0.75 (the paper: --min-agreement 0)"),
        ({"selection": "easy"}, "--selection easy (the paper: --selection potential)"),
        ({"trainer_option": {"equal_groups": "skip"}}, "--trainer-option equal_groups=skip (the paper: keep)"),
    ],
)
def test_a_contrary_setting_is_refused_by_name(flags: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError) as error:
        resolve(**flags)
    assert named in str(error.value)


def test_a_contrary_setting_in_a_file_is_refused_too(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[score]\nattempts = 8\n")
    with pytest.raises(SettingsError, match=r"--attempts 8 \(the paper: --attempts 64\)"):
        resolve_settings(file, {"task": "mednli"}, paper=True)


def test_the_same_settings_are_no_contradiction_and_other_options_stay() -> None:
    settings = resolve(votes=16, selection="potential", trainer_option={"checkpoint_seconds": 30})
    assert settings.trainer_option == {"checkpoint_seconds": 30, "equal_groups": "keep"}
    assert resolve(trainer="sft").trainer_option == {}, "another trainer has other options"


def test_what_is_stored_can_be_given_again() -> None:
    settings = resolve()
    flags = {name: value for table in to_toml(settings).values() for name, value in table.items()}
    assert resolve_settings(None, flags) == settings
