"""However much a provider sends, compressed or not, on any path: dsrl reads a limited part of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import zlib
from collections import Counter
from functools import cache

import pytest

from dsrl.plugins.binding import load
from dsrl.testing.fault_server import Fault, FaultServer
from dsrl.types import Message, PluginRef, Request

pytest.importorskip("openai")
pytest.importorskip("anthropic")

CHILD = """
import asyncio, json, resource, sys
from dsrl.plugins.binding import load
from dsrl.types import PluginRef
from dsrl.types import Message, Request
import dsrl_http.bodies

plugin, url, model, batch = sys.argv[1:5]
calls = json.loads(sys.argv[5])
dsrl_http.bodies.MOST_RESULT_BYTES = 8 * 2**20
REQUEST = Request("solve", model, (Message("user", "1 + 1?"),), 0.7, 64)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

async def main():
    teacher = load(PluginRef("teacher", plugin, {"base_url": url}), "teacher")
    hook = teacher.hook
    work = {
        "complete": lambda: hook.complete(request=REQUEST),
        "unknown model": lambda: hook.complete(request=Request("solve", "none", REQUEST.messages, 0.7, 64)),
        "submit": lambda: hook.submit_batch(requests=[REQUEST], token="t"),
        "find": lambda: hook.find_batch(token="t", submitted=0.0, requests=1),
        "poll": lambda: hook.poll_batch(batch=batch, model=model),
        "cancel": lambda: hook.cancel_batch(batch=batch),
    }
    rows = []
    await hook.find_batch(token="t", submitted=0.0, requests=9)  # imports everything before memory is measured
    for call in calls:
        before = peak()
        try:
            text = ["answered", repr(await work[call]())[:300]]
        except Exception as error:
            text = [type(error).__name__, str(error)]
        rows.append([call, peak() - before, *text])
    print(json.dumps(rows))

asyncio.run(main())
"""
#: Bytes that a call may take at its peak: the longest answer that is read, while its parts are joined.
MOST_MEMORY = 100 * 2**20


@cache
def compress(size: int, window: int = zlib.MAX_WBITS | 16) -> bytes:
    """Return ``size`` bytes as gzip, or as deflate."""
    packer, part = zlib.compressobj(1, zlib.DEFLATED, window), b"x" * 2**20
    return b"".join([packer.compress(part) for _ in range(size // len(part))]) + packer.flush()


@cache
def compress_twice(size: int) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return packer.compress(compress(size)) + packer.flush()


def make_bombs(status: int) -> list[Fault]:
    size = 250 * 2**20
    return [
        Fault(status, "x" * 2**16, how="endless"),
        Fault(status, compress(size), {"Content-Encoding": "gzip"}),
        Fault(status, compress(size, zlib.MAX_WBITS), {"Content-Encoding": "deflate"}),
        Fault(status, compress_twice(size), {"Content-Encoding": "gzip, gzip"}),
    ]


def submit(plugin: str, url: str, model: str) -> str:
    """Submit a batch, which the calls are about."""

    async def work() -> str:
        teacher = load(PluginRef("teacher", plugin, {"base_url": url}), "teacher")
        request = Request("solve", model, (Message("user", "1 + 1?"),), 0.7, 64)
        try:
            return str(await teacher.hook.submit_batch(requests=[request], token="t"))
        finally:
            await teacher.hook.aclose()

    return asyncio.run(work())


@pytest.mark.parametrize(
    ("plugin", "model"),
    [("openai", "gpt-4o"), pytest.param("anthropic", "claude-haiku-4-5", marks=pytest.mark.slow)],
)
def test_no_body_fills_the_memory(plugin: str, model: str) -> None:
    with FaultServer() as server:
        url = server.url if plugin == "openai" else server.root
        batch = submit(plugin, url, model)
        errors, answers = make_bombs(500), make_bombs(200)
        # The SDK sends the first requests of a model; those after a good answer go only through its transport.
        server.faults.extend([*errors, *answers, Fault()] * 2)
        calls = ["complete"] * len(server.faults)
        server.batch_faults["models"].append(answers[0])
        calls.append("unknown model")
        paths = {"create": "submit", "list": "find", "poll": "poll", "cancel": "cancel", "results": "poll"}
        for place, call in paths.items():
            server.batch_faults[place].extend([errors[0], answers[0], answers[1]])
            calls += [call] * 3
        server.batch_faults["list"].appendleft(Fault(body={"data": []}))
        command = [sys.executable, "-c", CHILD, plugin, url, model, batch, json.dumps(calls)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads(done.stdout)
    for call, growth, kind, text in rows:
        assert growth < MOST_MEMORY, f"{call}: {growth / 2**20:.0f} MB, {kind} {text}"
        assert kind in ("TransientError", "TeacherError", "answered"), f"{call}: {kind} {text}"
        assert len(text) < 1000
    kinds = Counter((call, kind) for call, _, kind, _ in rows)
    assert kinds["complete", "answered"] == 2
    assert kinds["complete", "TransientError"] == 16
    assert [text for call, _, kind, text in rows if kind == "answered" and call != "complete"] == []
    assert server.streamed < 20 * 40 * 2**20, "bytes that went out"
