"""The fake server's good answers are what the official SDKs' own types say they are."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from dsrl.testing.fault_server import FaultServer, completion, message

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")


def test_a_completion_is_one() -> None:
    from openai.types.chat import ChatCompletion

    ChatCompletion.model_validate(completion(["a", "b"]))


def test_a_message_is_one() -> None:
    from anthropic.types import Message

    Message.model_validate(message("a", tools=[{"name": "t"}]))


def test_batches_are_of_the_sdks_types() -> None:
    """Held to the types as they are: the SDKs themselves check nothing."""
    from anthropic.types.messages import MessageBatch
    from openai.types import Batch, FileObject

    async def work(server: FaultServer) -> None:
        async with openai.AsyncOpenAI(api_key="k", base_url=server.url) as client:
            line = json.dumps({"custom_id": "0", "body": {"model": "gpt-4o", "messages": []}}).encode()
            file = await client.files.create(file=("f", line), purpose="batch")
            FileObject.model_validate(file.model_dump())
            made = [
                await client.batches.create(
                    input_file_id=file.id,
                    endpoint="/v1/chat/completions",
                    completion_window="24h",
                    metadata={"dsrl": str(number)},
                )
                for number in range(3)
            ]
            listed = [batch async for batch in client.batches.list(limit=2)]
            assert [batch.id for batch in listed] == [batch.id for batch in reversed(made)]
            assert [(batch.metadata or {})["dsrl"] for batch in listed] == ["2", "1", "0"]
            for batch in (*listed, *made, await client.batches.retrieve(made[0].id)):
                Batch.model_validate(batch.model_dump())
        async with anthropic.AsyncAnthropic(api_key="k", base_url=server.root) as other:
            requests = [{"custom_id": "t-0", "params": {"model": "m", "max_tokens": 5, "messages": []}}]
            ordered = [await other.messages.batches.create(requests=requests) for _ in range(3)]
            found = [batch async for batch in other.messages.batches.list(limit=2)]
            assert [batch.id for batch in found] == [batch.id for batch in reversed(ordered)]
            for order in (*found, await other.messages.batches.retrieve(ordered[0].id)):
                MessageBatch.model_validate(order.model_dump())
            (row,) = [row async for row in await other.messages.batches.results(ordered[0].id)]
            assert (row.custom_id, row.result.type) == ("t-0", "succeeded")

    with FaultServer() as server:
        asyncio.run(work(server))


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
