from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from dsrl.pipeline.progress import SilentProgress
from dsrl.pipeline.runtime import OpenRun, StageClock
from dsrl.plugins.specs import hookimpl
from dsrl.storage.evaluations import EvalItem


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which a test sets: it is the only item of this list."""
    time = [0.0]
    monkeypatch.setattr("dsrl.pipeline.runtime.monotonic", lambda: time[0])
    return time


class Notes(SilentProgress):
    """Keeps the notes that the user is shown."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def test_groups_of_a_stage_that_overlap_are_counted_once(now: list[float]) -> None:
    clock = StageClock()
    with clock.measure("initial"):
        now[0] = 1.0
        with clock.measure("initial"), clock.measure("verified"):
            now[0] = 3.0
        assert clock.seconds == {"verified": 2.0, "initial": 3.0}, "those of a stage at work count until now"
        now[0] = 6.0
    assert clock.seconds == {"verified": 2.0, "initial": 6.0}


def test_a_kill_loses_only_the_last_seconds(now: list[float], make_run: Callable[..., OpenRun]) -> None:
    run = make_run()
    run.progress.start("verified", 8)
    with run.clock.measure("verified"):
        now[0] = 100.0
        run.advance("verified")
        now[0] = 101.0
        run.advance("verified")
        assert run.store.seconds() == {"verified": 100.0}, "they are stored every few seconds"


def test_the_seconds_of_a_stage_add_up_also_after_an_error(now: list[float]) -> None:
    clock = StageClock()

    def fail() -> None:
        with clock.measure("initial"):
            now[0] = 1.0
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    now[0] = 10.0
    with clock.measure("initial"):
        now[0] = 12.0
    assert clock.seconds == {"initial": 3.0}


def test_a_note_is_shown_and_stored(make_run: Callable[..., OpenRun]) -> None:
    progress = Notes()
    run = replace(make_run(), progress=progress)
    run.add_note("just so")
    assert progress.texts == ["just so"]
    assert [event[1:] for event in run.store.events()] == [("note", "just so")]


def test_a_warning_is_shown_once_for_its_topic(make_run: Callable[..., OpenRun]) -> None:
    progress = Notes()
    run = replace(make_run(), progress=progress)
    for text, topic in (("look out", "trained-1:drift"), ("again", "trained-1:drift"), ("other", "trained-2:drift")):
        run.add_warning(text, topic)
    assert progress.texts == ["look out", "other"]
    assert [event[1:] for event in run.store.events()] == [("warning", "look out"), ("warning", "other")]


class NamedModel:
    """Answers with the name of its model."""

    def __init__(self, model: str) -> None:
        self.model = model

    @hookimpl
    async def sample(self, prompts: Sequence[str], n: int, max_tokens: int) -> list[list[str]]:
        return [[f"{self.model}: at most {max_tokens} tokens"] * n for _ in prompts]


def test_an_open_model_answers_with_the_settings_of_the_run(make_run: Callable[..., OpenRun], install: Any) -> None:
    run = make_run(max_completion_tokens=7)
    settings = replace(run.settings, sampler=install.install_unnamed("sampler", NamedModel))
    run = replace(run, context=replace(run.context, settings=settings))

    async def answer() -> list[list[str]]:
        async with run.open_model("a/model") as model:
            return await model.answer([EvalItem("Is it?", "")], n=2)

    assert asyncio.run(answer()) == [["a/model: at most 7 tokens"] * 2]
