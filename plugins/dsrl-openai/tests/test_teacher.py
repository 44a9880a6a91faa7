from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from email.utils import formatdate
from typing import Any, TypeVar
from unittest.mock import ANY

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrl.errors import RowRefused, SettingsError, TeacherError, TransientError
from dsrl.plugins.binding import Plugin, load
from dsrl.testing.fault_server import Fault, FaultServer, completion, openai_error
from dsrl.types import BatchState, Completion, Message, PluginRef, Price, Rate, Reply, Request, Usage

T = TypeVar("T")
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
REQUEST = Request("solve", "gpt-4o", (Message("system", "Add."), Message("user", "1 + 1?")), 0.7, 64)
NAMES = [
    *(
        "choices",
        "message",
        "content",
        "finish_reason",
        "refusal",
        "error",
        "usage",
        "prompt_tokens",
        "completion_tokens",
    ),
    *("prompt_tokens_details", "cached_tokens", "text", "code"),
]
TOKEN = "0123456789abcdef"
KEY = "sk-proj-planted0123456789abcdefghij"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def using(server: FaultServer | str, work: Callable[[Plugin[Any]], Awaitable[T]], **options: Any) -> T:
    """Bind the teacher as dsrl does, work with it, let it go."""

    async def bound() -> T:
        url = server if isinstance(server, str) else server.url
        teacher = load(PluginRef("teacher", "openai", {"base_url": url, **options}), "teacher")
        try:
            return await work(teacher)
        finally:
            await teacher.hook.aclose()

    return asyncio.run(bound())


def ask(server: FaultServer | str, request: Request = REQUEST, **options: Any) -> Completion:
    return using(server, lambda teacher: teacher.hook.complete(request=request), **options)


def texts(completion: Completion) -> list[str]:
    return [reply.text for reply in completion.replies]


# --- answers ----------------------------------------------------------------------------------------------------------


def test_n_answers_are_one_request(server: FaultServer) -> None:
    got = ask(server, replace(REQUEST, n=16, top_p=0.9))
    assert texts(got) == [f"reply 0.{i}" for i in range(16)]
    assert got.usage == Usage(100, 160, cached_tokens=40)
    (body,) = server.bodies
    assert body == {
        "model": "gpt-4o",
        "messages": [{"role": "system", "content": "Add."}, {"role": "user", "content": "1 + 1?"}],
        "max_tokens": 64,
        "temperature": 0.7,
        "top_p": 0.9,
        "n": 16,
    }


def test_a_server_that_ignores_n_is_remembered(server: FaultServer) -> None:
    server.ignores_n = True

    async def work(teacher: Plugin[Any]) -> tuple[Completion, int, int]:
        before = teacher.hook.max_n(model="gpt-4o")
        got = await teacher.hook.complete(request=replace(REQUEST, n=4))
        await teacher.hook.complete(request=replace(REQUEST, n=4))
        return got, before, teacher.hook.max_n(model="gpt-4o")

    got, before, after = using(server, work)
    assert texts(got) == ["reply 0.0"]
    assert got.usage == Usage(100, 10, 40)
    assert (before, after) == (128, 1)
    assert ["n" in body for body in server.bodies] == [True, False]


def test_more_choices_than_asked_for_are_cut(server: FaultServer) -> None:
    server.faults.append(Fault(body=completion(["a", "b", "c"])))
    assert texts(ask(server)) == ["a"]


def test_max_n_is_a_limit(server: FaultServer) -> None:
    assert len(ask(server, replace(REQUEST, n=5), max_n=2).replies) == 2
    assert [body.get("n") for body in server.bodies] == [2]


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "length"), ("content_filter", "content_filter"), ("odd", "stop")]
)
def test_finish_reasons(server: FaultServer, finish: str, reason: str) -> None:
    server.faults.append(Fault(body=completion(["cut o"], finish=finish)))
    assert ask(server).replies[0].finish_reason == reason


