from __future__ import annotations

from typing import Any

import pytest

from dsrl.errors import SettingsError
from dsrl.pipeline.task_settings import check_task_settings
from dsrl.plugins.binding import Plugin, load
from dsrl.settings import resolve
from dsrl.types import UNREADABLE, PluginRef


def load_words(argument: str) -> Plugin[Any]:
    return load(PluginRef("task", f"words:{argument}"), "task")


def test_a_task_in_words_reads_answers_of_its_form() -> None:
    hook = load_words("tag:entailment, neutral,contradiction").hook
    assert hook.process_prediction(output="<answer> Neutral. </answer>", input="") == "neutral"
    assert hook.process_prediction(output="<answer> maybe </answer>", input="") is UNREADABLE
    assert "entailment or neutral or contradiction" in hook.output_instruction()
    assert load_words("hashes").hook.process_prediction(output="#### 72", input="") == "72"


def test_its_description_is_the_users() -> None:
    with pytest.raises(SettingsError, match="--answer needs --task-instruction"):
        load_words("tag:a,b").hook.description()


def test_its_bare_name_can_be_looked_at_and_not_run() -> None:
    hook = load(PluginRef("task", "words"), "task").hook
    assert "--task-instruction" in hook.description()
    with pytest.raises(SettingsError, match="is described by you"):
        check_task_settings(resolve({"task": "words"}))


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("tga:a,b", "did you mean 'tag'"),
        ("letters", "the forms are tag, boxed, hashes, choice"),
        ("choice", "this form needs its choices"),
        ("tag:a,b,A", "the choice 'a' is there twice"),
    ],
)
def test_a_wrong_form_is_refused(argument: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_words(argument)
    assert words in str(caught.value)
