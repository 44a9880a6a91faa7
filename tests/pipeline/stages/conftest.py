"""What the tests of single stages stand on: a small task, a teacher and a sampler that say what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dsrl.pipeline.instructor import Definition, Instructor
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import hookimpl
from dsrl.teaching.ledger import CallPolicy, Ledger
from dsrl.testing import SmallTask
from dsrl.types import Completion, Price, Reply, Request

T = TypeVar("T")


class FakeTeacher:
    """Answers with what ``answer`` gives for a request and a number: a text, a reply, or a fault to raise."""

    def __init__(self, answer: Callable[[Request, int], Any]) -> None:
        self.answer = answer

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        replies = []
        for number in range(request.first, request.first + request.n):
            given = self.answer(request, number)
            if isinstance(given, Exception):
                raise given
            replies.append(given if isinstance(given, Reply) else Reply(given))
        return Completion(tuple(replies))

    @hookimpl
    def price(self, model: str) -> Price:
        return Price(0.0, 0.0)


class FakeSampler:
    """Completes a prompt with what ``answer`` gives for it and the number of the completion."""

    def __init__(self, answer: Callable[[str, int], str], fewer: int = 0) -> None:
        self.answer, self.fewer = answer, fewer

    @hookimpl
    async def sample(self, prompts: Sequence[str], n: int) -> list[list[str]]:
        return [[self.answer(prompt, number) for number in range(n - self.fewer)] for prompt in prompts]


#: Asks with a teacher: ``(answer, work)`` gives what ``work(instructor)`` gives, and the requests that were made.
Asking = Callable[..., tuple[Any, list[Request]]]


@pytest.fixture
def task(bound: Any) -> Plugin[Any]:
    plugin: Plugin[Any] = bound("task", SmallTask())
    return plugin


@pytest.fixture
def definition() -> Definition:
    return Definition("Say yes or no.", "", "In <answer> tags.")


@pytest.fixture
def asking(bound: Any, tmp_path: Path) -> Asking:
    def asked(
        answer: Callable[[Request, int], Any], work: Callable[[Instructor], Awaitable[T]]
    ) -> tuple[T, list[Request]]:
        requests: list[Request] = []

        def noted(request: Request, number: int) -> Any:
            if request not in requests:
                requests.append(request)
            return answer(request, number)

        teacher = bound("teacher", FakeTeacher, answer=noted)

        async def open_run() -> T:
            ledger = Ledger(teacher, tmp_path / "calls.db", "run", CallPolicy(8))
            try:
                return await work(Instructor(ledger, "m", 0.7, 99))
            finally:
                await ledger.close()

        return asyncio.run(open_run()), requests

    return asked


@pytest.fixture
def sampler(bound: Any) -> Callable[..., Plugin[Any]]:
    """Give a function that makes a sampler of ``answer(prompt, number)``."""

    def made(answer: Callable[[str, int], str], fewer: int = 0) -> Plugin[Any]:
        plugin: Plugin[Any] = bound("sampler", FakeSampler, answer=answer, fewer=fewer)
        return plugin

    return made