def test_a_reply_of_ten_megabytes_is_cut(server: FaultServer) -> None:
    server.faults.append(Fault(body=completion(["x" * 10_000_000])))
    (reply,) = ask(server).replies
    assert (len(reply.text), reply.finish_reason) == (1_000_000, "length")


def test_an_endless_body_is_not_read_to_its_end(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsrl_http.remote.MOST_BYTES", 2**20)
    server.faults.append(Fault(body="x" * (2**20 + 1)))
    with pytest.raises(TransientError, match="more than 1 MB"):
        ask(server)


@pytest.mark.parametrize(
    "odd",
    [
        {"choices": [{"message": {"content": [{"type": "text", "text": "pa"}, {"text": "rts"}, 3]}}], "usage": {}},
        {"choices": [{"message": {"content": "parts"}}], "usage": {"prompt_tokens": -4, "completion_tokens": "many"}},
        {"choices": [{"message": {"content": "parts"}, "finish_reason": 7}], "usage": [1], "id": None},
    ],
)
def test_odd_shapes_are_read(server: FaultServer, odd: Any) -> None:
    server.faults.append(Fault(body=odd))
    got = ask(server)
    assert texts(got) == ["parts"]
    assert got.usage is None, "the bill is not known"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner, max_size=4)
    ),
)


@given(body=st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6), choices=st.lists(JSON, max_size=3))
def test_no_shape_of_an_answer_is_a_crash(body: dict[str, Any], choices: list[Any]) -> None:
    from dsrl_openai.teacher import _completion

    for shape in (body, {**body, "choices": choices}, {**body, "choices": [{"message": c} for c in choices]}):
        try:
            completion = _completion(shape, None)
        except (RowRefused, TransientError):
            continue
        assert completion.replies
        assert all(isinstance(reply.text, str) for reply in completion.replies)
        assert completion.usage is None or 0 <= completion.usage.cached_tokens <= completion.usage.prompt_tokens


def test_lone_surrogates_of_other_models_can_be_sent(server: FaultServer) -> None:
    ask(server, replace(REQUEST, messages=(Message("user", "a \ud83d b"),)))
    assert server.bodies[0]["messages"][0]["content"] == "a ? b"


def test_rate_limits_are_told(server: FaultServer) -> None:
    server.headers = {
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-reset-tokens": "6m0.5s",
    }
    assert ask(server).rate == Rate(59, 149984, 1.0, 360.5)
    server.headers = {}
    assert ask(server).rate is None


# --- what a server does not take ---------------------------------------------------------------------------------------


def refusing(**rules: str) -> Callable[[Any], Fault | None]:
    """Refuse requests that have a setting, naming it as OpenAI does."""

    def refused(body: Any) -> Fault | None:
        for name, text in rules.items():
            kind = body.get("response_format", {}).get("type")
            if name in body or name == kind:
                return Fault(
                    400, openai_error(text, "unsupported_parameter", param="response_format" if kind else name)
                )
        return None

    return refused


def test_a_schema_is_sent_and_given_up_step_by_step(server: FaultServer) -> None:
    schemed = replace(REQUEST, schema=SCHEMA)

    async def twice(teacher: Plugin[Any]) -> None:
        await teacher.hook.complete(request=schemed)
        await teacher.hook.complete(request=schemed)

    def formats() -> list[Any]:
        kinds = [body.get("response_format", {}).get("type") for body in server.bodies]
        server.asked.clear()
        return kinds

    using(server, twice)
    wanted = server.bodies[0]["response_format"]
    assert wanted == {"type": "json_schema", "json_schema": {"name": "reply", "schema": SCHEMA, "strict": True}}
    assert formats() == ["json_schema"] * 2
    server.refuses = refusing(json_schema="'response_format' of type 'json_schema' is not supported with this model.")
    using(server, twice)
    assert formats() == ["json_schema", "json_object", "json_object"]
    server.refuses = refusing(response_format="This server has no response_format")
    using(server, twice)
    assert formats() == ["json_schema", "json_object", None, None]
    using(server, twice, structured="off")
    assert formats() == [None, None]
    with pytest.raises(TeacherError, match="no response_format"):
        using(server, twice, structured="schema")


