"""The fake server's good answers are what the official SDKs' own types say they are."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fault_server import FaultServer, completion, message

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")


def test_a_completion_is_one() -> None:
    from openai.types.chat import ChatCompletion

    ChatCompletion.model_validate(completion(["a", "b"]))


def test_a_message_is_one() -> None:
    from anthropic.types import Message

    Message.model_validate(message("a", tools=[{"name": "t"}]))


def test_the_sdks_read_what_it_says() -> None:
    async def work(server: FaultServer) -> list[Any]:
        async with openai.AsyncOpenAI(api_key="k", base_url=server.url) as client:
            chat = await client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "?"}], n=2
            )
            names = [model.id async for model in client.models.list()]
        async with anthropic.AsyncAnthropic(api_key="k", base_url=server.root) as other:
            said = await other.messages.create(
                model="claude-haiku-4-5", max_tokens=5, messages=[{"role": "user", "content": "?"}]
            )
        return [len(chat.choices), names[0], said.content[0].text]

    with FaultServer() as server:
        assert asyncio.run(work(server)) == [2, "gpt-4o", "reply 1"]
