"""What goes to which server: headers of the environment, keys, prompts; and what a server's bill says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from dsrl_openai.answers import read_usage

from dsrl.errors import TeacherError
from dsrl.plugins.binding import load
from dsrl.testing.fault_server import Fault, FaultServer
from dsrl.types import Message, PluginRef, Request, Usage

REQUEST = Request("solve", "gpt-4o", (Message("system", "Add."), Message("user", "1 + 1?")), 0.7, 64)
PLANTED = {
    "OPENAI_CUSTOM_HEADERS": "X-Team: planted-1\nAuthorization: Bearer planted-2\nUser-Agent: planted-3",
    "OPENAI_ORG_ID": "planted-4",
    "OPENAI_PROJECT_ID": "planted-5",
    "OPENAI_ADMIN_KEY": "planted-6",
    "OPENAI_WEBHOOK_SECRET": "planted-7",
    "AZURE_OPENAI_AD_TOKEN": "planted-8",
    "OPENAI_API_KEY": "planted-9",
}


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)


def ask(times: int = 2, **options: Any) -> None:
    async def work() -> None:
        teacher = load(PluginRef("teacher", "openai", options), "teacher")
        try:
            for _ in range(times):
                await teacher.hook.complete(request=REQUEST)
        finally:
            await teacher.hook.aclose()

    asyncio.run(work())


def headers_of(server: FaultServer) -> str:
    return str([headers for _, headers, _ in server.requests])


# --- headers of the environment ----------------------------------------------------------------------------------------


def test_another_server_gets_no_header_of_the_environment(server: FaultServer, planted: None) -> None:
    ask(base_url=server.url)
    assert len(server.requests) == 2
    assert "planted" not in headers_of(server)
    assert [headers["Authorization"] for _, headers, _ in server.requests] == ["Bearer none"] * 2


@pytest.mark.parametrize("version", ["", "2024-10-21"])
def test_azure_gets_its_own_key_and_nothing_else(
    server: FaultServer, planted: None, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-key")
    with suppress(TeacherError):  # the fake server has no such paths; their headers count
        ask(azure_endpoint=server.root, api_version=version)
    assert server.unknown_headers
    assert "planted" not in str(server.unknown_headers)
    assert "azure-key" in str(server.unknown_headers)


def test_a_server_that_the_environment_names_gets_what_stands_beside_it(
    server: FaultServer, planted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    ask()
    for value in ("planted-1", "planted-4", "planted-5"):
        assert headers_of(server).count(value) == 2


def test_openai_itself_gets_them(server: FaultServer, planted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsrl_openai.endpoint.ADDRESS", server.url)
    ask(base_url=server.url)
    assert headers_of(server).count("planted-1") == 2


def test_an_sdk_that_keeps_its_headers_elsewhere_is_refused(
    server: FaultServer, planted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openai

    class FakeNewClient(openai.AsyncOpenAI):
        def __getattribute__(self, name: str) -> Any:
            if name == "_custom_headers":
                raise AttributeError(name)
            return super().__getattribute__(name)

    monkeypatch.setattr(openai, "AsyncOpenAI", FakeNewClient)
    with pytest.raises(TeacherError, match="cannot be kept from sending headers"):
        ask(base_url=server.url)
    assert server.requests == []


# --- redirects ---------------------------------------------------------------------------------------------------------


def test_requests_after_a_redirect_go_where_they_always_went(server: FaultServer) -> None:
    async def work() -> None:
        teacher = load(PluginRef("teacher", "openai", {"base_url": server.url}), "teacher")
        for _ in range(3):
            with suppress(TeacherError):
                await teacher.hook.complete(request=REQUEST)
        await teacher.hook.aclose()

    with FaultServer() as other:
        server.faults.append(Fault(307, "", {"Location": f"{other.url}/chat/completions"}))
        asyncio.run(work())
        assert (len(server.requests), other.requests) == (3, [])


@pytest.mark.parametrize("location", ["", "//", "http://[::1", "http:", "x" * 5000])
def test_a_redirect_to_anywhere_is_a_sentence(server: FaultServer, location: str) -> None:
    server.faults.append(Fault(307, "", {"Location": location}))
    with pytest.raises(TeacherError, match="redirects"):
        ask(base_url=server.url)


def test_batches_are_not_redirected(server: FaultServer) -> None:
    async def work(other: FaultServer) -> None:
        teacher = load(PluginRef("teacher", "openai", {"base_url": server.url}), "teacher")
        for place in ("upload", "list"):
            server.batch_faults[place].append(Fault(307, "", {"Location": f"{other.url}/files"}))
        with pytest.raises(TeacherError, match="redirects"):
            await teacher.hook.submit_batch(requests=[REQUEST], token="t")
        with pytest.raises(TeacherError, match="redirects"):
            await teacher.hook.find_batch(token="t", submitted=0.0, requests=1)
        await teacher.hook.aclose()

    with FaultServer() as other:
        asyncio.run(work(other))
        assert not other.calls


# --- bills -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("used", "usage"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 4}, Usage(9, 4)),
        ({"prompt_tokens": "250", "completion_tokens": 4.0}, Usage(250, 4)),
        ({"prompt_tokens": 9, "completion_tokens": 3.2}, Usage(9, 4)),
        ({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 20}, Usage(9, 11)),
        ({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 2}, Usage(9, 4)),
        (
            {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": None, "total_tokens": None},
            Usage(9, 4),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {}}, Usage(9, 4)),
        ({"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}}, Usage(9, 4, 3)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage()),
    ],
)
def test_what_is_billed(used: Any, usage: Usage) -> None:
    assert read_usage(used) == usage


@pytest.mark.parametrize("bad", [-1, "many", "", None, True, [1], {}, float("nan"), float("inf"), "nan", "-3", 1e13])
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
def test_half_a_bill_is_none(name: str, bad: Any) -> None:
    assert read_usage({"prompt_tokens": 9, "completion_tokens": 4, name: bad}) is None
    assert read_usage({name: 4}) is None


@pytest.mark.parametrize(
    "more",
    [
        {"total_tokens": "all"},
        {"prompt_tokens_details": 3},
        {"prompt_tokens_details": {"cached_tokens": "some"}},
        {"prompt_tokens_details": {"cached_tokens": -1}},
        {"prompt_tokens_details": {"cached_tokens": 10}},
    ],
)
def test_a_part_that_is_there_and_cannot_be_read_spoils_the_bill(more: Any) -> None:
    assert read_usage({"prompt_tokens": 9, "completion_tokens": 4, **more}) is None


@pytest.mark.parametrize("used", [None, [], {}, 3, "x"])
def test_no_bill_is_none(used: Any) -> None:
    assert read_usage(used) is None
