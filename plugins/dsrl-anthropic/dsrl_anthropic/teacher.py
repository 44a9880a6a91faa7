"""The teacher ``anthropic``: Claude models through Anthropic's Messages API."""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from dsrl_http.batches import CLOCK_TOLERANCE
from dsrl_http.endpoint import check_positive
from dsrl_http.errors import ProviderError, get_row_fault
from dsrl_http.json_values import get_count, get_member, parse_object
from dsrl_http.structured import StructuredOutput
from dsrl_http.teacher import HttpTeacher

from dsrl import BatchState, Completion, Request, SettingsError, TeacherError, hookimpl
from dsrl.text import replace_surrogates
from dsrl_anthropic.answers import read_completion
from dsrl_anthropic.endpoint import AnthropicEndpoint, choose_endpoint

if TYPE_CHECKING:
    from dsrl_http.connection import Answer

    from dsrl.types import BatchStatus

_log = logging.getLogger(__name__)

_FLAG = "--teacher-option"
_COUNTS = ("processing", "succeeded", "errored", "canceled", "expired")
#: The last version of the API that takes a temperature.
_WITH_TEMPERATURE = "2023-06-01"
_TOOL = "give_reply"
_ABOUT_FORM = re.compile(r"output_config|output_format|json_schema|structured output|tool|schema", re.I)
#: The status that an error of a batch would have as the answer to a call of its own.
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "overloaded_error": 529,
}
#: Seconds until a batch that may be the right one is looked at again.
LOOK_SECONDS = 60.0


