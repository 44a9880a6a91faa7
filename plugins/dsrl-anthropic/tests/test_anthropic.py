"""The teacher ``anthropic``, against the fake server: the contract, and what only this API has."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

pytest.register_assert_rewrite("provider_contract")

from dsrl_anthropic.answers import read_usage  # noqa: E402
from provider_contract import KEY, SCHEMA, TOKEN, ProviderContract, get_texts, use_teacher  # noqa: E402

from dsrl import (  # noqa: E402
    BatchState,
    Completion,
    Message,
    PluginRef,
    Price,
    Request,
    RowRefused,
    SettingsError,
    TeacherError,
    TransientError,
    Usage,
)
from dsrl.plugins.binding import Plugin, load  # noqa: E402
from dsrl.testing.fault_server import Fault, FaultServer, anthropic_error, message  # noqa: E402

T = TypeVar("T")
REQUEST = Request("write", "claude-haiku-4-5", (Message("system", "Add."), Message("user", "1 + 1?")), 0.7, 64)


class TestAnthropicTeacher(ProviderContract):
    plugin = "anthropic"
    request = REQUEST
    usage = Usage(100, 5, cached_tokens=60, cache_write_tokens=30)
    other_models = "claude-haiku-4-5"
    key_variable = "ANTHROPIC_API_KEY"
    key_page = r"platform\.claude\.com"
    official_address = "dsrl_anthropic.endpoint.ADDRESS"
    address_end = ""
    provider = "Anthropic"
    options = {"api_version": "2023-06-01"}  # noqa: RUF012

    def make_answer(self, text: str) -> Any:
        return message(text)


@pytest.fixture(name="server")
def run_server() -> Any:
    with FaultServer() as running:
        yield running


def using(server: FaultServer, work: Callable[[Plugin[Any]], Awaitable[T]], **options: Any) -> T:
    return use_teacher("anthropic", work, **{"base_url": server.root, **options})


def ask(server: FaultServer, request: Request = REQUEST, **options: Any) -> Completion:
    return using(server, lambda teacher: teacher.hook.complete(request=request), **options)


# --- answers ----------------------------------------------------------------------------------------------------------


def test_the_shared_part_is_marked_for_the_cache(server: FaultServer) -> None:
    completion = ask(server)
    assert get_texts(completion) == ["reply 0"]
    assert completion.usage == Usage(100, 5, cached_tokens=60, cache_write_tokens=30)
    assert server.bodies == [
        {
            "model": "claude-haiku-4-5",
            "max_tokens": 64,
            "messages": [{"role": "user", "content": "1 + 1?"}],
            "system": [{"type": "text", "text": "Add.", "cache_control": {"type": "ephemeral"}}],
        }
    ]
    ask(server, cache=False)
    assert server.bodies[1]["system"] == [{"type": "text", "text": "Add."}]


def test_what_is_sent_is_of_the_sdks_own_type(server: FaultServer) -> None:
    from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
    from pydantic import TypeAdapter

    for structured in ("schema", "tool", "off"):
        ask(server, replace(REQUEST, schema=SCHEMA), structured=structured)
    for body in server.bodies:
        TypeAdapter(MessageCreateParamsNonStreaming).validate_python(body)


def test_a_call_brings_one_reply(server: FaultServer) -> None:
    assert get_texts(ask(server, replace(REQUEST, n=3))) == ["reply 0"]
    assert using(server, lambda teacher: asyncio.sleep(0, teacher.hook.max_n(model="m"))) == 1


def test_a_temperature_goes_out_where_the_api_takes_it(server: FaultServer, caplog: pytest.LogCaptureFixture) -> None:
    hot = replace(REQUEST, temperature=1.5, top_p=0.9)
    ask(server, hot)
    assert "temperature" not in server.bodies[0]
    assert "takes no temperature" in caplog.text
    ask(server, hot, api_version="2023-06-01")
    assert (server.bodies[1]["temperature"], server.bodies[1]["top_p"]) == (1.0, 0.9)
    versions = [{k.lower(): v for k, v in headers.items()}["anthropic-version"] for _, headers, _ in server.requests]
    assert versions[1] == "2023-06-01" != versions[0]


def test_a_schema_is_sent_and_given_up_step_by_step(server: FaultServer) -> None:
    schemed = replace(REQUEST, schema=SCHEMA)

    async def twice(teacher: Plugin[Any]) -> list[str]:
        first = await teacher.hook.complete(request=schemed)
        return get_texts(first) + get_texts(await teacher.hook.complete(request=schemed))

    def kinds() -> list[str]:
        sent = ["schema" if "output_config" in body else "tool" if "tools" in body else "off" for body in server.bodies]
        server.requests.clear()
        return sent

    using(server, twice)
    assert server.bodies[0]["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert kinds() == ["schema", "schema"]

    def refuse(*names: str) -> None:
        body = anthropic_error("{}: structured outputs and tools are not supported")
        server.refuses = lambda sent: Fault(400, body) if any(name in sent for name in names) else None

    refuse("output_config")
    assert using(server, twice)[0] == '{"input": "reply 2", "output": "o"}', "the tool's input is the reply"
    assert server.bodies[1]["tool_choice"] == {"type": "tool", "name": "give_reply"}
    assert kinds() == ["schema", "tool", "tool"]
    refuse("output_config", "tools")
    using(server, twice)
    assert kinds() == ["schema", "tool", "off", "off"]
    with pytest.raises(TeacherError, match="not supported"):
        using(server, twice, structured="schema")


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
    ],
)
def test_finish_reasons(server: FaultServer, stop: str, reason: str) -> None:
    server.faults.append(Fault(body=message("cut o", stop=stop)))
    assert ask(server).replies[0].finish_reason == reason


def test_thoughts_are_not_part_of_the_reply(server: FaultServer) -> None:
    body = message("2")
    body["content"].insert(0, {"type": "thinking", "thinking": "one and one", "signature": "x"})
    server.faults.append(Fault(body=body))
    assert get_texts(ask(server)) == ["2"]


def test_rate_limits_are_read(server: FaultServer) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=1000)).strftime("%Y-%m-%dT%H:%M:%SZ")
    server.headers = {
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": soon,
        "anthropic-ratelimit-tokens-remaining": "39000",
    }
    rate = ask(server).rate
    assert rate is not None
    assert (rate.remaining_requests, rate.remaining_tokens, rate.reset_tokens) == (49, 39000, None)
    assert rate.reset_requests == pytest.approx(1000, abs=100)


# --- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault(529, anthropic_error("Overloaded", "overloaded_error")), "529: Overloaded"),
        (Fault(429, anthropic_error("This request would exceed your rate limit", "rate_limit_error")), "429"),
        (Fault(body={"content": []}), "no content"),
        (Fault(body={"content": "text"}), "no content"),
    ],
)
def test_what_is_worth_a_retry_here(server: FaultServer, fault: Fault, text: str) -> None:
    server.faults.append(fault)
    with pytest.raises(TransientError, match=text):
        ask(server)
    assert len(server.requests) == 1, "the SDK must not retry, because the ledger does"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(400, anthropic_error("prompt is too long: 208310 tokens > 200000 maximum")), "context_too_long"),
        (Fault(400, anthropic_error("input length and `max_tokens` exceed context limit: 9 > 8")), "context_too_long"),
        (Fault(413, anthropic_error("Request exceeds the maximum size", "request_too_large")), "context_too_long"),
        (Fault(400, anthropic_error("Output blocked by content filtering policy")), "content_filter"),
        (Fault(body=message("", stop="refusal")), "refused"),
    ],
)
def test_what_drops_the_row_here(server: FaultServer, fault: Fault, reason: str) -> None:
    server.faults.append(fault)
    with pytest.raises(RowRefused) as caught:
        ask(server, replace(REQUEST, schema=SCHEMA))
    assert caught.value.reason == reason
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault(403, anthropic_error("no permission", "permission_error")), "no permission"),
        (Fault(400, anthropic_error("max_tokens: 9 > 8, the maximum allowed")), "rejected the request"),
    ],
)
def test_what_stops_the_run_here(server: FaultServer, fault: Fault, text: str) -> None:
    server.faults.append(fault)
    with pytest.raises(TeacherError, match=text):
        ask(server)


# --- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"structured": "json"}, "must be auto"),
        ({"cache": "yes"}, "true or false"),
    ],
)
def test_options_that_are_not_valid(options: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        load(PluginRef("teacher", "anthropic", options), "teacher")


def test_prices(server: FaultServer) -> None:
    teacher = load(PluginRef("teacher", "anthropic"), "teacher")
    assert teacher.hook.price(model="claude-sonnet-4-5") == Price(3.0, 15.0, cached=0.3, cache_write=3.75, batch=0.5)


# --- batches -----------------------------------------------------------------------------------------------------------


def test_a_batch_goes_out_and_comes_back(server: FaultServer) -> None:
    requests = [replace(REQUEST, messages=(Message("user", str(i)),)) for i in range(7)]

    def make_row(text: str, kind: str = "invalid_request_error") -> Any:
        return {"type": "errored", "error": anthropic_error(text, kind)}

    server.batch_lines = {
        "1": make_row("prompt is too long: 3 tokens > 2 maximum"),
        "2": make_row("boom", "api_error"),
        "3": {"type": "expired"},
        "4": {"type": "succeeded", "message": message("", stop="refusal")},
        "5": "no JSON",
    }
    server.batch_status = "in_progress"

    async def submit(teacher: Plugin[Any]) -> tuple[str, BatchState]:
        batch = await teacher.hook.submit_batch(requests=requests, token=TOKEN)
        return batch, await teacher.hook.poll_batch(batch=batch, model=REQUEST.model)

    batch, state = using(server, submit)
    assert state == BatchState("in_progress", total=7)
    assert server.batches[batch][6]["params"]["messages"] == [{"role": "user", "content": "6"}]
    server.batch_status = "completed"
    state = using(server, lambda teacher: teacher.hook.poll_batch(batch=batch, model=REQUEST.model))
    assert state.status == "expired"
    good = {n: get_texts(result) for n, result in state.results.items() if isinstance(result, Completion)}
    assert good == {0: ["reply 1"], 6: ["reply 7"]}
    faults = {n: fault for n, fault in state.results.items() if isinstance(fault, Exception)}
    assert {n: type(fault) for n, fault in faults.items()} == {1: RowRefused, 2: TransientError, 4: RowRefused}
    assert "boom" in str(faults[2])
    assert faults[4].usage == Usage(100, 5, 60, 30), "a refusal is billed"  # type: ignore[attr-defined]


def test_headers_of_the_environment_go_to_anthropic_alone(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Team: planted-1\nX-Api-Key: planted-2\nAuthorization: planted-3")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "planted-4")
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    ask(server, api_version="2023-06-01")
    ((_, headers, _),) = server.requests
    assert "planted" not in str(headers)
    assert KEY not in str(headers)
    assert headers["anthropic-version"] == "2023-06-01"
    monkeypatch.setattr("dsrl_anthropic.endpoint.ADDRESS", server.root)
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Team: planted-1")
    ask(server)
    assert "planted-1" in str(server.requests[-1][1])


@pytest.mark.parametrize(
    ("used", "usage"),
    [
        ({"input_tokens": 9, "output_tokens": "4"}, Usage(9, 4)),
        ({"input_tokens": 9, "output_tokens": 4, "cache_read_input_tokens": None}, Usage(9, 4)),
        ({"input_tokens": 9, "output_tokens": 4, "cache_creation_input_tokens": 5}, Usage(14, 4, 0, 5)),
        ({"input_tokens": 9, "output_tokens": 4, "cache_creation_input_tokens": -5}, None),
        ({"input_tokens": 9, "output_tokens": 4, "cache_read_input_tokens": "some"}, None),
        ({"input_tokens": 9}, None),
        ({"output_tokens": 9}, None),
        ({"input_tokens": None, "output_tokens": 9}, None),
        ([], None),
        (None, None),
    ],
)
def test_what_is_billed(used: Any, usage: Usage | None) -> None:
    assert read_usage(used) == usage