def test_requests_at_the_same_time_learn_together(server: FaultServer) -> None:
    server.refuses = refusing(response_format="no response_format here")

    async def work(teacher: Plugin[Any]) -> None:
        schemed = replace(REQUEST, schema=SCHEMA)
        await asyncio.gather(*(teacher.hook.complete(request=schemed) for _ in range(8)))
        server.asked.clear()
        await teacher.hook.complete(request=schemed)

    using(server, work)
    assert len(server.asked) == 1


def test_a_reasoning_model_gets_its_own_names(server: FaultServer, caplog: pytest.LogCaptureFixture) -> None:
    server.refuses = refusing(
        max_tokens="Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.",
        temperature="Unsupported value: 'temperature' does not support 0.7 with this model.",
        top_p="Unsupported parameter: 'top_p' is not supported with this model.",
    )

    async def work(teacher: Plugin[Any]) -> None:
        await teacher.hook.complete(request=replace(REQUEST, top_p=0.5))
        await teacher.hook.complete(request=REQUEST)

    using(server, work)
    assert len(server.asked) == 5
    assert set(server.bodies[-1]) == {"model", "messages", "max_completion_tokens"}
    assert "does not take temperature" in caplog.text


def test_an_older_server_gets_the_older_name(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsrl_openai.connection.OPENAI", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.refuses = refusing(max_completion_tokens="Unknown parameter: 'max_completion_tokens'")
    ask(server)
    assert ["max_completion_tokens" in body for body in server.bodies] == [True, False]


def test_a_name_refused_both_ways_is_the_users_to_mend(server: FaultServer) -> None:
    server.refuses = refusing(
        max_tokens="max_tokens is invalid", max_completion_tokens="max_completion_tokens is invalid"
    )
    with pytest.raises(TeacherError, match="is invalid"):
        ask(server)


# --- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(500, "boom"), "500: boom"),
        (Fault(502, "<html><head><title>502 Bad Gateway</title></head></html>"), "HTML .502 Bad Gateway."),
        (Fault(503, openai_error("overloaded")), "503: overloaded"),
        (Fault(408, openai_error("slow")), "408"),
        (Fault(409, openai_error("lock")), "409"),
        (Fault(429, openai_error("Rate limit reached", "rate_limit_exceeded")), "429: Rate limit"),
        (Fault(429, openai_error("add a payment method at .../account/billing", "rate_limit_exceeded")), "429: add"),
        (Fault(how="cut"), "broke|hung up"),
        (Fault(how="half"), "broke|hung up"),
        (Fault(body='{"choices": [{"mess'), "no JSON object"),
        (Fault(body="[" * 100_000), "no JSON object"),
        (Fault(body=[1]), "no JSON object"),
        (Fault(body=""), "no JSON object"),
        (Fault(body={"choices": []}), "without choices"),
        (Fault(body={"choices": None}), "without choices"),
        (Fault(body={"error": {"message": "Provider returned error", "code": 502}}), "502: Provider returned"),
        (Fault(body={"choices": [{"error": {"message": "upstream"}, "message": {}}]}), "upstream"),
        (Fault(body=completion(["a"]), headers={"Content-Encoding": "gzip"}), "broke"),
    ],
)
@pytest.mark.parametrize("answered", [False, True])
def test_what_is_worth_repeating(server: FaultServer, fault: Fault, said: str, answered: bool) -> None:
    server.faults.extend([Fault()] * answered)
    server.faults.append(fault)

    async def work(teacher: Plugin[Any]) -> Completion:
        if answered:
            await teacher.hook.complete(request=REQUEST)
        with pytest.raises(TransientError, match=said):
            await teacher.hook.complete(request=REQUEST)
        return await teacher.hook.complete(request=REQUEST)

    assert len(using(server, work).replies) == 1


