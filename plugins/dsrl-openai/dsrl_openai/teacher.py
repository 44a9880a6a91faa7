"""The teacher ``openai``: chat completions of OpenAI, Azure, vLLM, Ollama, llama.cpp, OpenRouter and the like."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from dsrl_http.prices import lookup
from dsrl_http.remote import ProviderError, Remote, count, everything, part, reply, row_fault

from dsrl.errors import RowRefused, SettingsError, TeacherError, TransientError
from dsrl.keys import excerpt
from dsrl.plugins.specs import hookimpl
from dsrl.text import replace_surrogates
from dsrl.types import BatchState, Completion, Price, Rate, Request
from dsrl_openai.connection import positive, read_usage, server

if TYPE_CHECKING:
    from dsrl.types import BatchStatus

_log = logging.getLogger(__name__)

_FLAG = "--teacher-option"
_NO_MODEL = "the teacher 'openai' needs a model; name it openai:MODEL, as in openai:gpt-4o"
_PATH = "/chat/completions"
_BATCHES = "/batches"
#: In a batch's metadata.
_TOKEN = "dsrl"
#: From the strongest to none.
_STRUCTURED = ("schema", "json", "off")
_FINISH = {"length": "length", "content_filter": "content_filter"}
_BATCH: dict[str, BatchStatus] = {
    "completed": "ended",
    "failed": "failed",
    "expired": "expired",
    "cancelled": "cancelled",
}


@dataclass
class _Ways:
    """How a model wants to be asked, learnt from what it refused.

    Attributes:
        structured: as the option.
        limit: name of the length limit.
        limit_turned: whether its name was changed once; it is not changed back.
        left_out: settings that the model does not take.
        max_n: answers a call.
    """

    structured: str
    limit: str
    max_n: int
    limit_turned: bool = False
    left_out: frozenset[str] = frozenset()

    def adapt(self, error: ProviderError, body: Mapping[str, Any]) -> str:
        """Give up what an answer of 400 refuses, if ``body`` had it; say what, empty if it is nothing of that kind."""
        refused = named(error, body)
        if refused == "response_format":
            sent = body["response_format"]["type"]
            weaker = "json" if sent == "json_schema" else "off"
            # Requests sent together are refused together; none may undo what another has learnt.
            self.structured = max(self.structured, weaker, key=_STRUCTURED.index)
        elif refused in ("max_tokens", "max_completion_tokens"):
            if refused == self.limit:
                if self.limit_turned:
                    return ""
                self.limit = "max_tokens" if refused == "max_completion_tokens" else "max_completion_tokens"
                self.limit_turned = True
        elif refused == "n":
            self.max_n = 1
        elif refused:
            self.left_out |= {refused}
        return refused


class OpenAITeacher:
    """Asks a model for chat completions; see :class:`dsrl.plugins.specs.TeacherSpec`.

    What a model or server does not take (a schema, the name of the length limit, a temperature, ``n``) is learnt from its
    refusal, once, and left out from then on.

    Args:
        base_url: of a server that speaks OpenAI's API, e.g. ``http://127.0.0.1:8000/v1``; empty: ``OPENAI_BASE_URL`` or
            OpenAI itself.
        api_key_env: environment variable that holds the key (or the user name of the keyring entry). Empty:
            ``OPENAI_API_KEY`` for OpenAI, ``AZURE_OPENAI_API_KEY`` for Azure, no key for any other ``base_url``.
        azure_endpoint: of an Azure resource, instead of ``base_url``; the model is the deployment's name.
        api_version: of Azure's dated API; empty for its version-less one.
        timeout: seconds for one call.
        structured: ``schema`` (JSON schema), ``json`` (any JSON), ``off``; ``auto`` takes the first that the server takes.
        max_n: answers to ask for in one call at most; 1 for a server that gives one whatever it is asked for.

    Raises:
        SettingsError: an option that cannot be.
    """

    def __init__(
        self,
        base_url: str = "",
        api_key_env: str = "",
        azure_endpoint: str = "",
        api_version: str = "",
        timeout: float = 600.0,
        structured: Literal["auto", "schema", "json", "off"] = "auto",
        max_n: int = 128,
    ) -> None:
        if structured not in ("auto", *_STRUCTURED):
            raise SettingsError(f"{_FLAG} structured={structured!r} must be auto, schema, json or off")
        self._max_n = int(positive(max_n, f"{_FLAG} max_n"))
        self._timeout = positive(timeout, f"{_FLAG} timeout")
        self._structured = structured
        self._server = server(base_url, api_key_env, azure_endpoint, api_version, _FLAG)
        self._made: Remote | None = None
        self._ways: dict[str, _Ways] = {}

    @hookimpl
    def prepare(self, model: str) -> None:
        """Look for the model's name and the key before anything else is done."""
        if not model:
            raise SettingsError(_NO_MODEL)
        _ = self._remote

    @hookimpl
    def identity(self) -> str:
        # The environment can name the server too; options are in the key of a reply anyway.
        return self._server.address

    @hookimpl
    def price(self, model: str) -> Price | None:
        """Give the list price; None for a server of unknown price, the user's own included."""
        return lookup(self._server.price_source, model, batch=0.5 if self._server.official else 1.0)

    @hookimpl
    def max_n(self, model: str) -> int:
        return self._way(model).max_n

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        if not request.model:
            raise TeacherError(_NO_MODEL)
        model = request.model
        learn = partial(self._adapt, model=model)
        answer = await self._remote.answer(_PATH, lambda: self._body(request), model, learn)
        completion = _completion(answer.body, answer.rate, request.n)
        if len(completion.replies) < min(request.n, self._way(model).max_n):
            self._way(model).max_n = 1
        return completion

    @hookimpl
    async def submit_batch(self, requests: Sequence[Request], token: str) -> str:
        """Upload the requests as a file and make a batch of it, its token in the metadata.

        Source: platform.openai.com, guide "Batch API": at most 50,000 requests and 200 MB.
        """
        endpoint = _PATH if self._server.azure else f"/v1{_PATH}"
        lines = [
            {"custom_id": str(number), "method": "POST", "url": endpoint, "body": self._body(request)}
            for number, request in enumerate(requests)
        ]
        file = "\n".join(json.dumps(line) for line in lines).encode()
        model = requests[0].model
        uploaded = await self._remote.object("/files", {"purpose": "batch"}, model, file=("dsrl.jsonl", file))
        order = {
            "input_file_id": uploaded["id"],
            "endpoint": endpoint,
            "completion_window": "24h",
            "metadata": {_TOKEN: token},
        }
        made = await self._remote.object(_BATCHES, order, model)
        return str(made["id"])

    @hookimpl
    async def find_batch(self, token: str) -> str | None:
        """Look for the token in the batches' metadata. A server without a list of batches has none to find."""
        async for batch in self._remote.listed(_BATCHES, "after"):
            if part(batch, "metadata", dict).get(_TOKEN) == token:
                return str(batch["id"])
        return None

    @hookimpl
    async def poll_batch(self, batch: str, model: str) -> BatchState:
        found = await self._remote.object(f"{_BATCHES}/{quote(batch, safe='')}", thing=f"batch {batch}")
        total, done, failed = (count(found, "request_counts", name) for name in ("total", "completed", "failed"))
        status = _BATCH.get(part(found, "status", str), "in_progress")
        if status == "in_progress":
            return BatchState(status, total, done, failed)
        lines: list[bytes] = []
        for name in ("output_file_id", "error_file_id"):
            if file := part(found, name, str):
                path = f"/files/{quote(file, safe='')}/content"
                lines += await self._remote.lines(path, f"the results of batch {batch}")
        sent = self._body(everything(model))
        results = await self._remote.results(lines, _read_line, model, partial(self._adapt, body=sent, model=model))
        said = [part(error, "message", str) for error in part(part(found, "errors", dict), "data", list)]
        return BatchState(status, total, done, failed, results, excerpt("; ".join(dict.fromkeys(said)), 2000))

    @hookimpl
    async def cancel_batch(self, batch: str) -> None:
        await self._remote.cancelled(self._remote.client.batches.cancel(batch), batch)

    @hookimpl
    async def aclose(self) -> None:
        if self._made is not None:
            await self._made.aclose()

    @property
    def _remote(self) -> Remote:
        if self._made is None:
            self._made = self._server.remote(self._timeout)
        return self._made

    def _way(self, model: str) -> _Ways:
        if model not in self._ways:
            structured = "schema" if self._structured == "auto" else self._structured
            # OpenAI's own name of the limit is younger than most servers that speak its API.
            limit = "max_completion_tokens" if self._server.official else "max_tokens"
            self._ways[model] = _Ways(structured, limit, self._max_n)
        return self._ways[model]

    def _body(self, request: Request) -> dict[str, Any]:
        way = self._way(request.model)
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [{"role": m.role, "content": replace_surrogates(m.content)} for m in request.messages],
            way.limit: request.max_tokens,
        }
        if "temperature" not in way.left_out:
            body["temperature"] = request.temperature
        if request.top_p != 1.0 and "top_p" not in way.left_out:
            body["top_p"] = request.top_p
        if request.n > 1 and way.max_n > 1:
            body["n"] = min(request.n, way.max_n)
        if request.schema is not None and way.structured == "schema":
            schema = {"name": "reply", "schema": dict(request.schema), "strict": _is_strict(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif request.schema is not None and way.structured == "json":
            body["response_format"] = {"type": "json_object"}
        return body

    def _adapt(self, error: ProviderError, body: Mapping[str, Any], model: str) -> bool:
        if error.status not in (400, 422, 501) or row_fault(error):
            return False
        if self._structured != "auto" and named(error, body) == "response_format":
            return False
        refused = self._way(model).adapt(error, body)
        if refused in ("temperature", "top_p"):
            _log.warning("%s does not take %s; it is asked without", model, refused)
        return bool(refused)


def _read_line(line: Mapping[str, Any]) -> Completion:
    response = part(line, "response", dict)
    body, status = part(response, "body", dict), count(response, "status_code")
    if status == 200:
        return _completion(body)
    raise ProviderError(status or 500, body or line.get("error") or {})


def _completion(body: Mapping[str, Any], left: Rate | None = None, n: int | None = None) -> Completion:
    """Read an answer whose shape is promised, not sure; ``n``: replies at most.

    Raises:
        RowRefused: the model refuses, in every choice.
        TransientError: there is no choice in it.
    """
    usage = read_usage(body.get("usage"))
    replies, refusals = [], []
    for choice in part(body, "choices", list):
        message = part(choice, "message", dict)
        finish = _FINISH.get(part(choice, "finish_reason", str), "stop")
        if choice_error := part(choice, "error", dict):
            said = f"a choice failed: {excerpt(part(choice_error, 'message', str), 200)}"
            raise TransientError(said, rate=left, usage=usage, unknown=usage is None)
        refusal = part(message, "refusal", str)
        if refusal:
            refusals.append(refusal)
            finish = "content_filter"
        replies.append(reply(_text(message.get("content")) or refusal, finish))
    if not replies:
        said = "an answer without choices"
        raise TransientError(said, rate=left, usage=usage, unknown=usage is None)
    if len(refusals) == len(replies):
        raise RowRefused("refused", refusals[0][:500], usage, unknown=usage is None)
    return Completion(tuple(replies[:n]), usage, left)


def _text(content: Any) -> str:
    if isinstance(content, list):  # parts, as some servers write them
        return "".join(part(piece, "text", str) for piece in content)
    return content if isinstance(content, str) else ""


def named(error: ProviderError, body: Mapping[str, Any]) -> str:
    """Give the setting in ``body`` that an error is about; empty if it is about none of those one can do without."""
    known = ("response_format", "max_tokens", "max_completion_tokens", "temperature", "top_p", "n")
    if error.param:
        name = error.param.partition(".")[0]
        return name if name in known and name in body else ""
    text = error.message
    if "response_format" in body and re.search(
        r"response_format|json_schema|json_object|json mode|structured output|guided|grammar|contain the word 'json'",
        text,
        re.I,
    ):
        return "response_format"
    if "n" in body and re.search(r"only one (?:completion )?choice", text, re.I):  # llama.cpp
        return "n"
    if not re.search(
        r"unsupported|not support|unknown|unrecogni[sz]ed|unexpected|not permitted|extra|invalid|instead", text, re.I
    ):
        return ""
    quoted = re.findall(r"['\"`]?\b(max_tokens|max_completion_tokens|temperature|top_p|n)\b['\"`]?", text)
    return next((name for name in quoted if name in body), "")


def _is_strict(schema: Mapping[str, Any]) -> bool:
    """Say whether a schema keeps the rules of OpenAI's strict mode, on its first level."""
    return schema.get("additionalProperties") is False and set(schema.get("required", ())) == set(
        schema.get("properties", ())
    )
