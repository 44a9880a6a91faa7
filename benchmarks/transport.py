"""What the way to the provider costs: the SDK as it comes, on its aiohttp transport, and the teacher, over bare aiohttp.

    python benchmarks/transport.py [REQUESTS] [IN_FLIGHT] [LATENCY_SECONDS]

Needs `dsrl-openai`. Prints, for each client in one run against one server in another process, wall time, its ratio to
the bare loop, and the client's CPU time a request.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

MESSAGES = [{"role": "system", "content": "Add. " * 200}, {"role": "user", "content": "1 + 1?"}]
Ask = Callable[[], Awaitable[Any]]


def serve(latency: float) -> None:
    """Answer every POST alike after ``latency`` seconds; one small hand-written protocol, so that it is no bottleneck."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "2. " * 60}}
    usage = {"prompt_tokens": 400, "completion_tokens": 120, "total_tokens": 520}
    body = json.dumps(
        {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]} | {"usage": usage}
    )
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    reply = f"{head}x-ratelimit-remaining-requests: 99\r\n\r\n{body}".encode()

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport, self.got = transport, b""

        def data_received(self, data: bytes) -> None:
            self.got += data
            head, end, rest = self.got.partition(b"\r\n\r\n")
            if not end:
                return
            length = next(int(li[15:]) for li in head.split(b"\r\n") if li.lower().startswith(b"content-length:"))
            if len(rest) >= length:
                self.got = rest[length:]
                asyncio.get_running_loop().call_later(latency, self.transport.write, reply)

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(run())


async def timed(requests: int, in_flight: int, ask: Ask) -> tuple[float, float]:
    """Give wall and CPU seconds of ``requests`` calls, ``in_flight`` at once, after one to warm up."""
    await ask()
    left = iter(range(requests))

    async def worker() -> None:
        for _ in left:
            await ask()

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return time.perf_counter() - wall, time.process_time() - cpu


async def clients(port: int, measure: Callable[[str, Ask], Awaitable[None]]) -> None:
    import aiohttp
    import openai
    from dsrl_openai.teacher import OpenAITeacher

    from dsrl.types import Message, Request

    url = f"http://127.0.0.1:{port}/v1"
    body = {"model": "m", "messages": MESSAGES, "max_tokens": 256, "temperature": 0.7}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def bare() -> None:
            async with session.post(f"{url}/chat/completions", json=body) as response:
                await response.json()

        await measure("bare aiohttp", bare)
    for name, http in (("SDK as it comes", None), ("SDK, aiohttp transport", openai.DefaultAioHttpClient())):
        async with openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0, http_client=http) as client:
            await measure(name, lambda client=client: client.chat.completions.create(**body))  # type: ignore[misc]
            raw = client.chat.completions.with_raw_response
            await measure(f"{name}, raw", lambda raw=raw: raw.create(**body))  # type: ignore[misc]

            async def streamed(client: Any = client) -> None:
                async with client.chat.completions.with_streaming_response.create(**body) as r:
                    json.loads(b"".join([c async for c in r.iter_bytes()]))

            await measure(f"{name}, streamed", streamed)
    teacher = OpenAITeacher(base_url=url)
    messages = tuple(Message(m["role"], m["content"]) for m in MESSAGES)  # type: ignore[arg-type]
    await measure("teacher openai", lambda: teacher.complete(Request("solve", "m", messages, 0.7, 256)))
    await teacher.aclose()


def main(requests: int = 2000, in_flight: int = 64, latency: float = 0.1) -> None:
    code = (
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); import transport; transport.serve({latency})"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        port = int(server.stdout.readline())
        floor: list[float] = []
        print(f"{requests} requests, {in_flight} in flight, {latency * 1000:.0f} ms")

        async def measure(name: str, ask: Ask) -> None:
            wall, cpu = await timed(requests, in_flight, ask)
            floor.append(wall)
            print(
                f"{name:32} {wall:6.2f} s  x {wall / floor[0]:.2f}  {cpu / requests * 1000:.2f} ms CPU a request",
                flush=True,
            )

        try:
            asyncio.run(clients(port, measure))
        finally:
            server.terminate()


if __name__ == "__main__":
    main(*(type_(value) for type_, value in zip((int, int, float), sys.argv[1:], strict=False)))
