from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from dsrl.errors import PluginError, SettingsError
from dsrl.pipeline.instructor import Definition
from dsrl.pipeline.judging import Submission
from dsrl.pipeline.run_tasks import RunTask
from dsrl.pipeline.sampling import AnsweringModel, bind_sampler, close_sampler
from dsrl.plugins.specs import hookimpl
from dsrl.settings import resolve
from dsrl.storage.evaluations import EvalItem
from dsrl.testing import SmallTask
from dsrl.types import UNREADABLE, Prompt


class Echo:
    """Answers a prompt with its own text and records what it is asked for."""

    def __init__(self, fewer: int = 0) -> None:
        self.fewer, self.calls, self.is_closed = fewer, list[dict[str, Any]](), False

    @hookimpl
    async def sample(
        self, prompts: Sequence[Prompt], n: int, temperature: float, max_tokens: int, seed: int
    ) -> list[list[str]]:
        self.calls.append({"n": n, "temperature": temperature, "max_tokens": max_tokens, "seed": seed})
        return [[f"{prompt.system}|{prompt}"] * (n - self.fewer) for prompt in prompts]

    @hookimpl
    async def aclose(self) -> None:
        self.is_closed = True


class WithDevice:
    """Takes a device."""

    def __init__(self, model: str, device: str = "none") -> None: ...

    @hookimpl
    async def sample(self, prompts: Sequence[str], n: int) -> list[list[str]]:
        return [[""] * n for _ in prompts]


class WithoutDevice(WithDevice):
    """Takes no device."""

    def __init__(self, model: str) -> None: ...


def make_model(bound: Any, sampler: Echo) -> AnsweringModel:
    definition = Definition("d", "", "Tag it.", system_prompt="Be brief.")
    bound_sampler = bound("sampler", sampler)
    return AnsweringModel(bound_sampler, {"": RunTask("t", bound("task", SmallTask()), definition)}, 16)


def test_a_model_answers_the_prompts_of_its_definition(bound: Any) -> None:
    sampler = Echo()
    answers = asyncio.run(
        make_model(bound, sampler).answer([EvalItem("a", ""), EvalItem("b", "")], n=2, temperature=0.5, seed=7)
    )
    assert answers == [["Be brief.|a Tag it."] * 2, ["Be brief.|b Tag it."] * 2]
    assert sampler.calls == [{"n": 2, "temperature": 0.5, "max_tokens": 16, "seed": 7}]


def test_a_sampler_that_returns_too_few_texts_is_named(bound: Any) -> None:
    words = r"sampler 'sampler0' of stranger-sampler0 did not return 3 texts for each of 2 prompts"
    with pytest.raises(PluginError, match=words):
        asyncio.run(make_model(bound, Echo(fewer=1)).answer([EvalItem("a", ""), EvalItem("b", "")], n=3))


def test_device_is_passed_only_to_a_sampler_that_takes_it(install: Any) -> None:
    for target, expected in ((WithDevice, {"model": "m", "device": "cpu"}), (WithoutDevice, {"model": "m"})):
        name = install.install_unnamed("sampler", target)
        assert bind_sampler(resolve({"task": "t", "sampler": name, "device": "cpu"}), "m").ref.options == expected
        assert bind_sampler(resolve({"task": "t", "sampler": name}), "m").ref.options == {"model": "m"}


def test_an_option_that_the_sampler_does_not_take_is_refused(install: Any) -> None:
    name = install.install_unnamed("sampler", WithoutDevice)
    with pytest.raises(SettingsError, match="speed"):
        bind_sampler(resolve({"task": "t", "sampler": name, "sampler_option": {"speed": 1}}), "m")


def test_a_sampler_is_closed_also_after_an_error(bound: Any) -> None:
    sampler = Echo()

    async def fail() -> None:
        async with close_sampler(bound("sampler", sampler)):
            assert not sampler.is_closed
            raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(fail())
    assert sampler.is_closed


def test_rules_and_judges_grade_in_the_order_of_the_outputs(bound: Any) -> None:
    class FakeLengthJudge:
        async def judge(self, submissions: Sequence[Submission]) -> list[float]:
            return [len(str(submission.answer)) / 10 for submission in submissions]

    task = bound("task", SmallTask())
    tasks = {
        "poem": RunTask("poem", task, Definition("d", "", "o"), rubric="Be long."),
        "polite": RunTask("polite", task, Definition("d", "", "o")),
    }
    judges: Any = {"poem": FakeLengthJudge()}
    model = AnsweringModel(bound("sampler", Echo()), tasks, 16, judges)
    poem, polite = EvalItem("i", "", "poem"), EvalItem("i", "", "polite")
    outputs = [(poem, "12345", "x"), (polite, "<answer>no</answer>", "no"), (poem, "1234", "x"), (polite, "no", "no")]
    graded = asyncio.run(model.grade(outputs))
    assert graded == [("12345", True), ("no", True), ("1234", False), (UNREADABLE, False)]
