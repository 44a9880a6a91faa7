"""What dsrl does for a task that leaves a hook out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dsrl.errors import PluginError
from dsrl.types import UNREADABLE, Example

YES_NO = """
from dsrl import AnswerFormat, hookimpl

@hookimpl
def description():
    return "Say yes or no."

@hookimpl
def answer_format():
    return AnswerFormat("tag", ("yes", "no"))
"""


def test_the_defaults_of_a_task_follow_from_its_answer_format(bound: Any) -> None:
    hook = bound("task", YES_NO).hook
    assert hook.input_instruction() == ""
    assert "write yes or no inside <answer> </answer>" in hook.output_instruction()
    assert (list(hook.demos()), list(hook.domains())) == ([], [])
    assert hook.load_dataset(path="", split="test") is None
    assert hook.process_prediction(output="<answer>YES</answer>") == "yes"
    assert hook.process_prediction(output="yes") is UNREADABLE


def test_a_gold_output_may_be_the_bare_answer(bound: Any) -> None:
    hook = bound("task", YES_NO).hook
    assert hook.process_label(output="<think>yes</think><answer>no</answer>") == "no"
    assert hook.process_label(output=" No.") == "no"
    assert hook.process_label(output="maybe") is UNREADABLE
    own = YES_NO.replace(
        "def answer_format():", "def output_instruction(): return 'x'\n\n@hookimpl\ndef process_prediction():"
    )
    own = own.replace('AnswerFormat("tag", ("yes", "no"))', "__import__('dsrl').UNREADABLE")
    hook = bound("task", own).hook
    assert hook.process_label(output="  gold ") == "gold"
    assert hook.process_label(output="  ") is UNREADABLE


def test_the_default_reward_is_one_a_tenth_or_nothing(bound: Any) -> None:
    hook = bound("task", YES_NO).hook
    outputs = ("<answer>yes</answer>", "<answer>no</answer>", "<answer>maybe</answer>", "")
    assert [hook.reward(output=output, label="yes") for output in outputs] == [1.0, 0.1, 0.0, 0.0]
    rewards = [hook.reward(output=output, label="yes") for output in outputs]
    assert [(reward.parts["format"], reward.parts["result"]) for reward in rewards[:3]] == [
        (0.1, 0.9),
        (0.1, 0.0),
        (0.0, 0.0),
    ]
    assert all(sum(reward.parts.values()) == reward for reward in rewards)


def test_the_default_reward_asks_the_tasks_own_eval(bound: Any) -> None:
    hook = bound("task", f"{YES_NO}\n@hookimpl\ndef eval(prediction): return prediction == 'no'\n").hook
    assert hook.reward(output="<answer>no</answer>", label="yes") == 1.0
    assert hook.reward(output="<answer>yes</answer>", label="yes") == 0.1


def test_the_default_eval_compares_without_case(bound: Any) -> None:
    hook = bound("task", YES_NO).hook
    assert hook.eval(prediction="STRASSE", label="straße") is True
    assert hook.eval(prediction="yes", label="no") is False


def test_the_default_data_set_is_a_file_of_inputs_and_outputs(bound: Any, tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text('{"Input": "a", "Output": "yes"}\n', encoding="utf-8")
    hook = bound("task", YES_NO).hook
    assert hook.load_dataset(path=str(tmp_path / "items.jsonl"), split="test") == [Example("a", "yes")]


@pytest.mark.parametrize(
    "form",
    [
        'AnswerFormat("tag", ("yes", "no"))',
        'AnswerFormat("tag")',
        'AnswerFormat("hashes")',
        'AnswerFormat("boxed")',
        'AnswerFormat("choice", ("yes", "no"))',
    ],
)
def test_the_default_reward_is_that_of_the_hooks_one_by_one(bound: Any, form: str) -> None:
    """The default reward calls its own reader directly; a task that implements ``eval`` goes through the hooks."""
    source = YES_NO.replace('AnswerFormat("tag", ("yes", "no"))', form)
    task = bound("task", source)
    through_hooks = bound(
        "task", f"{source}\n@hookimpl\ndef eval(prediction, label):\n    return prediction.lower() == label.lower()\n"
    )
    answers = ("yes", "YES", "no", "yes or no", "", "72", "72.0", "1/2", "\ud800", "é", "x" * 20_000, "straße")
    outputs = [
        mark.format(answer) for answer in answers for mark in ("{}", "<answer>{}</answer>", "#### {}", "\\boxed{{{}}}")
    ]
    for output in (*outputs, "<think> #### 72", "<answer>yes"):
        for label in ("yes", "72", "?", "0.5"):
            reward, other = (t.hook.reward(output=output, label=label, input="") for t in (task, through_hooks))
            assert (reward, reward.parts) == (other, other.parts), (output[:50], label)


def test_an_override_of_the_reader_is_asked_for_the_default_reward(bound: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from dsrl import hookimpl\n@hookimpl\ndef process_prediction(output):\n    return output[-3:]\n")
    task = bound("task", YES_NO, overrides=(str(path),))
    assert task.hook.reward(output="oh yes", label="yes") == 1.0


def test_a_task_with_a_rubric_needs_no_parser(bound: Any) -> None:
    source = """
from dsrl import hookimpl

@hookimpl
def description(): return "Write a poem."

@hookimpl
def output_instruction(): return "Write the poem and nothing else."
"""
    with pytest.raises(
        PluginError, match=r"lacks process_prediction; .* has the hook rubric instead of process_prediction"
    ):
        bound("task", source)
    hook = bound("task", f"{source}\n@hookimpl\ndef rubric(): return 'It must rhyme.'\n").hook
    assert hook.rubric() == "It must rhyme."
    assert hook.process_prediction(output="<think>Hm.</think>\nRoses <b>are</b> red. ") == "Roses <b>are</b> red."
    assert hook.process_label(output=" Roses") == "Roses"
    for output in ("", "<think>Roses", "<think>Roses</think> \n"):
        assert hook.process_prediction(output=output) is UNREADABLE
    assert bound("task", YES_NO).hook.rubric() == ""