def test_every_request_is_as_the_sdk_makes_it(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests after the first are not made by the SDK anew; the server must not see it."""
    monkeypatch.setenv("MY_KEY", KEY)
    server.headers["Set-Cookie"] = "lane=7; Path=/"
    server.faults.append(Fault(503))  # its cookie goes with what the SDK makes next
    texts_sent = ["zero", "one", "zwei: ü 漢 \U0001f600", "three"]

    async def work(teacher: Plugin[Any]) -> None:
        for text in texts_sent:
            with suppress(TransientError):
                await teacher.hook.complete(request=replace(REQUEST, messages=(Message("user", text),)))

    using(server, work, api_key_env="MY_KEY")
    assert [body["messages"][0]["content"] for body in server.bodies] == texts_sent
    _, first, second, third = (dict(headers) for _, headers, _ in server.asked)
    assert first["Authorization"] == f"Bearer {KEY}"
    assert not any("idempotency" in name.lower() for name in first)
    lengths = {headers.pop("Content-Length") for headers in (first, second, third)}
    assert len(lengths) == 3
    assert first == second == third
    assert first["Cookie"] == "lane=7"
    assert len({path for path, _, _ in server.asked}) == 1


@pytest.mark.parametrize(
    ("fault", "unknown"),
    [
        (Fault(how="cut"), True),
        (Fault(how="half"), True),
        (Fault(how="hang"), True),
        (Fault(body="no JSON"), True),
        (Fault(body={"choices": []}), True),
        (Fault(body={"choices": [], "usage": {"prompt_tokens": 7}}), True),
        (Fault(body={"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 0}}), False),
        (Fault(504, "<html>"), True),
        (Fault(500, openai_error("oops")), False),
        (Fault(429, openai_error("slow down")), False),
    ],
)
@pytest.mark.parametrize("answered", [False, True])
def test_an_answer_that_is_lost_may_have_been_billed(
    server: FaultServer, fault: Fault, unknown: bool, answered: bool
) -> None:
    server.faults.extend([Fault()] * answered)
    server.faults.append(fault)

    async def work(teacher: Plugin[Any]) -> None:
        if answered:
            await teacher.hook.complete(request=REQUEST)
        with pytest.raises(TransientError) as raised:
            await teacher.hook.complete(request=REQUEST)
        assert raised.value.unknown is unknown

    using(server, work, timeout=1.0)


def test_as_many_are_under_way_as_are_asked(server: FaultServer) -> None:
    server.faults.extend([Fault(how="hang")] * 150)

    async def work(teacher: Plugin[Any]) -> None:
        tasks = [asyncio.create_task(teacher.hook.complete(request=REQUEST)) for _ in range(150)]
        async with asyncio.timeout(20):
            while len(server.asked) < 150:
                await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()

    using(server, work)


def test_a_server_that_hangs_is_given_up(server: FaultServer) -> None:
    server.faults.append(Fault(how="hang"))
    with pytest.raises(TransientError, match=r"did not answer"):
        ask(server, timeout=0.2)


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after-ms": "250", "Retry-After": "1"}, 0.25),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "Mon, 01 Jan 2024 00:00:00 GMT"}, 0.0),
    ],
)
def test_how_long_to_wait(server: FaultServer, headers: dict[str, str], wanted: float | None) -> None:
    server.faults.append(Fault(429, openai_error("slow down"), {**headers, "x-ratelimit-remaining-requests": "0"}))
    with pytest.raises(TransientError) as caught:
        ask(server)
    assert caught.value.retry_after == wanted
    assert caught.value.rate == Rate(remaining_requests=0)


def test_a_date_to_wait_for(server: FaultServer) -> None:
    server.faults.append(Fault(503, "", {"Retry-After": formatdate(time.time() + 1000, usegmt=True)}))
    with pytest.raises(TransientError) as caught:
        ask(server)
    assert caught.value.retry_after == pytest.approx(1000, abs=100)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(400, openai_error("too long", "context_length_exceeded", param="messages")), "context_too_long"),
        (
            Fault(400, openai_error("This model's maximum context length is 512 tokens", param="max_tokens")),
            "context_too_long",
        ),
        (Fault(400, {"object": "error", "message": "maximum context length is 512", "code": 400}), "context_too_long"),
        (Fault(413, "too big"), "context_too_long"),
        (Fault(400, openai_error("management policy", "content_filter")), "content_filter"),
        (
            Fault(
                400, {"error": {"code": "x", "message": "no", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}
            ),
            "content_filter",
        ),
        (Fault(400, openai_error("Invalid prompt: your prompt was flagged", "invalid_prompt")), "content_filter"),
        (Fault(body=completion([""], refusal="I cannot help with that.")), "refused"),
    ],
)
@pytest.mark.parametrize("answered", [False, True])
def test_what_drops_the_row(server: FaultServer, fault: Fault, reason: str, answered: bool) -> None:
    server.faults.extend([Fault()] * answered)
    server.faults.append(fault)

    async def work(teacher: Plugin[Any]) -> None:
        if answered:
            await teacher.hook.complete(request=REQUEST)
        with pytest.raises(RowRefused) as caught:
            await teacher.hook.complete(request=REQUEST)
        assert caught.value.reason == reason

    using(server, work)
    assert len(server.asked) == 1 + answered


def test_a_refusal_says_what_it_cost(server: FaultServer) -> None:
    server.faults.append(Fault(body=completion([""], refusal="no")))
    with pytest.raises(RowRefused) as caught:
        ask(server)
    assert caught.value.usage == Usage(100, 10, 40)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(429, openai_error("You exceeded your current quota", "insufficient_quota")), "billing"),
        (Fault(402, openai_error("Insufficient credits")), "billing"),
        (Fault(403, openai_error("Country not supported", "unsupported_country")), "Country not supported"),
        (Fault(404, "<html><title>nginx</title>"), r"does the address end as the server wants it, e\.g\. in /v1"),
        (Fault(400, openai_error("frobnicate is wrong")), "refuses the request .400.: frobnicate"),
    ],
)
def test_what_stops_the_run(server: FaultServer, fault: Fault, said: str) -> None:
    server.faults.append(fault)
    with pytest.raises(TeacherError, match=said):
        ask(server, replace(REQUEST, model="gpt-4o"))


def test_an_unexplained_refusal_after_good_answers_drops_the_row(server: FaultServer) -> None:
    server.faults.extend([Fault(), Fault(400, openai_error("frobnicate is wrong"))])

    async def work(teacher: Plugin[Any]) -> None:
        await teacher.hook.complete(request=REQUEST)
        await teacher.hook.complete(request=REQUEST)

    with pytest.raises(RowRefused, match="frobnicate") as caught:
        using(server, work)
    assert caught.value.reason == "bad_request"


def test_an_unknown_model_brings_the_nearest_names(server: FaultServer) -> None:
    with pytest.raises(TeacherError, match=r"has no model 'gpt4o' .*; there is gpt-4o, gpt-4o-mini"):
        ask(server, replace(REQUEST, model="gpt4o"))
    with pytest.raises(TeacherError, match="openai:MODEL"):
        ask(server, replace(REQUEST, model=""))


def test_a_server_that_is_not_there() -> None:
    with FaultServer() as gone:
        url = gone.url
    with pytest.raises(TeacherError, match=rf"no server can be reached at {url} .*is it running"):
        ask(url)
    with pytest.raises(TeacherError, match="no server can be reached"):
        ask("http://no-such-host.invalid/v1")


def test_a_server_that_speaks_something_else_is_told_at_once(server: FaultServer) -> None:
    with pytest.raises(TeacherError, match=r"no server can be reached at https://.*SSL"):
        ask(server.url.replace("http", "https"))
    page = Fault(body="\n<!doctype html><title>Log in</title>")
    server.faults.append(page)
    with pytest.raises(TeacherError, match=r"no such service at http://.* a page of HTML \(Log in\); .*/v1"):
        ask(server)

    async def work(teacher: Plugin[Any]) -> None:
        await teacher.hook.complete(request=REQUEST)
        server.faults.append(page)
        with pytest.raises(TransientError, match="no JSON object"):  # it has answered before, so it may again
            await teacher.hook.complete(request=REQUEST)

    using(server, work)


def test_a_server_that_goes_away_later_may_come_back() -> None:
    with FaultServer() as server:

        async def work(teacher: Plugin[Any]) -> None:
            await teacher.hook.complete(request=REQUEST)
            await asyncio.to_thread(server.stop)
            with pytest.raises(TransientError):
                await teacher.hook.complete(request=REQUEST)

        using(server, work)


# --- keys and addresses ------------------------------------------------------------------------------------------------


def test_a_key_goes_only_where_it_belongs(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OTHER_KEY", "other")

    def sent(**options: Any) -> str:
        ask(server, **options)
        return server.asked[-1][1]["Authorization"]

    assert sent() == "Bearer none"
    assert sent(api_key_env="OTHER_KEY") == "Bearer other"
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert sent(base_url="") == f"Bearer {KEY}", "named beside each other, they belong together"


def test_a_missing_key_is_said_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setattr("keyring.get_password", lambda service, name: None)
    teacher = load(PluginRef("teacher", "openai"), "teacher")
    with pytest.raises(TeacherError, match=r"OPENAI_API_KEY is not set.*platform\.openai\.com.*keyring set openai"):
        teacher.hook.prepare(task=None, model="m")


def test_a_wrong_key_is_told_without_the_key(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.key = "another"
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr("dsrl_openai.connection.OPENAI", server.url)
    with pytest.raises(
        TeacherError, match=r"OpenAI does not take the key in OPENAI_API_KEY .*platform\.openai\.com"
    ) as caught:
        ask(server)
    assert KEY not in str(caught.value) + repr(caught.value.__cause__)
    assert "[key]" in str(caught.value)


def test_a_server_that_wants_a_key_says_how(server: FaultServer) -> None:
    server.key = "another"
    with pytest.raises(TeacherError, match=r"wants a key .*api_key_env"):
        ask(server)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"base_url": "localhost:8000"}, "no address of a server"),
        ({"base_url": "http://u:secret@h/v1"}, "without a password"),
        ({"base_url": "http://h:port/v1"}, "no address"),
        ({"base_url": "http://h", "azure_endpoint": "http://a"}, "exclude each other"),
        ({"api_version": "2024-10-21"}, "belongs to azure_endpoint"),
        ({"structured": "yes"}, "must be auto"),
        ({"timeout": 0}, "above 0"),
        ({"max_n": "many"}, "above 0"),
        ({"api_key": KEY}, "no option api_key"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        load(PluginRef("teacher", "openai", options), "teacher")
    assert "secret" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_the_server_is_part_of_what_decides_a_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    here = load(PluginRef("teacher", "openai"), "teacher").hook.identity()
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    assert load(PluginRef("teacher", "openai"), "teacher").hook.identity() != here


def test_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    teacher = load(PluginRef("teacher", "openai"), "teacher")
    assert teacher.hook.price(model="gpt-4o") == Price(2.5, 10.0, cached=1.25, cache_write=2.5, batch=0.5)
    assert teacher.hook.price(model="gpt-unheard-of") is None
    own = load(PluginRef("teacher", "openai", {"base_url": "http://127.0.0.1:8000/v1"}), "teacher")
    assert own.hook.price(model="gpt-4o") is None, "an unknown price is not zero"


def test_azure_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-key")
    with FaultServer() as server:
        asked = []

        async def work(teacher: Plugin[Any]) -> None:
            with pytest.raises(TeacherError) as caught:
                await teacher.hook.complete(request=REQUEST)
            asked.append(str(caught.value))

        for version in ("2024-10-21", ""):
            using("", work, azure_endpoint=server.root, api_version=version)
    # The fake server has no such paths; that they were asked for is what counts here.
    assert all("no such service at http://127.0.0.1" in said for said in asked)


# --- batches -----------------------------------------------------------------------------------------------------------


def test_a_batch_goes_out_and_comes_back(server: FaultServer) -> None:
    requests = [replace(REQUEST, n=2), *(replace(REQUEST, messages=(Message("user", str(i)),)) for i in range(1, 8))]
    said = openai_error
    server.batch_lines = {
        "1": {"status_code": 400, "body": said("too long", "context_length_exceeded")},
        "2": {"status_code": 500, "body": said("boom")},
        "3": {"status_code": 429, "body": said("slow down")},
        "4": {"status_code": 200, "body": completion([""], refusal="no")},
        "5": "this is no JSON",
        "6": {"status_code": 200, "body": {"choices": []}},
    }
    server.batch_status = "in_progress"

    async def submit(teacher: Plugin[Any]) -> tuple[str, BatchState]:
        batch = await teacher.hook.submit_batch(requests=requests, token=TOKEN)
        return batch, await teacher.hook.poll_batch(batch=batch, model=REQUEST.model)

    batch, state = using(server, submit)
    assert state == BatchState("in_progress", total=8)
    lines = [json.loads(line) for line in next(iter(server.files.values())).splitlines()]
    assert lines[0] == {
        "custom_id": "0",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {**lines[1]["body"], "n": 2, "messages": lines[0]["body"]["messages"]},
    }
    server.batch_status = "completed"
    # Another process, another client: the id is enough.
    state = using(server, lambda teacher: teacher.hook.poll_batch(batch=batch, model=REQUEST.model))
    assert (state.status, state.total, state.done) == ("ended", 8, 4)
    assert state.results == {
        0: Completion((Reply("reply 2.0"), Reply("reply 2.1")), Usage(100, 20, 40)),
        **dict.fromkeys((1, 2, 3, 4, 6), ANY),
        7: Completion((Reply("reply 9.0"),), Usage(100, 10, 40)),
    }
    kinds = {n: type(fault) for n, fault in state.results.items() if isinstance(fault, Exception)}
    assert kinds == {1: RowRefused, 2: TransientError, 3: TransientError, 4: RowRefused, 6: TransientError}
    assert "boom" in str(state.results[2])
    assert state.results[4].usage == Usage(100, 10, 40), "a refusal is billed"  # type: ignore[union-attr]


def test_a_batch_that_failed_says_why(server: FaultServer) -> None:
    server.batch_status = "failed"

    async def work(teacher: Plugin[Any]) -> BatchState:
        return await teacher.hook.poll_batch(
            batch=await teacher.hook.submit_batch(requests=[REQUEST], token=TOKEN), model=REQUEST.model
        )

    state = using(server, work)
    assert (state.status, state.message, dict(state.results)) == ("failed", "line 1 is no JSON", {})


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_what_was_done_of_a_batch_is_kept(server: FaultServer, status: str) -> None:
    server.batch_status = status

    async def work(teacher: Plugin[Any]) -> BatchState:
        return await teacher.hook.poll_batch(
            batch=await teacher.hook.submit_batch(requests=[REQUEST], token=TOKEN), model=REQUEST.model
        )

    state = using(server, work)
    assert state.status == status
    assert list(state.results) == [0]


def test_a_batch_can_be_cancelled(server: FaultServer) -> None:
    server.batch_status = "in_progress"

    async def work(teacher: Plugin[Any]) -> str:
        batch = await teacher.hook.submit_batch(requests=[REQUEST], token=TOKEN)
        await teacher.hook.cancel_batch(batch=batch)
        server.batch_status = "completed"
        await teacher.hook.cancel_batch(batch=batch)
        return str(batch)

    assert server.cancelled == [using(server, work)] * 2


def test_an_unknown_batch_is_said(server: FaultServer) -> None:
    with pytest.raises(TeacherError, match="knows nothing of batch batch_9: No batch found"):
        using(server, lambda teacher: teacher.hook.poll_batch(batch="batch_9", model=REQUEST.model))
