"""The teacher ``anthropic``: Claude models by Anthropic's Messages API."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

from dsrl_http.prices import lookup
from dsrl_http.remote import (
    SLACK,
    ProviderError,
    Remote,
    Service,
    count,
    everything,
    forget_environment,
    parsed,
    part,
    reply,
    row_fault,
    tokens,
)

from dsrl.errors import RowRefused, SettingsError, TeacherError, TransientError
from dsrl.keys import find_key
from dsrl.plugins.specs import hookimpl
from dsrl.text import replace_surrogates
from dsrl.types import BatchState, Completion, Price, Rate, Request, Usage

if TYPE_CHECKING:
    from dsrl.types import BatchStatus

_log = logging.getLogger(__name__)

_ADDRESS = "https://api.anthropic.com"
_PATH = "/v1/messages"
_BATCHES = f"{_PATH}/batches"
_COUNTS = ("processing", "succeeded", "errored", "canceled", "expired")
_PAGE = "platform.claude.com (API keys)"
_FLAG = "--teacher-option"
_NO_MODEL = "the teacher 'anthropic' needs a model; name it anthropic:MODEL, as in anthropic:claude-haiku-4-5"
#: From the strongest to none.
_STRUCTURED = ("schema", "tool", "off")
_FINISH = {"max_tokens": "length", "model_context_window_exceeded": "length"}
#: The last version of the API that takes a temperature.
_WITH_TEMPERATURE = "2023-06-01"
_TOOL = "give_reply"
#: Seconds between two looks at batches that may be the one that is looked for.
_LOOK = 60.0


class AnthropicTeacher:
    """Asks Claude models; see :class:`dsrl.plugins.specs.TeacherSpec`.

    The API gives one answer a call. Its shared part, the system message, is marked for the prompt cache. Since version
    2026-10-21 it takes no temperature and no top_p: the model's own (1.0) hold then, and a line in the log says so.
    Source: platform.claude.com, API reference "Messages" and "Versions".

    Args:
        base_url: of another server that speaks the Messages API; empty: Anthropic.
        api_key_env: environment variable that holds the key (or the user name of the keyring entry). Empty:
            ``ANTHROPIC_API_KEY`` for Anthropic, no key for any other ``base_url``.
        api_version: of the API; empty for the SDK's. With ``2023-06-01`` temperature and top_p are sent.
        timeout: seconds for one call.
        structured: ``schema`` (structured outputs), ``tool`` (a forced tool), ``off``; ``auto`` takes the first that the
            model takes.
        cache: whether to mark the shared part of the prompt for the cache; writing it costs a quarter more, reading it a
            tenth. Prompts below the model's least length (1,024 tokens or more) are not cached and not charged for it.

    Raises:
        SettingsError: an option that cannot be.
    """

    def __init__(
        self,
        base_url: str = "",
        api_key_env: str = "",
        api_version: str = "",
        timeout: float = 600.0,
        structured: Literal["auto", "schema", "tool", "off"] = "auto",
        cache: bool = True,
    ) -> None:
        if structured not in ("auto", *_STRUCTURED):
            raise SettingsError(f"{_FLAG} structured={structured!r} must be auto, schema, tool or off")
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < 1e6:
            raise SettingsError(f"{_FLAG} timeout={timeout!r} must be a number of seconds above 0")
        if not isinstance(cache, bool):
            raise SettingsError(f"{_FLAG} cache={cache!r} must be true or false")
        if base_url and not _is_address(base_url):
            raise SettingsError(f"{_FLAG} base_url is no address of a server; it looks like {_ADDRESS}")
        self._address = base_url.rstrip("/") or _ADDRESS
        self._official = urlsplit(self._address).hostname == urlsplit(_ADDRESS).hostname
        self._variable = api_key_env or ("ANTHROPIC_API_KEY" if self._official else "")
        self._version, self._timeout, self._cache = api_version, float(timeout), cache
        self._structured = structured
        self._levels: dict[str, str] = {}
        self._made: Remote | None = None
        self._warned = False

    @hookimpl
    def prepare(self, model: str) -> None:
        """Look for the model's name and the key before anything else is done."""
        if not model:
            raise SettingsError(_NO_MODEL)
        _ = self._remote

    @hookimpl
    def price(self, model: str) -> Price | None:
        """Give the list price; None for a server of unknown price."""
        if self._official:
            return lookup("anthropic", model, batch=0.5)
        return lookup(self._address, model)

    @hookimpl
    def max_n(self, model: str) -> int:
        return 1

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        if not request.model:
            raise TeacherError(_NO_MODEL)
        model = request.model
        learn = partial(self._weakened, model=model)
        answer = await self._remote.answer(_PATH, lambda: self._body(request), model, learn)
        return _completion(answer.body, answer.rate)

    @hookimpl
    async def submit_batch(self, requests: Sequence[Request], token: str) -> str:
        """Give the requests to the Message Batches API, the token in every custom id.

        Source: platform.claude.com, guide "Batch processing": at most 100,000 requests and 256 MB.
        """
        bodies = [{"custom_id": f"{token}-{n}", "params": self._body(request)} for n, request in enumerate(requests)]
        made = await self._remote.object(_BATCHES, {"requests": bodies}, requests[0].model)
        return str(made["id"])

    @hookimpl
    async def find_batch(self, token: str, submitted: float, requests: int) -> str | None:
        """Look for the token in the custom ids of the batches.

        The API shows custom ids only with the results, when a batch has ended. So a batch that may be the one (made since,
        as many requests) is waited for until it ends. What remains open: results are kept for 29 days; later none is found.
        """
        others: set[str] = set()
        warned = False
        while True:
            waiting = ""
            async for batch in self._remote.listed(_BATCHES, "after_id"):
                name = str(batch["id"])
                if _created(batch) < submitted - SLACK:
                    break
                if name in others or sum(count(batch, "request_counts", kind) for kind in _COUNTS) != requests:
                    continue
                if batch.get("processing_status") != "ended":
                    waiting = waiting or name
                elif await self._is_named(name, token):
                    return name
                else:
                    others.add(name)
            if not waiting:
                return None
            if not warned:
                _log.warning("batch %s may be the one that is looked for; only when it ends can that be seen", waiting)
                warned = True
            await asyncio.sleep(_LOOK)

    async def _is_named(self, batch: str, token: str) -> bool:
        try:
            path = f"{_BATCHES}/{quote(batch, safe='')}/results"
            (line,) = await self._remote.lines(path, f"the results of batch {batch}", first=True)
        except TeacherError:
            return False  # thrown away by now
        return part(parsed(line), "custom_id", str).startswith(f"{token}-")

    @hookimpl
    async def poll_batch(self, batch: str, model: str) -> BatchState:
        path = f"{_BATCHES}/{quote(batch, safe='')}"
        found = await self._remote.object(path, thing=f"batch {batch}")
        counts = {name: count(found, "request_counts", name) for name in _COUNTS}
        total, done, failed = sum(counts.values()), counts["succeeded"], counts["errored"]
        if found.get("processing_status") != "ended":
            return BatchState("in_progress", total, done, failed)
        lines = await self._remote.lines(f"{path}/results", f"the results of batch {batch}")
        sent = self._body(everything(model))
        learn = partial(self._weakened, body=sent, model=model)
        results = await self._remote.results(lines, _read_line, model, learn)
        status: BatchStatus = "cancelled" if counts["canceled"] else "expired" if counts["expired"] else "ended"
        return BatchState(status, total, done, failed, results)

    @hookimpl
    async def cancel_batch(self, batch: str) -> None:
        await self._remote.cancelled(self._remote.client.messages.batches.cancel(batch), batch)

    @hookimpl
    async def aclose(self) -> None:
        if self._made is not None:
            await self._made.aclose()

    @property
    def _remote(self) -> Remote:
        if self._made is None:
            import anthropic

            page = _PAGE if self._official else ""
            name = "Anthropic" if self._official else f"the server at {self._address}"
            keeper = "anthropic" if self._official else urlsplit(self._address).hostname or "anthropic"
            key = find_key([self._variable], keeper, page) if self._variable else "none"
            self._made = Remote(
                Service(name, self._variable, page),
                anthropic,
                lambda http: self._client(key, http),
                key,
                self._address,
                self._timeout,
                read_usage,
            )
        return self._made

    def _client(self, key: str, http: Any) -> Any:
        import anthropic

        headers = {"anthropic-version": self._version} if self._version else {}
        client = anthropic.AsyncAnthropic(
            api_key=key,
            base_url=self._address,
            timeout=anthropic.Timeout(self._timeout, connect=20.0),
            max_retries=0,
            default_headers=headers,
            http_client=http,
        )
        # The environment's headers for Anthropic's SDK are for Anthropic.
        return client if self._official else forget_environment(client, headers)

    def _level(self, model: str) -> str:
        return self._levels.get(model, "schema" if self._structured == "auto" else self._structured)

    def _body(self, request: Request) -> dict[str, Any]:
        shared = [replace_surrogates(m.content) for m in request.messages if m.role == "system"]
        own = [
            {"role": m.role, "content": replace_surrogates(m.content)} for m in request.messages if m.role != "system"
        ]
        body: dict[str, Any] = {"model": request.model, "max_tokens": request.max_tokens, "messages": own}
        if shared:
            block: dict[str, Any] = {"type": "text", "text": "\n\n".join(shared)}
            if self._cache:
                block["cache_control"] = {"type": "ephemeral"}
            body["system"] = [block]
        if self._version and self._version <= _WITH_TEMPERATURE:
            # Dates compare as texts. The API's scale ends at 1.
            body["temperature"] = min(request.temperature, 1.0)
            if request.top_p != 1.0:
                body["top_p"] = request.top_p
        elif request.temperature != 1.0 and not self._warned:
            self._warned = True
            _log.warning("Anthropic's API takes no temperature since 2026-10-21; the models' own is used")
        if request.schema is not None:
            match self._level(request.model):
                case "schema":
                    body["output_config"] = {"format": {"type": "json_schema", "schema": dict(request.schema)}}
                case "tool":
                    body["tools"] = [
                        {"name": _TOOL, "description": "Takes your reply.", "input_schema": dict(request.schema)}
                    ]
                    body["tool_choice"] = {"type": "tool", "name": _TOOL}
        return body

    def _weakened(self, error: ProviderError, body: Mapping[str, Any], model: str) -> bool:
        """Give up the strongest form of structured output that ``body`` had, if the error is about it."""
        if self._structured != "auto" or error.status != 400 or row_fault(error):
            return False
        about = re.search(r"output_config|output_format|json_schema|structured output|tool|schema", error.message, re.I)
        sent = "schema" if "output_config" in body else "tool" if "tools" in body else ""
        if not sent or not about:
            return False
        # Requests sent together are refused together; none may undo what another has learnt.
        weaker = _STRUCTURED[_STRUCTURED.index(sent) + 1]
        self._levels[model] = max(self._level(model), weaker, key=_STRUCTURED.index)
        return True


