from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from dsrl_anthropic import read_usage

from dsrl.errors import RowRefused, SettingsError, TeacherError, TransientError
from dsrl.plugins.binding import Plugin, load
from dsrl.testing.fault_server import Fault, FaultServer, anthropic_error, message
from dsrl.types import BatchState, Completion, Message, PluginRef, Price, Rate, Request, Usage

T = TypeVar("T")
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
REQUEST = Request("write", "claude-haiku-4-5", (Message("system", "Add."), Message("user", "1 + 1?")), 0.7, 64)
TOKEN = "0123456789abcdef"
KEY = "sk-ant-planted0123456789abcdefghij"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def using(server: FaultServer, work: Callable[[Plugin[Any]], Awaitable[T]], **options: Any) -> T:
    """Bind the teacher as dsrl does, work with it, let it go."""

    async def bound() -> T:
        teacher = load(PluginRef("teacher", "anthropic", {"base_url": server.root, **options}), "teacher")
        try:
            return await work(teacher)
        finally:
            await teacher.hook.aclose()

    return asyncio.run(bound())


def ask(server: FaultServer, request: Request = REQUEST, **options: Any) -> Completion:
    return using(server, lambda teacher: teacher.hook.complete(request=request), **options)


def texts(completion: Completion) -> list[str]:
    return [reply.text for reply in completion.replies]


# --- answers ----------------------------------------------------------------------------------------------------------


