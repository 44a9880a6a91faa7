"""Bodies without an end, bombs, and the like: how much memory and time does the real command spend on them?"""

from __future__ import annotations

import asyncio
import gzip
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from dsrl.testing.fault_server import FaultServer
from torture.commands import KEY, Child, Ended, arguments_of, make_folder
from torture.replies import reply_to

#: Bytes above the peak of a quiet run that a hostile body may cost.
MORE_MEMORY = 600 * 2**20
#: Seconds that it may take until the command ends, on a busy machine.
PATIENCE = 300.0
_CHUNK = 2**18


@dataclass(frozen=True)
class Body:
    """A hostile answer.

    Attributes:
        status: of HTTP.
        chunks: makes the pieces of the body; they may have no end.
        headers: on top of the usual.
        later: whether the first request is answered well. Until a model has answered once, its requests go another way.
        models: whether it is the list of models that is hostile; a request is refused then, so that the list is asked for.
    """

    status: int
    chunks: Callable[[], Iterator[bytes]]
    headers: Mapping[str, str] = field(default_factory=dict)
    later: bool = False
    models: bool = False


def _endless() -> Iterator[bytes]:
    yield b'{"error": "'
    while True:
        yield b"x" * _CHUNK


def _endless_spaces() -> Iterator[bytes]:
    while True:
        yield b" " * _CHUNK


def _bomb(window: int) -> Callable[[], Iterator[bytes]]:
    """Pack 4 GB of one letter; ``window`` as zlib has it."""

    def chunks() -> Iterator[bytes]:
        packer = zlib.compressobj(9, zlib.DEFLATED, window)
        yield packer.compress(b'{"error": "')
        for _ in range(4096):
            if packed := packer.compress(b"x" * 2**20):
                yield packed
        yield packer.flush()

    return chunks


def _bomb_in_a_bomb() -> Iterator[bytes]:
    inner = gzip.compress(b"x" * 2**28, 9)
    yield gzip.compress(inner, 9)


