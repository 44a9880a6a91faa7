from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from dsrl.errors import PluginError
from dsrl.pipeline.judging import Submission
from dsrl.pipeline.stages.attempted import attempt
from dsrl.plugins.binding import Plugin
from dsrl.plugins.scoring import grade
from dsrl.storage.attempts import Attempt
from dsrl.testing import SmallTask
from dsrl.types import UNREADABLE, Sample

SAMPLES = [
    Sample("1-00000", 1, 0, "initial", "A?", "o", label="yes"),
    Sample("1-00001", 1, 1, "initial", "B?", "o", label="yes"),
    Sample("1-00002", 1, 2, "initial", "C?", "o", label="no"),
]
OUTPUTS = {"A?": "<answer>Yes</answer>", "B?": "<answer>no</answer>", "C?": "I do not know"}


@pytest.mark.parametrize(
    ("output", "graded"),
    [
        ("<answer>YES.</answer>", ("yes", True)),
        ("<answer>no</answer>", ("no", False)),
        ("yes", (UNREADABLE, False)),
        ("", (UNREADABLE, False)),
    ],
)
def test_an_output_is_right_wrong_or_unreadable(task: Plugin[Any], output: str, graded: tuple[object, bool]) -> None:
    assert grade(task, output, "yes", "") == graded


def test_each_sample_is_attempted_once(model: Any) -> None:
    prompts: list[str] = []

    def answer(prompt: str, number: int) -> str:
        prompts.append(prompt)
        return OUTPUTS[prompt.partition(" ")[0]]

    attempts = asyncio.run(attempt(model(answer), SAMPLES))
    assert prompts == ["A? In <answer> tags.", "B? In <answer> tags.", "C? In <answer> tags."]
    assert attempts == [
        Attempt("1-00000", OUTPUTS["A?"], "yes", True),
        Attempt("1-00001", OUTPUTS["B?"], "no", False),
        Attempt("1-00002", OUTPUTS["C?"], UNREADABLE, False),
    ]


def test_an_attempt_can_be_stored_whatever_the_model_wrote(bound: Any, model: Any) -> None:
    open_task = bound("task", SmallTask(choices=()))
    output = "<answer>\ud800</answer>"
    (stored,) = asyncio.run(attempt(model(lambda *_: output, task=open_task), SAMPLES[:1]))
    assert stored.output.encode()
    assert str(stored.answer).encode()


def test_a_sampler_that_returns_another_number_of_texts_is_named(model: Any) -> None:
    with pytest.raises(PluginError, match="sampler"):
        asyncio.run(attempt(model(lambda *_: "x", fewer=1), SAMPLES))


def test_attempts_at_a_judged_task_are_judged_together(judged_model: Any, points_judge: Any) -> None:
    outputs = {"A?": "<think>bad</think>good", "B?": "yes", "C?": "<think>good"}
    samples = [replace(sample, label=f"<think>x</think>gold {sample.id}") for sample in SAMPLES]
    attempts = asyncio.run(attempt(judged_model(lambda prompt, number: outputs[prompt.partition(" ")[0]]), samples))
    assert attempts == [
        Attempt("1-00000", outputs["A?"], "good", True),
        Attempt("1-00001", "yes", "yes", False),
        Attempt("1-00002", outputs["C?"], UNREADABLE, False),
    ]
    assert points_judge.judged[0] == Submission("A?", "good", "gold 1-00000")
    assert len(points_judge.judged) == 3