def test_every_request_is_as_the_sdk_makes_it(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests after the first are not made by the SDK anew; the server must not see it."""
    monkeypatch.setenv("MY_KEY", KEY)

    async def work(teacher: Plugin[Any]) -> None:
        for text in ("one", "zwei: ü 漢"):
            await teacher.hook.complete(request=replace(REQUEST, messages=(Message("user", text),)))

    using(server, work, api_key_env="MY_KEY", api_version="2023-06-01")
    assert [body["messages"][0]["content"] for body in server.bodies] == ["one", "zwei: ü 漢"]
    first, second = (dict(headers) for _, headers, _ in server.asked)
    assert first.pop("Content-Length") != second.pop("Content-Length")
    assert first == second
    assert any(KEY in value for value in second.values())
    assert not any("idempotency" in name.lower() for name in second)
    assert second["anthropic-version"] == "2023-06-01"


def test_the_shared_part_is_marked_for_the_cache(server: FaultServer) -> None:
    got = ask(server)
    assert texts(got) == ["reply 0"]
    assert got.usage == Usage(100, 5, cached_tokens=60, cache_write_tokens=30)
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
    assert texts(ask(server, replace(REQUEST, n=3))) == ["reply 0"]
    assert using(server, lambda teacher: asyncio.sleep(0, teacher.hook.max_n(model="m"))) == 1


def test_a_temperature_goes_out_where_the_api_takes_it(server: FaultServer, caplog: pytest.LogCaptureFixture) -> None:
    hot = replace(REQUEST, temperature=1.5, top_p=0.9)
    ask(server, hot)
    assert "temperature" not in server.bodies[0]
    assert "takes no temperature" in caplog.text
    ask(server, hot, api_version="2023-06-01")
    assert (server.bodies[1]["temperature"], server.bodies[1]["top_p"]) == (1.0, 0.9)
    versions = [{k.lower(): v for k, v in headers.items()}["anthropic-version"] for _, headers, _ in server.asked]
    assert versions[1] == "2023-06-01" != versions[0]


def test_a_schema_is_sent_and_given_up_step_by_step(server: FaultServer) -> None:
    schemed = replace(REQUEST, schema=SCHEMA)

    async def twice(teacher: Plugin[Any]) -> list[str]:
        first = await teacher.hook.complete(request=schemed)
        return texts(first) + texts(await teacher.hook.complete(request=schemed))

    def kinds() -> list[str]:
        sent = ["schema" if "output_config" in body else "tool" if "tools" in body else "off" for body in server.bodies]
        server.asked.clear()
        return sent

    using(server, twice)
    assert server.bodies[0]["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert kinds() == ["schema", "schema"]

    def refuse(*names: str) -> None:
        say = anthropic_error("{}: structured outputs and tools are not supported")
        server.refuses = lambda body: Fault(400, say) if any(name in body for name in names) else None

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


def test_thoughts_are_no_reply(server: FaultServer) -> None:
    said = message("2")
    said["content"].insert(0, {"type": "thinking", "thinking": "one and one", "signature": "x"})
    server.faults.append(Fault(body=said))
    assert texts(ask(server)) == ["2"]


def test_a_reply_of_ten_megabytes_is_cut(server: FaultServer) -> None:
    server.faults.append(Fault(body=message("x" * 10_000_000)))
    (reply,) = ask(server).replies
    assert (len(reply.text), reply.finish_reason) == (1_000_000, "length")


def test_rate_limits_are_told(server: FaultServer) -> None:
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
    ("fault", "said"),
    [
        (Fault(529, anthropic_error("Overloaded", "overloaded_error")), "529: Overloaded"),
        (Fault(500, anthropic_error("Internal server error", "api_error")), "500"),
        (Fault(504, ""), "504"),
        (Fault(429, anthropic_error("This request would exceed your rate limit", "rate_limit_error")), "429"),
        (Fault(how="cut"), "broke|hung up"),
        (Fault(how="half"), "broke|hung up"),
        (Fault(body={"content": []}), "without content"),
        (Fault(body={"content": "text"}), "without content"),
    ],
)
def test_what_is_worth_repeating(server: FaultServer, fault: Fault, said: str) -> None:
    server.faults.append(fault)
    with pytest.raises(TransientError, match=said):
        ask(server)
    assert len(server.asked) == 1, "the SDK must not repeat; the ledger does"


def test_how_long_to_wait(server: FaultServer) -> None:
    headers = {"retry-after": "12", "anthropic-ratelimit-requests-remaining": "0"}
    server.faults.append(Fault(429, anthropic_error("slow down", "rate_limit_error"), headers))
    with pytest.raises(TransientError) as caught:
        ask(server)
    assert (caught.value.retry_after, caught.value.rate) == (12.0, Rate(remaining_requests=0))


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
def test_what_drops_the_row(server: FaultServer, fault: Fault, reason: str) -> None:
    server.faults.append(fault)
    with pytest.raises(RowRefused) as caught:
        ask(server, replace(REQUEST, schema=SCHEMA))
    assert caught.value.reason == reason
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(400, anthropic_error("Your credit balance is too low to access the API")), "billing"),
        (Fault(403, anthropic_error("no permission", "permission_error")), "no permission"),
        (Fault(400, anthropic_error("max_tokens: 9 > 8, the maximum allowed")), "refuses the request"),
    ],
)
def test_what_stops_the_run(server: FaultServer, fault: Fault, said: str) -> None:
    server.faults.append(fault)
    with pytest.raises(TeacherError, match=said):
        ask(server)


def test_an_unknown_model_brings_the_nearest_names(server: FaultServer) -> None:
    with pytest.raises(TeacherError, match=r"no model 'claude-haiku' .*; there is claude-haiku-4-5"):
        ask(server, replace(REQUEST, model="claude-haiku"))


# --- keys --------------------------------------------------------------------------------------------------------------


def test_a_missing_key_is_said_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.setattr("keyring.get_password", lambda service, name: None)
    teacher = load(PluginRef("teacher", "anthropic"), "teacher")
    with pytest.raises(
        TeacherError, match=r"ANTHROPIC_API_KEY is not set.*platform\.claude\.com.*keyring set anthropic"
    ):
        teacher.hook.prepare(task=None, model="m")


def test_a_wrong_key_is_told_without_the_key(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.key = "another"
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setattr("dsrl_anthropic._ADDRESS", server.root)
    with pytest.raises(TeacherError, match="Anthropic does not take the key in ANTHROPIC_API_KEY") as caught:
        ask(server)
    assert KEY not in str(caught.value)
    assert KEY in str(server.asked[0][1]), "it was sent"


def test_no_key_of_anthropic_goes_to_another_server(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    ask(server)
    assert KEY not in str(server.asked)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"base_url": "claude"}, "no address"),
        ({"base_url": "http://u:p@h"}, "no address"),
        ({"structured": "json"}, "must be auto"),
        ({"timeout": True}, "above 0"),
        ({"cache": "yes"}, "true or false"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load(PluginRef("teacher", "anthropic", options), "teacher")


def test_prices(server: FaultServer) -> None:
    teacher = load(PluginRef("teacher", "anthropic"), "teacher")
    assert teacher.hook.price(model="claude-sonnet-4-5") == Price(3.0, 15.0, cached=0.3, cache_write=3.75, batch=0.5)
    assert teacher.hook.price(model="claude-unheard-of") is None


# --- batches -----------------------------------------------------------------------------------------------------------


def test_a_batch_goes_out_and_comes_back(server: FaultServer) -> None:
    requests = [replace(REQUEST, messages=(Message("user", str(i)),)) for i in range(7)]

    def errored(text: str, type: str = "invalid_request_error") -> Any:
        return {"type": "errored", "error": anthropic_error(text, type)}

    server.batch_lines = {
        "1": errored("prompt is too long: 3 tokens > 2 maximum"),
        "2": errored("boom", "api_error"),
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
    good = {n: texts(result) for n, result in state.results.items() if isinstance(result, Completion)}
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
    ((_, headers, _),) = server.asked
    assert "planted" not in str(headers)
    assert KEY not in str(headers)
    assert headers["anthropic-version"] == "2023-06-01"
    monkeypatch.setattr("dsrl_anthropic._ADDRESS", server.root)
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Team: planted-1")
    ask(server)
    assert "planted-1" in str(server.asked[-1][1])


def test_no_redirect_is_followed(server: FaultServer) -> None:
    with FaultServer() as other:
        server.faults.append(Fault(307, "", {"Location": f"{other.root}/v1/messages"}))
        with pytest.raises(TeacherError, match=f"redirects to {other.root}/v1/messages .*base_url"):
            ask(server)
        assert (len(server.asked), other.asked) == (1, [])


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
    with pytest.raises(TeacherError, match="knows nothing of batch"):
        using(server, lambda teacher: teacher.hook.poll_batch(batch="msgbatch_9", model=REQUEST.model))
