"""What the ledger costs: the teacher `openai` behind it, the SDK alone, over a bare aiohttp loop.

    python benchmarks/ledger.py [REQUESTS] [IN_FLIGHT] [LATENCY_SECONDS] [--rounds N]

Needs `dsrl-openai`. One server in another process; the clients take turns, so that a busy machine meets all alike. Prints,
for each, the median wall time, its ratio to the bare loop, and the client's CPU time a request; then how many requests one
edited row of 500 costs, and 500 requests of which 1% are refused with 429 and Retry-After 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from dsrl.plugins.binding import Plugin, load
from dsrl.teaching.ledger import CallPolicy, Ledger
from dsrl.types import Message, PluginRef, Price, Request

SYSTEM = "Add. " * 200
#: Asks with a question that nobody asked before.
Ask = Callable[[str], Awaitable[Any]]


def serve(latency: float, refused: int) -> None:
    """Answer every POST alike after ``latency`` seconds; 429 to every ``refused``-th. GET gives the number of POSTs."""
    content = "Two. " * 36  # prose: "2. " over and over is a list in a list in a list to a client that reads Markdown
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    usage = {"prompt_tokens": 400, "completion_tokens": 120, "total_tokens": 520}
    body = json.dumps(
        {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    )
    head = "HTTP/1.1 {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}\r\n"
    good = (head.format("200 OK", len(body), "") + body).encode()
    sorry = '{"error": {"message": "slow down", "type": "requests"}}'
    bad = (head.format("429 Too Many Requests", len(sorry), "Retry-After: 1\r\n") + sorry).encode()
    posts = 0

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport, self.got = transport, b""

        def data_received(self, data: bytes) -> None:
            nonlocal posts
            self.got += data
            head, end, rest = self.got.partition(b"\r\n\r\n")
            if not end:
                return
            if head.startswith(b"GET"):
                self.got = b""
                said = str(posts)
                self.transport.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(said)}\r\n\r\n{said}".encode())
                return
            length = next(int(li[15:]) for li in head.split(b"\r\n") if li.lower().startswith(b"content-length:"))
            if len(rest) >= length:
                self.got = rest[length:]
                posts += 1
                answer = bad if refused and posts % refused == 0 else good
                asyncio.get_running_loop().call_later(latency, self.transport.write, answer)

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", 0, backlog=2048)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(run())


class Server:
    """The server in its own process."""

    def __init__(self, latency: float, refused: int = 0) -> None:
        code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import ledger; "
        code += f"ledger.serve({latency}, {refused})"
        self.process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Server:
        assert self.process.stdout
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    async def posts(self) -> int:
        import aiohttp

        async with aiohttp.ClientSession() as session, session.get(self.url) as response:
            return int(await response.text())


async def timed(requests: int, at_once: int, ask: Ask, name: str) -> tuple[float, float]:
    """Give wall and CPU seconds of ``requests`` calls, ``at_once`` of them at a time."""
    left = iter(range(requests))

    async def worker() -> None:
        for number in left:
            await ask(f"{name} {number}: 1 + 1?")

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    return time.perf_counter() - wall, time.process_time() - cpu


def teacher(url: str) -> Plugin[Any]:
    return load(PluginRef("teacher", "openai", {"base_url": url}), "teacher")


def question(text: str) -> Request:
    return Request("solve", "m", (Message("system", SYSTEM), Message("user", text)), 0.7, 256)


async def compare(server: Server, requests: int, in_flight: int, rounds: int, folder: Path) -> None:
    import aiohttp
    import openai

    def body(text: str) -> dict[str, Any]:
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
        return {"model": "m", "messages": messages, "max_tokens": 256, "temperature": 0.7}

    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))

        async def bare(text: str) -> None:
            async with session.post(f"{server.url}/chat/completions", json=body(text)) as response:
                await response.json()

        clients: dict[str, Ask] = {"bare aiohttp": bare}
        for name, http in (("SDK as it comes", None), ("SDK, aiohttp transport", openai.DefaultAioHttpClient())):
            client = openai.AsyncOpenAI(api_key="none", base_url=server.url, max_retries=0, http_client=http)
            await stack.enter_async_context(client)
            clients[name] = lambda text, client=client: client.chat.completions.create(**body(text))  # type: ignore[misc]
        for name, policy in (
            ("ledger", CallPolicy(in_flight)),
            ("ledger, with a budget", CallPolicy(in_flight, budget=1e6)),
        ):
            prices = {"m": Price(1.0, 2.0)}
            given = CallPolicy(policy.concurrency, budget=policy.budget, prices=prices)
            book = Ledger(teacher(server.url), folder / f"{name}.db", "run", given)
            stack.push_async_callback(book.close)
            clients[name] = lambda text, book=book: book.complete(question(text))  # type: ignore[misc]
        # The ledger gets more at once, as from the road, and lets so many through.
        at_once = {name: in_flight * (3 if name.startswith("ledger") else 1) for name in clients}
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in clients}
        for ask in clients.values():
            await timed(in_flight, in_flight, ask, "warm")
        for turn in range(rounds):
            for name, ask in clients.items():
                taken[name].append(await timed(requests, at_once[name], ask, f"{turn}"))
        floor = statistics.median(wall for wall, _ in taken["bare aiohttp"])
        print(
            f"\n| {requests} requests, {in_flight} in flight | wall, s | ratio | CPU a request, ms |\n| -- | -- | -- | -- |"
        )
        for name, each in taken.items():
            wall, cpu = (statistics.median(values) for values in zip(*each, strict=True))
            print(f"| {name} | {wall:.2f} | {wall / floor:.2f} | {cpu / requests * 1000:.2f} |", flush=True)


async def edited(server: Server, folder: Path) -> None:
    for rows in ([str(row) for row in range(500)], [str(row) for row in range(499)] + ["edited"]):
        before = await server.posts()
        book = Ledger(teacher(server.url), folder / "edited.db", "run", CallPolicy(64))
        await asyncio.gather(*(book.complete(question(row)) for row in rows))
        await book.close()
        print(f"500 rows: {await server.posts() - before} requests")


async def refused(server: Server, folder: Path) -> None:
    book = Ledger(teacher(server.url), folder / "refused.db", "run", CallPolicy(64))
    wall, _ = await timed(500, 64, lambda text: book.complete(question(text)), "refused")
    await book.close()
    print(f"500 requests, 1% of them 429 with Retry-After 1: {wall:.1f} s, {await server.posts()} requests")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("requests", type=int, nargs="?", default=2000)
    parser.add_argument("in_flight", type=int, nargs="?", default=64)
    parser.add_argument("latency", type=float, nargs="?", default=0.1)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        with Server(given.latency) as server:
            asyncio.run(compare(server, given.requests, given.in_flight, given.rounds, Path(name)))
            asyncio.run(edited(server, Path(name)))
        with Server(given.latency, 100) as server:
            asyncio.run(refused(server, Path(name)))


if __name__ == "__main__":
    main()
