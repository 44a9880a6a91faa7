"""The teacher ``openai``, against the fake server: the contract, and what only this API has."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar
from unittest.mock import ANY

import pytest

pytest.register_assert_rewrite("provider_contract")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from provider_contract import KEY, SCHEMA, TOKEN, ProviderContract, get_texts, use_teacher  # noqa: E402

from dsrl import (  # noqa: E402
    BatchState,
    Completion,
    Message,
    PluginRef,
    Price,
    Rate,
    Reply,
    Request,
    RowRefused,
    SettingsError,
    TeacherError,
    TransientError,
    Usage,
)
from dsrl.plugins.binding import Plugin, load  # noqa: E402
from dsrl.testing.fault_server import Fault, FaultServer, completion, openai_error  # noqa: E402

T = TypeVar("T")
REQUEST = Request("solve", "gpt-4o", (Message("system", "Add."), Message("user", "1 + 1?")), 0.7, 64)
#: Names of members that answers have, for answers of random shape.
NAMES = """
    choices message content finish_reason refusal error usage prompt_tokens completion_tokens
    prompt_tokens_details cached_tokens text code
""".split()


class TestOpenAITeacher(ProviderContract):
    plugin = "openai"
    request = REQUEST
    usage = Usage(100, 10, cached_tokens=40)
    other_models = "gpt-4o, gpt-4o-mini"
    key_variable = "OPENAI_API_KEY"
    key_page = r"platform\.openai\.com"
    official_address = "dsrl_openai.endpoint.ADDRESS"
    address_end = "/v1"
    provider = "OpenAI"

    def make_answer(self, text: str) -> Any:
        return completion([text])


@pytest.fixture(name="server")
def run_server() -> Any:
    with FaultServer() as running:
        yield running


def using(server: FaultServer, work: Callable[[Plugin[Any]], Awaitable[T]], **options: Any) -> T:
    return use_teacher("openai", work, **{"base_url": server.url, **options})


def ask(server: FaultServer, request: Request = REQUEST, **options: Any) -> Completion:
    return using(server, lambda teacher: teacher.hook.complete(request=request), **options)


# --- answers ----------------------------------------------------------------------------------------------------------


def test_n_answers_are_one_request(server: FaultServer) -> None:
    completion = ask(server, replace(REQUEST, n=16, top_p=0.9))
    assert get_texts(completion) == [f"reply 0.{i}" for i in range(16)]
    assert completion.usage == Usage(100, 160, cached_tokens=40)
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
        answer = await teacher.hook.complete(request=replace(REQUEST, n=4))
        await teacher.hook.complete(request=replace(REQUEST, n=4))
        return answer, before, teacher.hook.max_n(model="gpt-4o")

    answer, before, after = using(server, work)
    assert get_texts(answer) == ["reply 0.0"]
    assert answer.usage == Usage(100, 10, 40)
    assert (before, after) == (128, 1)
    assert ["n" in body for body in server.bodies] == [True, False]


def test_more_choices_than_asked_for_are_cut(server: FaultServer) -> None:
    server.faults.append(Fault(body=completion(["a", "b", "c"])))
    assert get_texts(ask(server)) == ["a"]


def test_max_n_is_a_limit(server: FaultServer) -> None:
    assert len(ask(server, replace(REQUEST, n=5), max_n=2).replies) == 2
    assert [body.get("n") for body in server.bodies] == [2]


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "length"), ("content_filter", "content_filter"), ("odd", "stop")]
)
def test_finish_reasons(server: FaultServer, finish: str, reason: str) -> None:
    server.faults.append(Fault(body=completion(["cut o"], finish=finish)))
    assert ask(server).replies[0].finish_reason == reason


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
    completion = ask(server)
    assert get_texts(completion) == ["parts"]
    assert completion.usage is None, "the bill is unknown"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner, max_size=4)
    ),
)


@given(body=st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6), choices=st.lists(JSON, max_size=3))
def test_no_shape_of_an_answer_is_a_crash(body: dict[str, Any], choices: list[Any]) -> None:
    from dsrl_openai.answers import read_completion

    for shape in (body, {**body, "choices": choices}, {**body, "choices": [{"message": c} for c in choices]}):
        try:
            completion = read_completion(shape)
        except (RowRefused, TransientError):
            continue
        assert completion.replies
        assert all(isinstance(reply.text, str) for reply in completion.replies)
        assert completion.usage is None or 0 <= completion.usage.cached_tokens <= completion.usage.prompt_tokens


def test_rate_limits_are_read(server: FaultServer) -> None:
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
        server.requests.clear()
        return kinds

    using(server, twice)
    response_format = server.bodies[0]["response_format"]
    assert response_format == {
        "type": "json_schema",
        "json_schema": {"name": "reply", "schema": SCHEMA, "strict": True},
    }
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
        server.requests.clear()
        await teacher.hook.complete(request=schemed)

    using(server, work)
    assert len(server.requests) == 1


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
    assert len(server.requests) == 5
    assert set(server.bodies[-1]) == {"model", "messages", "max_completion_tokens"}
    assert "does not support temperature" in caplog.text


def test_an_older_server_gets_the_older_name(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsrl_openai.endpoint.ADDRESS", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.refuses = refusing(max_completion_tokens="Unknown parameter: 'max_completion_tokens'")
    ask(server)
    assert ["max_completion_tokens" in body for body in server.bodies] == [True, False]


def test_a_name_refused_both_ways_stops_the_run(server: FaultServer) -> None:
    server.refuses = refusing(
        max_tokens="max_tokens is invalid", max_completion_tokens="max_completion_tokens is invalid"
    )
    with pytest.raises(TeacherError, match="is invalid"):
        ask(server)


# --- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault(429, openai_error("Rate limit reached", "rate_limit_exceeded")), "429: Rate limit"),
        (Fault(429, openai_error("add a payment method at .../account/billing", "rate_limit_exceeded")), "429: add"),
        (Fault(body={"choices": []}), "no choices"),
        (Fault(body={"choices": None}), "no choices"),
        (Fault(body={"choices": [{"error": {"message": "upstream"}, "message": {}}]}), "upstream"),
    ],
)
@pytest.mark.parametrize("answers_before", [0, 1])
def test_what_is_worth_a_retry_here(server: FaultServer, fault: Fault, text: str, answers_before: int) -> None:
    server.faults.extend([Fault()] * answers_before)
    server.faults.append(fault)

    async def work(teacher: Plugin[Any]) -> Completion:
        for _ in range(answers_before):
            await teacher.hook.complete(request=REQUEST)
        with pytest.raises(TransientError, match=text):
            await teacher.hook.complete(request=REQUEST)
        return await teacher.hook.complete(request=REQUEST)

    assert len(using(server, work).replies) == 1


@pytest.mark.parametrize(
    ("fault", "unknown"),
    [
        (Fault(body={"choices": [], "usage": {"prompt_tokens": 7}}), True),
        (Fault(body={"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 0}}), False),
    ],
)
@pytest.mark.parametrize("answers_before", [0, 1])
def test_an_answer_that_is_lost_may_have_been_billed(
    server: FaultServer, fault: Fault, unknown: bool, answers_before: int
) -> None:
    server.faults.extend([Fault()] * answers_before)
    server.faults.append(fault)

    async def work(teacher: Plugin[Any]) -> None:
        for _ in range(answers_before):
            await teacher.hook.complete(request=REQUEST)
        with pytest.raises(TransientError) as raised:
            await teacher.hook.complete(request=REQUEST)
        assert raised.value.unknown is unknown

    using(server, work, timeout=1.0)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(400, openai_error("too long", "context_length_exceeded", param="messages")), "context_too_long"),
        (
            Fault(400, openai_error("This model's maximum context length is 512 tokens", param="max_tokens")),
            "context_too_long",
        ),
        (Fault(400, {"object": "error", "message": "maximum context length is 512", "code": 400}), "context_too_long"),
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
@pytest.mark.parametrize("answers_before", [0, 1])
def test_what_drops_the_row_here(server: FaultServer, fault: Fault, reason: str, answers_before: int) -> None:
    server.faults.extend([Fault()] * answers_before)
    server.faults.append(fault)

    async def work(teacher: Plugin[Any]) -> None:
        for _ in range(answers_before):
            await teacher.hook.complete(request=REQUEST)
        with pytest.raises(RowRefused) as caught:
            await teacher.hook.complete(request=REQUEST)
        assert caught.value.reason == reason

    using(server, work)
    assert len(server.requests) == 1 + answers_before


def test_a_refusal_is_billed(server: FaultServer) -> None:
    server.faults.append(Fault(body=completion([""], refusal="no")))
    with pytest.raises(RowRefused) as caught:
        ask(server)
    assert caught.value.usage == Usage(100, 10, 40)


def test_an_exceeded_quota_stops_the_run(server: FaultServer) -> None:
    server.faults.append(Fault(429, openai_error("You exceeded your current quota", "insufficient_quota")))
    with pytest.raises(TeacherError, match="billing"):
        ask(server)


# --- keys and addresses ------------------------------------------------------------------------------------------------


def test_the_address_of_the_environment_gets_the_key_of_the_environment(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    ask(server)
    assert server.requests[-1][1]["Authorization"] == "Bearer none"
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    ask(server, base_url="")
    assert server.requests[-1][1]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"base_url": "http://h", "azure_endpoint": "http://a"}, "exclude each other"),
        ({"azure_endpoint": "a"}, "not a valid server URL"),
        ({"api_version": "2024-10-21"}, "belongs to azure_endpoint"),
        ({"max_n": "many"}, "above 0"),
    ],
)
def test_options_that_are_not_valid(options: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        load(PluginRef("teacher", "openai", options), "teacher")


def test_the_server_is_part_of_what_decides_a_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    here = load(PluginRef("teacher", "openai"), "teacher").hook.identity()
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    assert load(PluginRef("teacher", "openai"), "teacher").hook.identity() != here


def test_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    teacher = load(PluginRef("teacher", "openai"), "teacher")
    assert teacher.hook.price(model="gpt-4o") == Price(2.5, 10.0, cached=1.25, cache_write=2.5, batch=0.5)


def test_azure_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-key")
    with FaultServer() as server:
        errors = []

        async def work(teacher: Plugin[Any]) -> None:
            with pytest.raises(TeacherError) as caught:
                await teacher.hook.complete(request=REQUEST)
            errors.append(str(caught.value))

        for version in ("2024-10-21", ""):
            using(server, work, base_url="", azure_endpoint=server.root, api_version=version)
    # The fake server does not have these paths. The test is that they were requested.
    assert all("no such service at http://127.0.0.1" in error for error in errors)


# --- batches -----------------------------------------------------------------------------------------------------------


def test_a_batch_goes_out_and_comes_back(server: FaultServer) -> None:
    requests = [replace(REQUEST, n=2), *(replace(REQUEST, messages=(Message("user", str(i)),)) for i in range(1, 8))]
    server.batch_lines = {
        "1": {"status_code": 400, "body": openai_error("too long", "context_length_exceeded")},
        "2": {"status_code": 500, "body": openai_error("boom")},
        "3": {"status_code": 429, "body": openai_error("slow down")},
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


def test_a_batch_that_failed_has_a_message(server: FaultServer) -> None:
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
