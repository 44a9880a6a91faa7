"""Contract classes of teachers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest

from dsrl.errors import RowRefused, TeacherError, TransientError
from dsrl.plugins.binding import Plugin, load
from dsrl.testing.contracts.base import PluginContract
from dsrl.testing.fault_server import Fault, FaultServer, openai_error
from dsrl.testing.fixtures import Installer
from dsrl.testing.small_task import SmallTask
from dsrl.types import Completion, Message, PluginRef, Request

T = TypeVar("T")
#: Seconds that a test may take.
TIME_LIMIT = 60.0
#: Seconds that a call may keep the event loop busy. A call that waits in a blocking way takes longer.
LONGEST_BLOCK = 1.0


class TeacherContract(PluginContract):
    """Tests of every teacher.

    Attributes:
        model: the model that the requests name; empty for a teacher with one model only.
        task: the name of an installed task for ``prepare``; empty for :class:`dsrl.testing.SmallTask`.
    """

    kind = "teacher"
    model: str = ""
    task: str = ""

    def make_request(self, n: int = 1, first: int = 0) -> Request:
        """Return a request that the teacher can answer."""
        messages = (Message("system", "You are a careful clerk."), Message("user", "What is 1 + 1?"))
        variables = {"input": "What is 1 + 1?"}
        return Request("solve", self.model, messages, 0.7, 64, n=n, first=first, variables=variables)

    @pytest.fixture
    def subject(self, ref: PluginRef, installer: Installer) -> Plugin[Any]:
        """The teacher under test, prepared as a run prepares it."""
        task = load(PluginRef("task", self.task), "task") if self.task else installer.bind("task", SmallTask())
        teacher = load(ref, "teacher")
        teacher.hook.prepare(task=task, model=self.model)
        return teacher

    def use(self, teacher: Plugin[Any], work: Callable[[Any], Awaitable[T]]) -> T:
        """Work with the hooks of a teacher on an event loop, then close it."""

        async def session() -> T:
            try:
                async with asyncio.timeout(TIME_LIMIT):
                    return await work(teacher.hook)
            finally:
                if teacher.implements("aclose"):
                    await teacher.hook.aclose()

        return asyncio.run(session())

    def ask(self, teacher: Plugin[Any], n: int = 1) -> Completion:
        """Return the answer of a teacher to one request."""
        completion: Completion = self.use(teacher, lambda hook: hook.complete(request=self.make_request(n)))
        return completion

    @pytest.mark.parametrize("n", [1, 4])
    def test_a_call_brings_replies(self, subject: Plugin[Any], n: int) -> None:
        completion = self.ask(subject, n)
        assert 1 <= len(completion.replies) <= n
        for reply in completion.replies:
            assert isinstance(reply.text, str)
            assert reply.finish_reason in ("stop", "length", "content_filter")

    def test_the_bill_adds_up(self, subject: Plugin[Any]) -> None:
        usage = self.ask(subject).usage
        if usage is not None:
            assert min(usage.cached_tokens, usage.cache_write_tokens, usage.completion_tokens) >= 0
            assert usage.cached_tokens + usage.cache_write_tokens <= usage.prompt_tokens

    def test_prices_are_dollars(self, subject: Plugin[Any]) -> None:
        price = subject.hook.price(model=self.model)
        if price is not None:
            numbers = (price.prompt, price.completion, price.cached or 0.0, price.cache_write or 0.0, price.batch)
            assert all(0 <= number < 1e6 for number in numbers)

    def test_a_call_brings_at_most_max_n(self, subject: Plugin[Any]) -> None:
        most = subject.hook.max_n(model=self.model)
        assert most is None or most >= 1
        assert len(self.ask(subject, 4).replies) <= min(most or 4, 4)

    def test_many_calls_at_once_leave_the_event_loop_free(self, subject: Plugin[Any]) -> None:
        async def work(hook: Any) -> float:
            await hook.complete(request=self.make_request())  # The first call may import a library.
            calls = [asyncio.create_task(hook.complete(request=self.make_request(first=n))) for n in range(8)]
            longest, last = 0.0, time.monotonic()
            while not all(call.done() for call in calls):
                await asyncio.sleep(0.001)
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
            await asyncio.gather(*calls)
            return longest

        assert self.use(subject, work) < LONGEST_BLOCK

    @pytest.mark.parametrize("calls", [0, 1])
    def test_it_can_be_closed_twice(self, subject: Plugin[Any], calls: int) -> None:
        async def work(hook: Any) -> None:
            for _ in range(calls):
                await hook.complete(request=self.make_request())
            if subject.implements("aclose"):
                await hook.aclose()

        self.use(subject, work)


class HttpTeacherContract(TeacherContract):
    """Tests of a teacher behind HTTP, against a server that fails on request.

    The fault server speaks the API of OpenAI and of Anthropic. For another API, write a fixture ``server`` that returns a
    server with the same attributes ``faults``, ``requests`` and ``stop``.

    Attributes:
        options: a fixture; the default gives the address of the server as ``base_url``.
        refusals: faults that refuse one request for its content.
    """

    model = "gpt-4o"
    refusals: tuple[Fault, ...] = ()

    @pytest.fixture
    def server(self) -> Iterator[FaultServer]:
        with FaultServer() as running:
            yield running

    @pytest.fixture
    def options(self, server: FaultServer) -> dict[str, Any]:
        return {"base_url": server.url}

    def test_the_bill_of_the_server_is_stated(self, subject: Plugin[Any]) -> None:
        usage = self.ask(subject).usage
        assert usage is not None
        assert usage.prompt_tokens > 0
        assert usage.completion_tokens > 0

    def test_a_rate_limit_is_transient_and_states_the_pause(self, subject: Plugin[Any], server: FaultServer) -> None:
        server.faults.append(Fault(429, headers={"Retry-After": "7"}))
        with pytest.raises(TransientError) as caught:
            self.ask(subject)
        assert caught.value.retry_after == 7.0
        assert caught.value.limited

    @pytest.mark.parametrize(
        "fault",
        [Fault(500), Fault(502, "<html>"), Fault(503), Fault(529), Fault(how="cut")],
        ids=["500", "502", "503", "529", "cut"],
    )
    def test_a_fault_of_the_moment_is_transient(self, subject: Plugin[Any], server: FaultServer, fault: Fault) -> None:
        server.faults.append(fault)
        with pytest.raises(TransientError):
            self.ask(subject)

    def test_a_lost_answer_may_have_been_billed(self, subject: Plugin[Any], server: FaultServer) -> None:
        server.faults.append(Fault(how="half"))
        with pytest.raises(TransientError) as caught:
            self.ask(subject)
        assert caught.value.unknown or caught.value.usage is not None

    @pytest.mark.parametrize("status", [401, 403, 404])
    def test_a_fault_that_the_user_must_correct_stops_the_run(
        self, subject: Plugin[Any], server: FaultServer, status: int
    ) -> None:
        server.faults.append(Fault(status, openai_error("this cannot work")))
        with pytest.raises(TeacherError):
            self.ask(subject)

    def test_a_refusal_drops_the_row(self, subject: Plugin[Any], server: FaultServer) -> None:
        for fault in self.refusals:
            server.faults.append(fault)
            with pytest.raises(RowRefused):
                self.ask(subject)

    @pytest.mark.parametrize("body", ["", "<html>", "[]", "{}", '{"choices": 1, "content": 1}'])
    def test_an_answer_that_cannot_be_read_is_an_error_of_the_contract(
        self, subject: Plugin[Any], server: FaultServer, body: str
    ) -> None:
        server.faults.append(Fault(200, body))
        with pytest.raises((TransientError, TeacherError, RowRefused)):
            self.ask(subject)

    def test_a_server_that_is_gone_is_an_error_of_the_contract(self, subject: Plugin[Any], server: FaultServer) -> None:
        server.stop()
        with pytest.raises((TransientError, TeacherError)):
            self.ask(subject)

    def test_a_call_that_waits_holds_up_no_other(self, subject: Plugin[Any], server: FaultServer) -> None:
        server.faults.append(Fault(how="hang"))

        async def work(hook: Any) -> Completion:
            waiting = asyncio.create_task(hook.complete(request=self.make_request()))
            while not server.requests:
                await asyncio.sleep(0.01)
            completion: Completion = await hook.complete(request=self.make_request(first=1))
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            return completion

        rescue = threading.Timer(TIME_LIMIT / 2, server.stop)  # A call that blocks the loop ends with an error.
        rescue.start()
        try:
            assert self.use(subject, work).replies
        finally:
            rescue.cancel()