def _read_line(line: Mapping[str, Any]) -> Completion | None:
    result = part(line, "result", dict)
    if result.get("type") == "errored":
        raise ProviderError(_status(result), {"usage": result.get("usage"), **part(result, "error", dict)})
    return _completion(part(result, "message", dict)) if result.get("type") == "succeeded" else None


def _completion(body: Mapping[str, Any], left: Rate | None = None) -> Completion:
    """Read a message whose shape is promised, not sure.

    Raises:
        RowRefused: the model refuses.
        TransientError: there is nothing in it.
    """
    usage = read_usage(body.get("usage"))
    why = part(body, "stop_reason", str)
    blocks = part(body, "content", list)
    given = [part(b, "input", dict) for b in blocks if part(b, "type", str) == "tool_use"]
    text = "".join(part(b, "text", str) for b in blocks if part(b, "type", str) == "text")
    if why == "refusal":
        raise RowRefused("refused", text[:500], usage, unknown=usage is None)
    if given:
        text = json.dumps(given[0], ensure_ascii=False)
    if not blocks and why not in _FINISH:
        said = "an answer without content"
        raise TransientError(said, rate=left, usage=usage, unknown=usage is None)
    return Completion((reply(text, _FINISH.get(why, "stop")),), usage, left)


def read_usage(used: Any) -> Usage | None:
    """Read what a call was billed for; None where it is not said, or a part of it cannot be read."""
    try:
        fresh, output = tokens(used, "input_tokens"), tokens(used, "output_tokens")
        read = tokens(used, "cache_read_input_tokens", default=0)
        written = tokens(used, "cache_creation_input_tokens", default=0)
    except ValueError:
        return None
    # The API counts what passed through the cache apart from the rest.
    return Usage(fresh + read + written, output, read, written)


def _status(result: Mapping[str, Any]) -> int:
    """Give the status that an error of a batch would have had as a call of its own."""
    kinds = {"invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403}
    kinds |= {"not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "overloaded_error": 529}
    error = part(result, "error", dict)
    return kinds.get(part(part(error, "error", dict) or error, "type", str), 500)


def _created(batch: Mapping[str, Any]) -> float:
    try:
        return datetime.fromisoformat(part(batch, "created_at", str)).timestamp()
    except (ValueError, OverflowError):
        return math.inf


def _is_address(address: str) -> bool:
    try:
        split = urlsplit(address)
        _ = split.port
    except ValueError:
        return False
    return split.scheme in ("http", "https") and bool(split.hostname) and split.password is None
