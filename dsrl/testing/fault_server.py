"""A fake server that speaks the parts of the APIs of OpenAI and Anthropic that dsrl uses, and that fails on request.

It is for faults that no real server makes on request. Its good answers have the form of the types of both SDKs; a test
of dsrl compares them.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from types import TracebackType
from typing import Any, Literal

from aiohttp import web

#: Bytes of a body "without end": more than any client should read.
ENDLESS = 600 * 2**20
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "claude-haiku-4-5")


@dataclass(frozen=True)
class Fault:
    """One answer of the server.

    Attributes:
        status: the HTTP status.
        body: a text or bytes, sent as they are, or a value that is sent as JSON. None: the good answer to the request, or
            the body of an error if the status is an error.
        headers: headers in addition to the usual ones.
        how: how the answer is sent.
            ``answer``: whole.
            ``half``: half of the body, then the connection is cut. The request has no effect.
            ``cut``: the connection is cut at once. The request has no effect.
            ``hang``: nothing is sent, and the connection stays open. The request has no effect.
            ``lost``: the request takes effect, then the connection is cut.
            ``late``: the request takes effect, then nothing is sent, and the connection stays open.
            ``endless``: the body again and again, until the client goes away or ``ENDLESS`` bytes are sent.
        bill: prompt and completion tokens that the server writes into its own book for this answer, whatever the body says.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    how: Literal["answer", "half", "cut", "hang", "lost", "late", "endless"] = "answer"
    bill: tuple[int, int] = (0, 0)


def openai_error(
    message: str, code: str | None = None, error_type: str = "invalid_request_error", param: str = ""
) -> Any:
    """Return the body of an error in the form of OpenAI."""
    return {"error": {"message": message, "type": error_type, "param": param or None, "code": code}}


def anthropic_error(message: str, error_type: str = "invalid_request_error") -> Any:
    """Return the body of an error in the form of Anthropic."""
    return {"type": "error", "error": {"type": error_type, "message": message}, "request_id": "req_1"}


