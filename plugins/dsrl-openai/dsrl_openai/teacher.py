"""The teacher ``openai``: chat completions of OpenAI, Azure, vLLM, Ollama, llama.cpp, OpenRouter and the like."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from dsrl_http.endpoint import check_positive
from dsrl_http.errors import ProviderError, get_row_fault
from dsrl_http.json_values import get_count, get_member
from dsrl_http.structured import StructuredOutput
from dsrl_http.teacher import HttpTeacher

from dsrl import BatchState, Completion, Request, hookimpl
from dsrl.keys import excerpt
from dsrl.text import replace_surrogates
from dsrl_openai.answers import read_completion
from dsrl_openai.endpoint import OpenAIEndpoint, choose_endpoint
from dsrl_openai.model_settings import ModelSettings, find_refused_setting

if TYPE_CHECKING:
    from dsrl_http.connection import Answer

    from dsrl.types import BatchStatus

_log = logging.getLogger(__name__)

_FLAG = "--teacher-option"
#: The name of the member of a batch's metadata that holds dsrl's token.
_TOKEN = "dsrl"
_BATCH_STATUSES: dict[str, BatchStatus] = {
    "completed": "ended",
    "failed": "failed",
    "expired": "expired",
    "cancelled": "cancelled",
}


class OpenAITeacher(HttpTeacher):
    """Asks a model for chat completions; see :class:`dsrl.plugins.specs.TeacherSpec`.

    What a model or server does not take (a schema, the name of the length limit, a temperature, ``n``) is learned once, from
    its refusal, and left out from then on.

    Args:
        base_url: a server that speaks OpenAI's API, e.g. ``http://127.0.0.1:8000/v1``. Empty: ``OPENAI_BASE_URL``, or OpenAI
            itself.
        api_key_env: environment variable that holds the key (or the user name of the keyring entry). Empty:
            ``OPENAI_API_KEY`` for OpenAI, ``AZURE_OPENAI_API_KEY`` for Azure, no key for any other ``base_url``.
        azure_endpoint: an Azure resource, instead of ``base_url``; the model is then the name of the deployment.
        api_version: version of Azure's dated API. Empty: Azure's API without versions.
        timeout: seconds for one call.
        structured: ``schema`` (JSON schema), ``json`` (any JSON), ``off``; ``auto`` takes the first that the server accepts.
        max_n: maximum number of answers to ask for in one call; 1 for a server that always gives one.

    Raises:
        SettingsError: an option is not valid.
    """

    name = "openai"
    example_model = "gpt-4o"
    answers_path = "/chat/completions"
    batches_path = "/batches"
    endpoint: OpenAIEndpoint

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
        forms = StructuredOutput(("schema", "json", "off"), structured, f"{_FLAG} structured")
        self._max_n = int(check_positive(max_n, f"{_FLAG} max_n"))
        seconds = check_positive(timeout, f"{_FLAG} timeout")
        endpoint = choose_endpoint(base_url, api_key_env, _FLAG, azure_endpoint, api_version)
        super().__init__(endpoint, seconds, forms)
        self._settings: dict[str, ModelSettings] = {}

    # --- answers ------------------------------------------------------------------------------------------------------

    @hookimpl
    def identity(self) -> str:
        """Return the server's address, which the environment can set too. Options are in a reply's key anyway."""
        return self.endpoint.address

    @hookimpl
    def max_n(self, model: str) -> int:
        """Return how many answers one call may bring, as far as it is known."""
        return self._get_settings(model).max_n

    def make_body(self, request: Request) -> dict[str, Any]:
        """Return the body of a request, with what was learned about its model so far."""
        settings = self._get_settings(request.model)
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [{"role": m.role, "content": replace_surrogates(m.content)} for m in request.messages],
            settings.limit_name: request.max_tokens,
        }
        if "temperature" not in settings.unsupported:
            body["temperature"] = request.temperature
        if request.top_p != 1.0 and "top_p" not in settings.unsupported:
            body["top_p"] = request.top_p
        if request.n > 1 and settings.max_n > 1:
            body["n"] = min(request.n, settings.max_n)
        if request.schema is not None:
            form = self.structured.get_form(request.model)
            if form == "schema":
                schema = {"name": "reply", "schema": dict(request.schema), "strict": _is_strict(request.schema)}
                body["response_format"] = {"type": "json_schema", "json_schema": schema}
            elif form == "json":
                body["response_format"] = {"type": "json_object"}
        return body

    def read_answer(self, answer: Answer, request: Request) -> Completion:
        """Return the replies of an answer, and learn whether the server takes ``n``."""
        completion = read_completion(answer.body, answer.rate, request.n)
        settings = self._get_settings(request.model)
        if len(completion.replies) < min(request.n, settings.max_n):
            settings.max_n = 1
        return completion

    def adapt(self, error: ProviderError, body: Mapping[str, Any], model: str) -> bool:
        """Learn from a refusal how a model must be asked; return whether the next body differs from this one."""
        if error.status not in (400, 422, 501) or get_row_fault(error):
            return False
        setting = find_refused_setting(error, body)
        if setting == "response_format":
            is_schema = body["response_format"]["type"] == "json_schema"
            return self.structured.weaken(model, "schema" if is_schema else "json")
        if not setting or not self._get_settings(model).drop(setting):
            return False
        if setting in ("temperature", "top_p"):
            _log.warning("%s does not support %s; dsrl asks it without", model, setting)
        return True

    def _get_settings(self, model: str) -> ModelSettings:
        if model not in self._settings:
            # Most servers that speak OpenAI's API are older than OpenAI's own name of the limit.
            limit = "max_completion_tokens" if self.endpoint.is_official else "max_tokens"
            self._settings[model] = ModelSettings(limit, self._max_n)
        return self._settings[model]

    # --- batches ------------------------------------------------------------------------------------------------------

    @hookimpl
    async def submit_batch(self, requests: Sequence[Request], token: str) -> str:
        """Upload the requests as a file and make a batch of it, with the token in its metadata.

        Source: platform.openai.com, guide "Batch API": at most 50,000 requests and 200 MB.
        """
        url = self.answers_path if self.endpoint.is_azure else f"/v1{self.answers_path}"
        rows = [
            {"custom_id": str(number), "method": "POST", "url": url, "body": self.make_body(request)}
            for number, request in enumerate(requests)
        ]
        file = "\n".join(json.dumps(row) for row in rows).encode()
        async with self.explain_errors(model=requests[0].model):
            upload = await self.connection.post_object("/files", {"purpose": "batch"}, ("dsrl.jsonl", file))
            order = {
                "input_file_id": upload["id"],
                "endpoint": url,
                "completion_window": "24h",
                "metadata": {_TOKEN: token},
            }
            batch = await self.connection.post_object(self.batches_path, order)
        return str(batch["id"])

    @hookimpl
    async def find_batch(self, token: str) -> str | None:
        """Look for the token in the metadata of the batches. Return None for a server without a list of batches."""
        async with self.explain_errors():
            async for batch in self.connection.list_objects(self.batches_path):
                if get_member(batch, "metadata", dict).get(_TOKEN) == token:
                    return str(batch["id"])
        return None

    @hookimpl
    async def poll_batch(self, batch: str, model: str) -> BatchState:
        """Return how far a batch is, and its results when it has ended."""
        async with self.explain_errors(f"batch {batch}"):
            state = await self.connection.get_object(self.get_batch_path(batch))
        total, done, failed = (get_count(state, "request_counts", name) for name in ("total", "completed", "failed"))
        status = _BATCH_STATUSES.get(get_member(state, "status", str), "in_progress")
        if status == "in_progress":
            return BatchState(status, total, done, failed)
        lines: list[bytes] = []
        thing = f"the results of batch {batch}"
        for name in ("output_file_id", "error_file_id"):
            if file := get_member(state, name, str):
                async with self.explain_errors(thing):
                    lines += await self.connection.read_lines(f"/files/{quote(file, safe='')}/content", thing)
        results = await self.read_results(lines, model)
        errors = [get_member(e, "message", str) for e in get_member(get_member(state, "errors", dict), "data", list)]
        return BatchState(status, total, done, failed, results, excerpt("; ".join(dict.fromkeys(errors)), 2000))

    def read_row(self, row: Mapping[str, Any]) -> Completion | None:
        """Return the replies in a row of a batch's results."""
        response = get_member(row, "response", dict)
        body, status = get_member(response, "body", dict), get_count(response, "status_code")
        if status == 200:
            return read_completion(body)
        raise ProviderError(status or 500, body or row.get("error") or {})


def _is_strict(schema: Mapping[str, Any]) -> bool:
    """Return whether a schema keeps the rules of OpenAI's strict mode, on its first level."""
    return schema.get("additionalProperties") is False and set(schema.get("required", ())) == set(
        schema.get("properties", ())
    )
