"""Fixtures for the tests of single stages: a small task, a teacher and a sampler whose answers a test chooses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import pytest

from dsrl.pipeline.instructor import Definition, Instructor
from dsrl.pipeline.judging import Submission
from dsrl.pipeline.run_tasks import RunTask, RunTasks
from dsrl.pipeline.sampling import AnsweringModel
from dsrl.pipeline.teachers import TeacherRole
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import hookimpl
from dsrl.teaching.ledger import CallPolicy, Ledger
from dsrl.testing import SmallTask
from dsrl.types import Completion, Price, Purpose, Reply, Request

T = TypeVar("T")


class FakeTeacher:
    """Answers with what ``answer`` returns for a request and a number: a text, a reply, or an exception to raise."""

    def __init__(self, answer: Callable[[Request, int], Any]) -> None:
        self.answer = answer

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        replies = []
        for number in range(request.first, request.first + request.n):
            answer = self.answer(request, number)
            if isinstance(answer, Exception):
                raise answer
            replies.append(answer if isinstance(answer, Reply) else Reply(answer))
        return Completion(tuple(replies))

    @hookimpl
    def price(self, model: str) -> Price:
        return Price(0.0, 0.0)


class FakeSampler:
    """Completes a prompt with what ``answer`` returns for it and the number of the completion."""

    def __init__(self, answer: Callable[[str, int], str], fewer: int = 0) -> None:
        self.answer, self.fewer = answer, fewer

    @hookimpl
    async def sample(self, prompts: Sequence[str], n: int) -> list[list[str]]:
        return [[self.answer(prompt, number) for number in range(n - self.fewer)] for prompt in prompts]


#: Asks a teacher: ``(answer, work)`` returns what ``work(instructor)`` returns, and the requests that were sent.
Asking = Callable[..., tuple[Any, list[Request]]]


@pytest.fixture
def task(bound: Any) -> Plugin[Any]:
    plugin: Plugin[Any] = bound("task", SmallTask())
    return plugin


@pytest.fixture
def definition() -> Definition:
    return Definition("Say yes or no.", "", "In <answer> tags.")


@pytest.fixture
def one_task(definition: Definition, task: Plugin[Any]) -> RunTasks:
    """Return the tasks of a run of one task."""
    return {"": RunTask("t", task, definition)}


@pytest.fixture
def asking(bound: Any, tmp_path: Path) -> Asking:
    def ask(
        answer: Callable[[Request, int], Any], work: Callable[[Instructor], Awaitable[T]]
    ) -> tuple[T, list[Request]]:
        requests: list[Request] = []

        def record(request: Request, number: int) -> Any:
            if request not in requests:
                requests.append(request)
            return answer(request, number)

        teacher = bound("teacher", FakeTeacher, answer=record)

        async def open_run() -> T:
            ledger = Ledger(teacher, tmp_path / "calls.db", "run", CallPolicy(8))
            try:
                roles = dict.fromkeys(get_args(Purpose), TeacherRole(teacher, "m"))
                return await work(Instructor(ledger, roles, 0.7, 99))
            finally:
                await ledger.close()

        return asyncio.run(open_run()), requests

    return ask


@pytest.fixture
def model(bound: Any, definition: Definition, task: Plugin[Any]) -> Callable[..., AnsweringModel]:
    """Return a function that makes a model of ``answer(prompt, number)``."""

    def make(answer: Callable[[str, int], str], fewer: int = 0, task: Plugin[Any] = task) -> AnsweringModel:
        sampler: Plugin[Any] = bound("sampler", FakeSampler, answer=answer, fewer=fewer)
        return AnsweringModel(sampler, {"": RunTask("t", task, definition)}, 16)

    return make


class FakePointsJudge:
    """Gives an answer 10 points if it has the word ``good``, and else none.

    Attributes:
        judged: what it was given.
    """

    def __init__(self) -> None:
        self.judged: list[Submission] = []

    async def judge(self, submissions: Iterable[Submission]) -> list[float]:
        submissions = list(submissions)
        self.judged += submissions
        return [float("good" in str(submission.answer)) for submission in submissions]


@pytest.fixture
def points_judge() -> Any:
    return FakePointsJudge()


@pytest.fixture
def judged_model(
    bound: Any, definition: Definition, task: Plugin[Any], points_judge: Any
) -> Callable[..., AnsweringModel]:
    """Return a function that makes a model of ``answer(prompt, number)``, whose answers are judged."""

    def make(answer: Callable[[str, int], str]) -> AnsweringModel:
        sampler: Plugin[Any] = bound("sampler", FakeSampler, answer=answer)
        tasks = {"": RunTask("t", task, definition, rubric="It must be good.")}
        return AnsweringModel(sampler, tasks, 16, {"": points_judge})

    return make