class AnthropicTeacher(HttpTeacher):
    """Asks Claude models; see :class:`dsrl.plugins.specs.TeacherSpec`.

    The API gives one answer a call. The system message, which the prompts of a purpose share, is marked for the prompt
    cache. Since version 2026-10-21 the API takes no temperature and no top_p: the model's own (1.0) hold then, and a
    warning in the log says so. Source: platform.claude.com, API reference "Messages" and "Versions".

    Args:
        base_url: another server that speaks the Messages API. Empty: Anthropic.
        api_key_env: environment variable that holds the key (or the user name of the keyring entry). Empty:
            ``ANTHROPIC_API_KEY`` for Anthropic, no key for any other ``base_url``.
        api_version: of the API. Empty: the SDK's. With ``2023-06-01`` temperature and top_p are sent.
        timeout: seconds for one call.
        structured: ``schema`` (structured outputs), ``tool`` (a forced tool), ``off``; ``auto`` takes the first that the
            model accepts.
        cache: whether to mark the shared part of the prompt for the cache. Writing it costs a quarter more, reading it a
            tenth. Prompts below the model's minimum length (1,024 tokens or more) are not cached and not charged for it.

    Raises:
        SettingsError: an option is not valid.
    """

    name = "anthropic"
    example_model = "claude-haiku-4-5"
    answers_path = "/v1/messages"
    batches_path = "/v1/messages/batches"
    endpoint: AnthropicEndpoint

    def __init__(
        self,
        base_url: str = "",
        api_key_env: str = "",
        api_version: str = "",
        timeout: float = 600.0,
        structured: Literal["auto", "schema", "tool", "off"] = "auto",
        cache: bool = True,
    ) -> None:
        forms = StructuredOutput(("schema", "tool", "off"), structured, f"{_FLAG} structured")
        seconds = check_positive(timeout, f"{_FLAG} timeout")
        if not isinstance(cache, bool):
            raise SettingsError(f"{_FLAG} cache={cache!r} must be true or false")
        super().__init__(choose_endpoint(base_url, api_key_env, api_version, _FLAG), seconds, forms)
        self._cache = cache
        self._has_warned = False

    # --- answers ------------------------------------------------------------------------------------------------------

    @hookimpl
    def max_n(self, model: str) -> int:
        """Return 1: the API gives one answer a call."""
        return 1

    def make_body(self, request: Request) -> dict[str, Any]:
        """Return the body of a request, with what was learned about its model so far."""
        system = [replace_surrogates(m.content) for m in request.messages if m.role == "system"]
        messages = [
            {"role": m.role, "content": replace_surrogates(m.content)} for m in request.messages if m.role != "system"
        ]
        body: dict[str, Any] = {"model": request.model, "max_tokens": request.max_tokens, "messages": messages}
        if system:
            block: dict[str, Any] = {"type": "text", "text": "\n\n".join(system)}
            if self._cache:
                block["cache_control"] = {"type": "ephemeral"}
            body["system"] = [block]
        self._add_sampling(body, request)
        if request.schema is not None:
            match self.structured.get_form(request.model):
                case "schema":
                    body["output_config"] = {"format": {"type": "json_schema", "schema": dict(request.schema)}}
                case "tool":
                    body["tools"] = [
                        {"name": _TOOL, "description": "Takes your reply.", "input_schema": dict(request.schema)}
                    ]
                    body["tool_choice"] = {"type": "tool", "name": _TOOL}
        return body

    def _add_sampling(self, body: dict[str, Any], request: Request) -> None:
        version = self.endpoint.api_version
        if version and version <= _WITH_TEMPERATURE:  # versions are dates, which compare as texts
            body["temperature"] = min(request.temperature, 1.0)  # the API's scale ends at 1
            if request.top_p != 1.0:
                body["top_p"] = request.top_p
        elif request.temperature != 1.0 and not self._has_warned:
            self._has_warned = True
            _log.warning("Anthropic's API takes no temperature since version 2026-10-21; the models use their own")

    def read_answer(self, answer: Answer, request: Request) -> Completion:
        """Return the reply of an answer."""
        return read_completion(answer.body, answer.rate)

    def adapt(self, error: ProviderError, body: Mapping[str, Any], model: str) -> bool:
        """Learn which form of structured output a model refuses; return whether the next body has another one."""
        form = "schema" if "output_config" in body else "tool" if "tools" in body else ""
        if not form or error.status != 400 or get_row_fault(error) or not _ABOUT_FORM.search(error.message):
            return False
        return self.structured.weaken(model, form)

    # --- batches ------------------------------------------------------------------------------------------------------

    @hookimpl
    async def submit_batch(self, requests: Sequence[Request], token: str) -> str:
        """Send the requests to the Message Batches API, with the token in every custom id.

        Source: platform.claude.com, guide "Batch processing": at most 100,000 requests and 256 MB.
        """
        rows = [{"custom_id": f"{token}-{n}", "params": self.make_body(request)} for n, request in enumerate(requests)]
        async with self.explain_errors(model=requests[0].model):
            batch = await self.connection.post_object(self.batches_path, {"requests": rows})
        return str(batch["id"])

    @hookimpl
    async def find_batch(self, token: str, submitted: float, requests: int) -> str | None:
        """Look for the token in the custom ids of the batches.

        The API shows custom ids only with the results, when a batch has ended. So this waits until a batch ends that may be
        the right one (created since then, with as many requests). Results are kept for 29 days; later no batch is found.
        """
        others: set[str] = set()
        has_warned = False
        while True:
            open_batch = ""
            async for batch, has_ended in self._list_candidates(submitted, requests):
                if batch in others:
                    continue
                if not has_ended:
                    open_batch = open_batch or batch
                elif await self._has_token(batch, token):
                    return batch
                else:
                    others.add(batch)
            if not open_batch:
                return None
            if not has_warned:
                _log.warning("batch %s may be the right one; this can be seen only when it has ended", open_batch)
                has_warned = True
            await asyncio.sleep(LOOK_SECONDS)

    async def _list_candidates(self, submitted: float, requests: int) -> AsyncIterator[tuple[str, bool]]:
        """Yield the batches of that time and size, the newest first, and whether each has ended."""
        async with self.explain_errors():
            async for batch in self.connection.list_objects(self.batches_path):
                if _read_creation_time(batch) < submitted - CLOCK_TOLERANCE:
                    break
                if sum(get_count(batch, "request_counts", kind) for kind in _COUNTS) == requests:
                    yield str(batch["id"]), batch.get("processing_status") == "ended"

    async def _has_token(self, batch: str, token: str) -> bool:
        try:
            (line,) = await self._read_lines(batch, only_first=True)
        except TeacherError:
            return False  # the results are deleted by now
        return get_member(parse_object(line), "custom_id", str).startswith(f"{token}-")

    async def _read_lines(self, batch: str, only_first: bool = False) -> list[bytes]:
        thing = f"the results of batch {batch}"
        async with self.explain_errors(thing):
            return await self.connection.read_lines(f"{self.get_batch_path(batch)}/results", thing, only_first)

    @hookimpl
    async def poll_batch(self, batch: str, model: str) -> BatchState:
        """Return how far a batch is, and its results when it has ended."""
        async with self.explain_errors(f"batch {batch}"):
            state = await self.connection.get_object(self.get_batch_path(batch))
        counts = {name: get_count(state, "request_counts", name) for name in _COUNTS}
        total, done, failed = sum(counts.values()), counts["succeeded"], counts["errored"]
        if state.get("processing_status") != "ended":
            return BatchState("in_progress", total, done, failed)
        results = await self.read_results(await self._read_lines(batch), model)
        status: BatchStatus = "cancelled" if counts["canceled"] else "expired" if counts["expired"] else "ended"
        return BatchState(status, total, done, failed, results)

    def read_row(self, row: Mapping[str, Any]) -> Completion | None:
        """Return the reply in a row of a batch's results."""
        result = get_member(row, "result", dict)
        if result.get("type") == "errored":
            error = get_member(result, "error", dict)
            kind = get_member(get_member(error, "error", dict) or error, "type", str)
            raise ProviderError(_STATUSES.get(kind, 500), {"usage": result.get("usage"), **error})
        return read_completion(get_member(result, "message", dict)) if result.get("type") == "succeeded" else None


def _read_creation_time(batch: Mapping[str, Any]) -> float:
    try:
        return datetime.fromisoformat(get_member(batch, "created_at", str)).timestamp()
    except (ValueError, OverflowError):
        return math.inf