class FaultServer:
    """A server in a thread, on a free port of this machine: ``with FaultServer() as server: ... server.url``.

    Attributes:
        url: the address of the API, with ``/v1``; the clients of OpenAI expect this one.
        root: the address without ``/v1``; the clients of Anthropic expect this one.
        faults: the next answers to requests for text. When the list is empty, the answers are good.
        requests: path, headers and body of every request for text.
        key: the API key that the server accepts; None: any key. The refusal of a wrong key repeats the key, as careless
            servers do.
        any_model: whether the server has every model, and not only ``MODELS``.
        ignores_n: whether the server returns one choice, whatever the request's ``n`` is.
        headers: headers of every answer.
        refuses: a function from the body of a request to the fault that this request always meets, or to None.
        text: a function from the body of a request to the text of the reply, or to None for a numbered text.
        batch_lines: the number of a request in the next batch -> the result line in place of a good one.
        batch_status: the status of every batch, in the words of OpenAI.
        batch_statuses: the statuses of the first, the second, ... batch; they are stronger than ``batch_status``.
        batch_faults: like ``faults``, but by place: ``upload``, ``create``, ``list``, ``poll``, ``results``, ``cancel``.
        batches: the name of a batch -> its requests, in the order in which the batches were made.
        cancelled: the names of the batches that a client tried to cancel.
        files: the name of an uploaded file -> its content.
        calls: how many requests each place has had.
        page: maximum number of entries in one page of a list.
        book: prompt and completion tokens of each answer that has a ``Fault.bill``.
        streamed: bytes sent of bodies without end.
        unknown_headers: the headers of requests for paths that the server does not have.
    """

    def __init__(self) -> None:
        self.faults: deque[Fault] = deque()
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.key: str | None = None
        self.any_model = False
        self.ignores_n = False
        self.headers: dict[str, str] = {}
        self.refuses: Callable[[Any], Fault | None] = lambda body: None
        self.text: Callable[[Any], str | None] = lambda body: None
        self.batch_lines: dict[str, Any] = {}
        self.batch_status = "completed"
        self.batch_statuses: list[str] = []
        self.batch_faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self.calls: Counter[str] = Counter()
        self.page = 100
        self.book: list[tuple[int, int]] = []
        self.streamed = 0
        self.unknown_headers: list[dict[str, str]] = []
        self.cancelled: list[str] = []
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, list[Any]] = {}
        self._orders: dict[str, Any] = {}
        self._rows: dict[str, list[tuple[str, str]]] = {}
        self._numbers = count()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), daemon=True)

    def __enter__(self) -> FaultServer:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the server and cut its connections. A second call does nothing."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)
            self._loop.close()

    @property
    def bodies(self) -> list[Any]:
        """The bodies of the requests for text."""
        return [body for _, _, body in self.requests]

    async def _run(self) -> None:
        app = web.Application(client_max_size=2**28, middlewares=[self._fail_on_request])
        app.add_routes(
            [
                web.post("/v1/chat/completions", self._text),
                web.post("/v1/completions", self._text),
                web.post("/v1/messages", self._text),
                web.get("/v1/models", self._models, name="models"),
                web.post("/v1/files", self._upload, name="upload"),
                web.get("/v1/files/{id}/content", self._content, name="results"),
                web.post("/v1/batches", self._batch, name="create"),
                web.get("/v1/batches", self._list, name="list"),
                web.get("/v1/batches/{id}", self._batch_state, name="poll"),
                web.post("/v1/batches/{id}/cancel", self._cancel, name="cancel"),
                web.post("/v1/messages/batches", self._message_batch, name="message-create"),
                web.get("/v1/messages/batches", self._list, name="message-list"),
                web.get("/v1/messages/batches/{id}", self._message_batch_state, name="message-poll"),
                web.get("/v1/messages/batches/{id}/results", self._message_results, name="message-results"),
                web.post("/v1/messages/batches/{id}/cancel", self._cancel, name="message-cancel"),
            ]
        )
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        address = runner.addresses[0]
        self.root = f"http://{address[0]}:{address[1]}"
        self.url = f"{self.root}/v1"
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    # --- text ---------------------------------------------------------------------------------------------------------

    async def _text(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append((request.path, dict(request.headers), body))
        key = request.headers.get("Authorization", "").removeprefix("Bearer ") or request.headers.get("x-api-key", "")
        fault = self.faults.popleft() if self.faults else self.refuses(body) or Fault()
        if self.key is not None and key != self.key:
            text = f"Incorrect API key provided: {key}. You can find your key on the page of keys."
            fault = Fault(401, openai_error(text, "invalid_api_key"))
        elif not self.any_model and body["model"] not in MODELS and fault == Fault():
            fault = Fault(404, openai_error(f"The model `{body['model']}` does not exist", "model_not_found"))
        content = fault.body
        if content is None:
            refused = openai_error(f"status {fault.status}")
            content = self._make_good_body(request.path, body) if fault.status < 400 else refused
        if any(fault.bill):
            self.book.append(fault.bill)
        return await self._send(request, fault, content)

    async def _send(self, request: web.Request, fault: Fault, content: Any) -> web.StreamResponse:
        if fault.how in ("hang", "late"):
            await self._stop.wait()
        if fault.how in ("cut", "hang", "lost", "late"):
            if request.transport:  # else the client is gone already
                request.transport.abort()
            return web.Response()
        if isinstance(content, str):
            content = content.encode()
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {"Content-Type": "application/json", **self.headers, **fault.headers}
        if fault.how == "half":
            response = web.StreamResponse(status=fault.status, headers={**headers, "Content-Length": str(len(raw))})
            await response.prepare(request)
            await response.write(raw[: len(raw) // 2])
            if request.transport:  # else the client is gone already
                request.transport.abort()
            return response
        if fault.how == "endless":
            response = web.StreamResponse(status=fault.status, headers=headers)
            await response.prepare(request)
            with suppress(ConnectionError):
                sent = 0
                while sent < ENDLESS:
                    await response.write(raw)
                    sent += len(raw)
                    self.streamed += len(raw)
            return response
        return web.Response(status=fault.status, body=raw, headers=headers)

    def _make_good_body(self, path: str, body: Any) -> Any:
        number, text = next(self._numbers), self.text(body)
        if path.endswith("/messages"):
            return message(text or f"reply {number}", model=body["model"], tools=body.get("tools"))
        n = 1 if self.ignores_n else body.get("n", 1)
        texts = [text or f"reply {number}.{i}" for i in range(n)]
        if path.endswith("/chat/completions"):
            return completion(texts, body["model"])
        choices = [{"index": i, "text": t, "finish_reason": "stop", "logprobs": None} for i, t in enumerate(texts)]
        return {"id": "c", "object": "text_completion", "created": 1, "model": body["model"], "choices": choices}

    async def _models(self, request: web.Request) -> web.Response:
        data = [{"id": name, "object": "model", "created": 1, "owned_by": "us"} for name in MODELS]
        return web.json_response({"object": "list", "data": data, "has_more": False})

    # --- batches ------------------------------------------------------------------------------------------------------

    @web.middleware
    async def _fail_on_request(self, request: web.Request, handler: Any) -> web.StreamResponse:
        assert request.match_info.route
        if request.match_info.http_exception is not None:
            self.unknown_headers.append(dict(request.headers))
        place = (request.match_info.route.name or "").removeprefix("message-")
        self.calls[place] += 1
        if not self.batch_faults[place]:
            answer: web.StreamResponse = await handler(request)
            return answer
        fault = self.batch_faults[place].popleft()
        if fault.how in ("lost", "late"):
            await handler(request)
        return await self._send(request, fault, fault.body)

    def _take_line(self, custom_id: str, good: Any) -> Any:
        return self.batch_lines.pop(custom_id.rpartition("-")[2], good)

    def _get_status(self, name: str) -> str:
        index = list(self.batches).index(name)
        return self.batch_statuses[index] if index < len(self.batch_statuses) else self.batch_status

    async def _list(self, request: web.Request) -> web.Response:
        of_messages = "messages" in request.path
        names = [name for name in reversed(self.batches) if name.startswith("msgbatch_") == of_messages]
        after = request.query.get("after_id" if of_messages else "after")
        start = names.index(after) + 1 if after else 0
        page = names[start : start + min(int(request.query.get("limit", 20)), self.page)]
        describe = self._describe_message_batch if of_messages else self._describe_batch
        data = [describe(name, self._get_status(name)) for name in page]
        more = start + len(page) < len(names)
        ends = {"first_id": page[0], "last_id": page[-1]} if page else {"first_id": None, "last_id": None}
        return web.json_response({"object": "list", "data": data, "has_more": more, **ends})

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        upload = form["file"]
        assert isinstance(upload, web.FileField)
        name = f"file-{next(self._numbers)}"
        self.files[name] = upload.file.read()
        description = {
            "id": name,
            "object": "file",
            "bytes": 1,
            "created_at": 1,
            "filename": "f",
            "purpose": form["purpose"],
        }
        return web.json_response({**description, "status": "processed"})

    async def _content(self, request: web.Request) -> web.Response:
        return web.Response(body=self.files[request.match_info["id"]])

    async def _batch(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = f"batch_{next(self._numbers)}"
        lines = [json.loads(line) for line in self.files[body["input_file_id"]].splitlines()]
        self.batches[name] = lines
        good: list[str] = []
        bad: list[str] = []
        self._orders[name] = {"metadata": body.get("metadata"), "created_at": int(time.time())}
        for line in lines:
            answer = {
                "status_code": 200,
                "request_id": "r",
                "body": self._make_good_body("/chat/completions", line["body"]),
            }
            result = self._take_line(line["custom_id"], answer)
            row = (
                result
                if isinstance(result, str)
                else json.dumps({"custom_id": line["custom_id"], "response": result, "error": None, "id": "x"})
                if "error" not in result
                else json.dumps({"custom_id": line["custom_id"], "response": None, "id": "x", **result})
            )
            (good if isinstance(result, dict) and result.get("status_code") == 200 else bad).append(row)
        self.files[f"{name}-output"] = "\n".join(good).encode()
        self.files[f"{name}-error"] = "\n".join(bad).encode()
        return web.json_response(self._describe_batch(name, "validating"))

    def _describe_batch(self, name: str, status: str) -> Any:
        over = status in ("completed", "expired", "cancelled")
        lines = self.batches[name]
        good = len(self.files[f"{name}-output"].splitlines())
        return {
            "id": name,
            "object": "batch",
            **self._orders[name],
            "endpoint": "/v1/chat/completions",
            "input_file_id": "file-0",
            "completion_window": "24h",
            "status": status,
            "request_counts": {
                "total": len(lines),
                "completed": good if over else 0,
                "failed": len(lines) - good if over else 0,
            },
            "output_file_id": f"{name}-output" if over else None,
            "error_file_id": f"{name}-error" if over else None,
            "errors": {"object": "list", "data": [{"code": "x", "message": "line 1 is no JSON"}]}
            if status == "failed"
            else None,
        }

    async def _batch_state(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if name not in self.batches:
            return web.json_response(openai_error(f"No batch found with id '{name}'."), status=404)
        return web.json_response(self._describe_batch(name, self._get_status(name)))

    async def _cancel(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        self.cancelled.append(name)
        if self._get_status(name) == "completed":
            return web.json_response(openai_error("Cannot cancel a batch with status 'completed'."), status=409)
        if "messages" in request.path:
            return web.json_response(self._describe_message_batch(name, "canceling"))
        return web.json_response(self._describe_batch(name, "cancelling"))

    async def _message_batch(self, request: web.Request) -> web.Response:
        name = f"msgbatch_{next(self._numbers)}"
        self.batches[name] = (await request.json())["requests"]
        self._orders[name] = {"created_at": datetime.now(UTC).isoformat()}
        self._rows[name] = []
        for line in self.batches[name]:
            good = {"type": "succeeded", "message": self._make_good_body("/messages", line["params"])}
            result = self._take_line(line["custom_id"], good)
            row = result if isinstance(result, str) else json.dumps({"custom_id": line["custom_id"], "result": result})
            self._rows[name].append((result["type"] if isinstance(result, dict) else "succeeded", row))
        return web.json_response(self._describe_message_batch(name, "in_progress"))

    def _describe_message_batch(self, name: str, status: str) -> Any:
        ended = status not in ("in_progress", "canceling")
        kinds = ("processing", "succeeded", "errored", "canceled", "expired")
        counts = Counter(kind if ended else "processing" for kind, _ in self._rows[name])
        return {
            **self._orders[name],
            "id": name,
            "type": "message_batch",
            "processing_status": "ended" if ended else status,
            "request_counts": {kind: counts[kind] for kind in kinds},
            "expires_at": "2100-01-02T00:00:00Z",
            "results_url": f"{self.root}/v1/messages/batches/{name}/results" if ended else None,
        }

    async def _message_batch_state(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if name not in self.batches:
            return web.json_response(anthropic_error("no such batch", "not_found_error"), status=404)
        return web.json_response(self._describe_message_batch(name, self._get_status(name)))

    async def _message_results(self, request: web.Request) -> web.Response:
        rows = [row for _, row in self._rows[request.match_info["id"]]]
        return web.Response(text="\n".join(reversed(rows)))


def completion(texts: list[str], model: str = "gpt-4o", finish: str = "stop", refusal: str | None = None) -> Any:
    """Return a chat completion in the form of OpenAI, with one choice for each text."""
    choices = [
        {
            "index": i,
            "finish_reason": finish,
            "logprobs": None,
            "message": {"role": "assistant", "content": None if refusal else text, "refusal": refusal},
        }
        for i, text in enumerate(texts)
    ]
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 10 * len(texts),
        "total_tokens": 100 + 10 * len(texts),
        "prompt_tokens_details": {"cached_tokens": 40},
    }
    return {"id": "c", "object": "chat.completion", "created": 1, "model": model, "choices": choices, "usage": usage}


def message(text: str, model: str = "claude-haiku-4-5", stop: str = "end_turn", tools: Any = None) -> Any:
    """Return a message in the form of Anthropic."""
    content: list[Any] = [{"type": "text", "text": text, "citations": None}]
    if tools:
        stop = "tool_use"
        content.append(
            {"type": "tool_use", "id": "t", "name": tools[0]["name"], "input": {"input": text, "output": "o"}}
        )
    usage = {
        "input_tokens": 10,
        "output_tokens": 5,
        "cache_read_input_tokens": 60,
        "cache_creation_input_tokens": 30,
    }
    return {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": usage,
    }