def _long_line() -> Iterator[bytes]:
    yield b'{"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "'
    for _ in range(100 * 2**20 // _CHUNK):
        yield b"x" * _CHUNK
    yield b'"}}], "content": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'


def _long_reply() -> Iterator[bytes]:
    """Stay below the bound for one body, with a reply of 60 MB."""
    yield b'{"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "'
    for _ in range(60 * 2**20 // _CHUNK):
        yield b"x" * _CHUNK
    yield b'"}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'


def _many_choices() -> Iterator[bytes]:
    yield b'{"choices": ['
    choice = b'{"index": 0, "message": {"content": "x"}},'
    for _ in range(48 * 2**20 // (len(choice) * 6000)):
        yield choice * 6000
    yield b"{}]}"


def _empty_lists() -> Iterator[bytes]:
    """Stay below the bound for one body, and become many objects when they are read."""
    yield b'{"choices": ['
    for _ in range(60 * 2**20 // _CHUNK):
        yield b"[]," * (_CHUNK // 3)
    yield b"0]}"


def _deep(opening: bytes) -> Callable[[], Iterator[bytes]]:
    def chunks() -> Iterator[bytes]:
        yield opening * (8 * 2**20 // len(opening))

    return chunks


_GZIP, _DEFLATE = {"Content-Encoding": "gzip"}, {"Content-Encoding": "deflate"}
_KINDS: dict[str, tuple[Callable[[], Iterator[bytes]], Mapping[str, str]]] = {
    "endless": (_endless, {}),
    "endless spaces": (_endless_spaces, {}),
    "gzip bomb": (_bomb(31), _GZIP),
    "deflate bomb": (_bomb(15), _DEFLATE),
    "gzip bomb in a gzip bomb": (_bomb_in_a_bomb, {"Content-Encoding": "gzip, gzip"}),
    "line of 100 MB": (_long_line, {}),
    "deep lists": (_deep(b"["), {}),
    "deep objects": (_deep(b'{"error":'), {}),
}
BODIES = {
    f"{name}, {status}, {'later' if later else 'first'}": Body(status, chunks, headers, later)
    for name, (chunks, headers) in _KINDS.items()
    for status in (200, 500)
    for later in (False, True)
    # What differs is how a body is read, not what is in it: the rarer ones need not come in all combinations.
    if name in ("endless", "gzip bomb") or (status == 200) != later
} | {
    "reply of 60 MB, 200, first": Body(200, _long_reply),
    "a million choices, 200, first": Body(200, _many_choices),
    "20 million empty lists, 200, first": Body(200, _empty_lists),
    "endless list of models": Body(200, _endless_spaces, models=True),
    "gzip bomb as list of models": Body(200, _bomb(31), _GZIP, models=True),
}


class HostileServer(FaultServer):
    """Gives one hostile body to every request that it is meant for."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self._body = body

    async def _text(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append((request.path, {}, body))
        if self._body.models:
            error = {"error": {"message": "no such model", "code": "model_not_found"}}
            return web.json_response(error, status=404)
        if self._body.later and len(self.requests) == 1:
            return web.json_response(self._make_good_reply(body))
        return await self._pour(request)

    def _make_good_reply(self, body: Mapping[str, object]) -> object:
        self.text = lambda body: reply_to(body, 0)
        return self._make_good_body("/chat/completions", body)

    async def _models(self, request: web.Request) -> web.StreamResponse:
        return await self._pour(request) if self._body.models else await super()._models(request)

    async def _pour(self, request: web.Request) -> web.StreamResponse:
        headers = {"Content-Type": "application/json", **self._body.headers}
        response = web.StreamResponse(status=self._body.status, headers=headers)
        try:
            await response.prepare(request)
            async for chunk in _yielding(self._body.chunks()):
                await response.write(chunk)
            await response.write_eof()
        except ConnectionError:  # the client has had enough
            pass
        return response


async def _yielding(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Endured:
    """What a hostile body did to the command.

    Attributes:
        code, stderr, seconds, cpu: of the process.
        peak: bytes of memory at most.
        stopped: why it had to be killed; empty where it ended by itself.
        requests: how many the server got.
    """

    code: int
    stderr: str
    seconds: float
    cpu: float
    peak: int
    stopped: str
    requests: int


def endure(server: FaultServer, index: Path, more: Mapping[str, object] = {}, patience: float = PATIENCE) -> Endured:
    """Make a small run against a server that is up."""
    with tempfile.TemporaryDirectory(prefix="torture-", ignore_cleanup_errors=True) as temporary:
        folder = make_folder(Path(temporary) / "work", index)
        ended = run_against(server, folder, more, patience)
    return Endured(ended.code, ended.stderr, ended.seconds, ended.cpu, ended.peak, ended.stopped, len(server.requests))


def run_against(
    server: FaultServer, folder: Path, more: Mapping[str, object] = {}, patience: float = PATIENCE, key: str = "hostile"
) -> Ended:
    """Give the command of a small run in a folder, perhaps once more."""
    settings = {
        "task": "mednli",
        "name": "hostile",
        "teacher": "openai:gpt-4o",
        "teacher_option": [f"base_url={server.url}", f"api_key_env={KEY}"],
        "price": "gpt-4o=3,15",
        "teacher_max_tokens": 300,
        "concurrency": 2,
        "samples": 2,
        "votes": 1,
        "stop_after": "verified",
        **more,
    }
    return Child(arguments_of(settings), folder, key).ended(patience)


def endure_body(name: str, index: Path) -> Endured:
    """Make a small run against a hostile body."""
    with HostileServer(BODIES[name]) as server:
        return endure(server, index)


def endure_nothing(index: Path) -> Endured:
    """Make a small run against a server that does as it should."""
    with FaultServer() as server:
        server.text = lambda body: reply_to(body, 0)
        return endure(server, index)
