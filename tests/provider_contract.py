"""What every teacher behind a provider's API must do: tests that drive a real plugin against the fake server.

A plugin's own tests inherit them, and say what its provider's API looks like.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from email.utils import formatdate
from typing import Any, TypeVar

import pytest

from dsrl import (
    Completion,
    Message,
    PluginRef,
    Rate,
    Request,
    RowRefused,
    SettingsError,
    TeacherError,
    TransientError,
    Usage,
)
from dsrl.plugins.binding import Plugin, load
from dsrl.testing.fault_server import Fault, FaultServer

T = TypeVar("T")

KEY = "sk-proj-planted0123456789abcdefghij"
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
#: The token of a batch.
TOKEN = "0123456789abcdef"


def make_error(message: str) -> dict[str, Any]:
    """Return the body of an error as most providers write it."""
    return {"error": {"message": message, "type": "invalid_request_error"}}


def get_texts(completion: Completion) -> list[str]:
    """Return the texts of the replies."""
    return [reply.text for reply in completion.replies]


def use_teacher(plugin: str, work: Callable[[Plugin[Any]], Awaitable[T]], **options: Any) -> T:
    """Bind a teacher as dsrl does, work with it, and close it."""

    async def run() -> T:
        teacher = load(PluginRef("teacher", plugin, options), "teacher")
        try:
            return await work(teacher)
        finally:
            await teacher.hook.aclose()

    return asyncio.run(run())


class ProviderContract:
    """The tests. A subclass describes its plugin.

    Attributes:
        plugin: name of the teacher.
        request: a request to a model that the fake server has.
        usage: what the fake server bills for it.
        other_models: names that the error about an unknown model must list.
        key_variable: environment variable that holds the provider's key.
        key_page: where users get a key.
        official_address: name of the plugin's constant that holds the provider's own address.
        address_end: what the plugin's base URL has behind the server's root.
        provider: the provider's name in texts.
        options: further options for the test that compares requests.
    """

    plugin: str
    request: Request
    usage: Usage
    other_models: str
    key_variable: str
    key_page: str
    official_address: str
    address_end: str
    provider: str
    options: Mapping[str, Any] = {}

    def make_answer(self, text: str) -> Any:
        """Return the body of a good answer with one reply."""
        raise NotImplementedError

    @pytest.fixture
    def server(self) -> Iterator[FaultServer]:
        """The fake server."""
        with FaultServer() as running:
            yield running

    def use(self, server: FaultServer | str, work: Callable[[Plugin[Any]], Awaitable[T]], **options: Any) -> T:
        """Work with the teacher, on a server or on the address of one."""
        address = server if isinstance(server, str) else server.root + self.address_end
        return use_teacher(self.plugin, work, **{"base_url": address, **options})

    def ask(self, server: FaultServer | str, request: Request | None = None, **options: Any) -> Completion:
        """Send one request."""
        return self.use(server, lambda teacher: teacher.hook.complete(request=request or self.request), **options)

    def ask_often(self, server: FaultServer, times: int, **options: Any) -> Completion:
        """Send the same request several times, and return the last completion."""

        async def work(teacher: Plugin[Any]) -> Completion:
            for _ in range(times):
                completion = await teacher.hook.complete(request=self.request)
            assert isinstance(completion, Completion)
            return completion

        return self.use(server, work, **options)

    # --- answers ------------------------------------------------------------------------------------------------------

    def test_a_good_answer_is_a_completion(self, server: FaultServer) -> None:
        completion = self.ask(server)
        assert len(completion.replies) == 1
        assert completion.usage == self.usage
        assert completion.rate is None

    def test_every_request_is_as_the_sdk_makes_it(self, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """The SDK makes only the first requests; the server must not see a difference."""
        monkeypatch.setenv("MY_KEY", KEY)
        server.headers["Set-Cookie"] = "lane=7; Path=/"
        server.faults.append(Fault(503))  # its cookie goes with the SDK's next request
        texts = ["zero", "one", "zwei: ü 漢 \U0001f600", "three"]

        async def work(teacher: Plugin[Any]) -> None:
            for text in texts:
                with suppress(TransientError):
                    await teacher.hook.complete(request=replace(self.request, messages=(Message("user", text),)))

        self.use(server, work, api_key_env="MY_KEY", **self.options)
        assert [body["messages"][0]["content"] for body in server.bodies] == texts
        _, first, second, third = (dict(headers) for _, headers, _ in server.requests)
        lengths = {headers.pop("Content-Length") for headers in (first, second, third)}
        assert len(lengths) == 3
        assert first == second == third
        assert any(KEY in value for value in first.values())
        assert first["Cookie"] == "lane=7"
        assert not any("idempotency" in name.lower() for name in first)
        assert len({path for path, _, _ in server.requests}) == 1

    def test_lone_surrogates_of_other_models_can_be_sent(self, server: FaultServer) -> None:
        self.ask(server, replace(self.request, messages=(Message("user", "a \ud83d b"),)))
        assert server.bodies[0]["messages"][0]["content"] == "a ? b"

    def test_a_reply_of_ten_megabytes_is_cut(self, server: FaultServer) -> None:
        server.faults.append(Fault(body=self.make_answer("x" * 10_000_000)))
        (reply,) = self.ask(server).replies
        assert (len(reply.text), reply.finish_reason) == (1_000_000, "length")

    def test_an_endless_body_is_not_read_to_its_end(self, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dsrl_http.bodies.MOST_ANSWER_BYTES", 2**20)
        server.faults.append(Fault(body="x" * (2**20 + 1)))
        with pytest.raises(TransientError, match="more than 1 MB"):
            self.ask(server)

    def test_as_many_requests_go_out_as_are_made(self, server: FaultServer) -> None:
        server.faults.extend([Fault(how="hang")] * 150)

        async def work(teacher: Plugin[Any]) -> None:
            tasks = [asyncio.create_task(teacher.hook.complete(request=self.request)) for _ in range(150)]
            async with asyncio.timeout(20):
                while len(server.requests) < 150:
                    await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()

        self.use(server, work)

    # --- failures -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("fault", "text"),
        [
            (Fault(500, "boom"), "500: boom"),
            (Fault(502, "<html><head><title>502 Bad Gateway</title></head></html>"), "HTML .502 Bad Gateway."),
            (Fault(503, make_error("overloaded")), "503: overloaded"),
            (Fault(504, ""), "504"),
            (Fault(529, make_error("overloaded")), "529: overloaded"),
            (Fault(408, make_error("slow")), "408"),
            (Fault(409, make_error("lock")), "409"),
            (Fault(429, make_error("Rate limit reached")), "429: Rate limit"),
            (Fault(how="cut"), "broke|closed the connection"),
            (Fault(how="half"), "broke|closed the connection"),
            (Fault(body='{"choices": [{"mess'), "invalid JSON"),
            (Fault(body="[" * 100_000), "invalid JSON"),
            (Fault(body=[1]), "invalid JSON"),
            (Fault(body=""), "invalid JSON"),
            (Fault(body={"error": {"message": "Provider returned error", "code": 502}}), "502: Provider returned"),
            (Fault(body=make_error("boom"), headers={"Content-Encoding": "gzip"}), "broke"),
        ],
    )
    @pytest.mark.parametrize("answers_before", [0, 1])
    def test_what_is_worth_a_retry(self, server: FaultServer, fault: Fault, text: str, answers_before: int) -> None:
        """The first request of a model goes out in another way than those after a good answer."""
        server.faults.extend([Fault()] * answers_before)
        server.faults.append(fault)

        async def work(teacher: Plugin[Any]) -> Completion:
            for _ in range(answers_before):
                await teacher.hook.complete(request=self.request)
            with pytest.raises(TransientError, match=text):
                await teacher.hook.complete(request=self.request)
            assert len(server.requests) == answers_before + 1, "the SDK must not retry, because the ledger does"
            completion = await teacher.hook.complete(request=self.request)
            assert isinstance(completion, Completion)
            return completion

        assert len(self.use(server, work).replies) == 1

    @pytest.mark.parametrize(
        ("fault", "is_unknown"),
        [
            (Fault(how="cut"), True),
            (Fault(how="half"), True),
            (Fault(how="hang"), True),
            (Fault(body="no JSON"), True),
            (Fault(body={"choices": []}), True),
            (Fault(504, "<html>"), True),
            (Fault(500, make_error("oops")), False),
            (Fault(429, make_error("slow down")), False),
        ],
    )
    @pytest.mark.parametrize("answers_before", [0, 1])
    def test_an_answer_that_is_lost_may_have_been_billed(
        self, server: FaultServer, fault: Fault, is_unknown: bool, answers_before: int
    ) -> None:
        server.faults.extend([Fault()] * answers_before)
        server.faults.append(fault)
        with pytest.raises(TransientError) as caught:
            self.ask_often(server, answers_before + 1, timeout=1.0)
        assert caught.value.unknown is is_unknown

    def test_a_server_that_hangs_is_given_up(self, server: FaultServer) -> None:
        server.faults.append(Fault(how="hang"))
        with pytest.raises(TransientError, match=r"did not answer"):
            self.ask(server, timeout=0.2)

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({}, None),
            ({"Retry-After": "7"}, 7.0),
            ({"retry-after-ms": "250", "Retry-After": "1"}, 0.25),
            ({"Retry-After": "soon"}, None),
            ({"Retry-After": "-3"}, None),
            ({"Retry-After": "Mon, 01 Jan 2024 00:00:00 GMT"}, 0.0),
        ],
    )
    def test_how_long_to_wait(self, server: FaultServer, headers: dict[str, str], seconds: float | None) -> None:
        server.faults.append(Fault(429, make_error("slow down"), {**headers, "x-ratelimit-remaining-requests": "0"}))
        with pytest.raises(TransientError) as caught:
            self.ask(server)
        assert caught.value.retry_after == seconds
        assert caught.value.rate == Rate(remaining_requests=0)

    def test_a_date_to_wait_for(self, server: FaultServer) -> None:
        server.faults.append(Fault(503, "", {"Retry-After": formatdate(time.time() + 1000, usegmt=True)}))
        with pytest.raises(TransientError) as caught:
            self.ask(server)
        assert caught.value.retry_after == pytest.approx(1000, abs=100)

    @pytest.mark.parametrize(
        ("fault", "reason"),
        [
            (Fault(400, make_error("maximum context length is 512 tokens")), "context_too_long"),
            (Fault(400, {"object": "error", "message": "prompt is too long", "code": 400}), "context_too_long"),
            (Fault(413, "too big"), "context_too_long"),
            (Fault(400, make_error("blocked by content filtering policy")), "content_filter"),
            (Fault(400, make_error("your prompt was flagged")), "content_filter"),
        ],
    )
    @pytest.mark.parametrize("answers_before", [0, 1])
    def test_what_drops_the_row(self, server: FaultServer, fault: Fault, reason: str, answers_before: int) -> None:
        server.faults.extend([Fault()] * answers_before)
        server.faults.append(fault)
        with pytest.raises(RowRefused) as caught:
            self.ask_often(server, answers_before + 1)
        assert caught.value.reason == reason
        assert len(server.requests) == answers_before + 1

    def test_an_unexplained_refusal_after_good_answers_drops_the_row(self, server: FaultServer) -> None:
        server.faults.extend([Fault(), Fault(400, make_error("frobnicate is wrong"))])
        with pytest.raises(RowRefused, match="frobnicate") as caught:
            self.ask_often(server, 2)
        assert caught.value.reason == "bad_request"

    @pytest.mark.parametrize(
        ("fault", "text"),
        [
            (Fault(402, make_error("Insufficient credits")), "billing"),
            (Fault(400, make_error("Your credit balance is too low to access the API")), "billing"),
            (Fault(403, make_error("Country not supported")), "Country not supported"),
            (Fault(404, "<html><title>nginx</title>"), r"Check the end of the address"),
            (Fault(400, make_error("frobnicate is wrong")), "rejected the request .400.: frobnicate"),
        ],
    )
    def test_what_stops_the_run(self, server: FaultServer, fault: Fault, text: str) -> None:
        server.faults.append(fault)
        with pytest.raises(TeacherError, match=text):
            self.ask(server)

    def test_an_unknown_model_brings_the_nearest_names(self, server: FaultServer) -> None:
        unknown = self.request.model[:-1]
        text = rf"has no model '{unknown}' .*; available models include {self.other_models}"
        with pytest.raises(TeacherError, match=text):
            self.ask(server, replace(self.request, model=unknown))
        with pytest.raises(TeacherError, match=f"{self.plugin}:MODEL"):
            self.ask(server, replace(self.request, model=""))

    # --- addresses ----------------------------------------------------------------------------------------------------

    def test_a_server_that_is_not_there(self) -> None:
        with FaultServer() as gone:
            address = gone.root
        with pytest.raises(TeacherError, match=rf"no server can be reached at {address} .*is it running"):
            self.ask(address)
        with pytest.raises(TeacherError, match="no server can be reached"):
            self.ask("http://no-such-host.invalid")

    def test_a_server_of_something_else_is_reported_at_once(self, server: FaultServer) -> None:
        with pytest.raises(TeacherError, match=r"no server can be reached at https://.*SSL"):
            self.ask(server.root.replace("http", "https"))
        page = Fault(body="\n<!doctype html><title>Log in</title>")
        server.faults.append(page)
        with pytest.raises(TeacherError, match=r"no such service at http://.* a page of HTML \(Log in\)\)\. .*/v1"):
            self.ask(server)

        async def work(teacher: Plugin[Any]) -> None:
            await teacher.hook.complete(request=self.request)
            server.faults.append(page)
            with pytest.raises(TransientError, match="invalid JSON"):  # it has answered before, so it may again
                await teacher.hook.complete(request=self.request)

        self.use(server, work)

    def test_a_server_that_goes_away_later_may_come_back(self, server: FaultServer) -> None:
        async def work(teacher: Plugin[Any]) -> None:
            await teacher.hook.complete(request=self.request)
            await asyncio.to_thread(server.stop)
            with pytest.raises(TransientError):
                await teacher.hook.complete(request=self.request)

        self.use(server, work)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("answers_before", [0, 1])
    def test_no_redirect_is_followed(self, server: FaultServer, status: int, answers_before: int) -> None:
        with FaultServer() as other:
            target = other.root.replace("http://", "http://user:word@") + "/v1/answers?token=secret"
            server.faults.extend([Fault()] * answers_before)
            server.faults.append(Fault(status, "", {"Location": target}))
            with pytest.raises(TeacherError, match=rf"redirects to {other.root}/v1/answers .*base_url") as caught:
                self.ask_often(server, answers_before + 1)
            assert (len(server.requests), other.requests) == (answers_before + 1, [])
            assert "word" not in str(caught.value)
            assert "secret" not in str(caught.value)

    # --- keys and options ---------------------------------------------------------------------------------------------

    def test_a_missing_key_is_reported_before_anything_is_done(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(self.key_variable, raising=False)
        monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
        monkeypatch.setattr("keyring.get_password", lambda service, name: None)
        teacher = load(PluginRef("teacher", self.plugin), "teacher")
        text = rf"{self.key_variable} is not set.*{self.key_page}.*keyring set {self.plugin}"
        with pytest.raises(TeacherError, match=text):
            teacher.hook.prepare(task=None, model="m")

    def test_a_wrong_key_is_reported_without_the_key(
        self, server: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server.key = "another"
        monkeypatch.setenv(self.key_variable, KEY)
        monkeypatch.setattr(self.official_address, server.root + self.address_end)
        text = rf"{self.provider} rejected the key in {self.key_variable} .*{self.key_page}"
        with pytest.raises(TeacherError, match=text) as caught:
            self.ask(server)
        assert KEY not in str(caught.value) + repr(caught.value.__cause__)
        assert "[key]" in str(caught.value)
        assert KEY in str(server.requests[0][1]), "it was sent"

    def test_a_server_that_requires_a_key_says_how(self, server: FaultServer) -> None:
        server.key = "another"
        with pytest.raises(TeacherError, match=r"requires a key .*api_key_env"):
            self.ask(server)

    def test_a_key_goes_only_where_it_belongs(self, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(self.key_variable, KEY)
        monkeypatch.setenv("OTHER_KEY", "other-key")
        self.ask_often(server, 2)
        assert KEY not in str(server.requests)
        self.ask(server, api_key_env="OTHER_KEY")
        assert "other-key" in str(server.requests[-1][1])

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"base_url": "localhost:8000"}, "not a valid server URL"),
            ({"base_url": "http://u:secret@h/v1"}, "without a password"),
            ({"base_url": "http://h:port/v1"}, "not a valid server URL"),
            ({"structured": "yes"}, "must be auto"),
            ({"timeout": 0}, "above 0"),
            ({"timeout": True}, "above 0"),
            ({"api_key": KEY}, "no option api_key"),
        ],
    )
    def test_options_that_are_not_valid(self, options: dict[str, Any], text: str) -> None:
        with pytest.raises(SettingsError, match=text) as caught:
            load(PluginRef("teacher", self.plugin, options), "teacher")
        assert "secret" not in str(caught.value)
        assert KEY not in str(caught.value)

    def test_an_unknown_price_is_not_zero(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
        teacher = load(PluginRef("teacher", self.plugin), "teacher")
        assert teacher.hook.price(model=self.request.model).batch == 0.5
        assert teacher.hook.price(model="unheard-of") is None
        own = load(PluginRef("teacher", self.plugin, {"base_url": "http://127.0.0.1:8000/v1"}), "teacher")
        assert own.hook.price(model=self.request.model) is None

    # --- batches ------------------------------------------------------------------------------------------------------

    def test_a_batch_can_be_cancelled(self, server: FaultServer) -> None:
        server.batch_status = "in_progress"

        async def work(teacher: Plugin[Any]) -> str:
            batch = await teacher.hook.submit_batch(requests=[self.request], token=TOKEN)
            await teacher.hook.cancel_batch(batch=batch)
            server.batch_status = "completed"
            await teacher.hook.cancel_batch(batch=batch)
            return str(batch)

        assert server.cancelled == [self.use(server, work)] * 2

    def test_an_unknown_batch_is_reported(self, server: FaultServer) -> None:
        with pytest.raises(TeacherError, match=r"does not know batch batch_9: [Nn]o "):
            self.use(server, lambda teacher: teacher.hook.poll_batch(batch="batch_9", model=self.request.model))
