"""How a request goes out through a provider's official SDK, and how its response is read.

Import it only where a provider is called, because it needs the HTTP library of the SDKs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from dsrl import Rate, TeacherError, TransientError
from dsrl.keys import excerpt
from dsrl_http import bodies
from dsrl_http.bodies import format_megabytes
from dsrl_http.endpoint import Endpoint
from dsrl_http.errors import MESSAGE_LENGTH, ProviderError, describe_page
from dsrl_http.headers import read_rate
from dsrl_http.json_values import get_member, parse_object
from dsrl_http.sdk_errors import describe_cause, is_of_transport, is_unreachable
from dsrl_http.transport import copy_request, make_http_client, read_body

_MOST_PAGES = 100
_MOST_NAMES = 1000
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful response.

    Attributes:
        body: a JSON object; nothing in it is checked.
        rate: what remains of the rate limits.
    """

    body: Mapping[str, Any]
    rate: Rate | None


class Connection:
    """The connection to one provider through its official SDK. The SDK does not retry; the ledger does.

    All methods raise ``ProviderError`` for a status that is not a success, and ``TransientError`` or ``TeacherError`` if
    there was no readable response.

    Args:
        endpoint: the provider's server.
        timeout: seconds for one call, from its start to the last byte.

    Raises:
        TeacherError: the server needs a key, and there is none.
    """

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        self.endpoint = endpoint
        self._timeout = timeout
        self._sdk = endpoint.import_sdk()
        self._key = endpoint.find_key()
        self._client: Any = None
        self._http: Any = None
        # By path and model: a request of the SDK that was answered.
        self._templates: dict[tuple[str, str], httpx2.Request] = {}
        self._answered_models: set[str] = set()
        self._was_reached = False

    @property
    def client(self) -> Any:
        """The SDK's client.

        It is used through its general ``get`` and ``post``: the typed methods take twice the time, and promise their types
        without a check.
        """
        if self._client is None:
            self._http = make_http_client(self._sdk, self.endpoint.name)
            self._client = self.endpoint.connect(self._key, self._timeout, self._http)
        return self._client

    async def aclose(self) -> None:
        """Close the connections. A later call opens new ones."""
        if self._client is not None:
            client, self._client = self._client, None
            self._templates.clear()
            await client.close()

    def has_answered(self, model: str) -> bool:
        """Return whether a request to this model was answered before."""
        return model in self._answered_models

    async def post(self, path: str, body: Mapping[str, Any], model: str) -> Answer:
        """Send a request to a model and read the answer.

        The SDK makes the first request of a path and model. After an answer, the same request is sent with another body on
        the SDK's transport, because the SDK takes half of a call's CPU time to make a request (benchmarks/transport.py).
        """
        async with self.translate_errors():
            client = self.client
            template = self._templates.get((path, model))
            if template is None:
                response = await client.post(path, cast_to=httpx2.Response, body=body, stream=True, stream_cls=None)
            else:
                response = await self._http.send(copy_request(template, body, self._http.cookies), stream=True)
            if response.is_success:
                # We stream the body ourselves so that we can enforce its own size limit.
                response.stream.most = bodies.MOST_ANSWER_BYTES
            raw = await read_body(response)
        if not response.is_success:
            raise self._make_error(response, raw)
        content = self._parse_answer(response, raw)
        self._answered_models.add(model)
        if (path, model) not in self._templates:
            for name in ("Content-Length", "Cookie"):  # these differ from request to request
                response.request.headers.pop(name, None)
            self._templates[path, model] = response.request
        return Answer(content, read_rate(response.headers))

    # --- objects, lists and files -------------------------------------------------------------------------------------

    async def get_object(
        self, path: str, query: Mapping[str, Any] | None = None, member: str = "id", kind: type = str
    ) -> Mapping[str, Any]:
        """Return a JSON object that has the named member, which is not empty; nothing else in it is checked."""
        async with self.translate_errors():
            options = {"params": dict(query)} if query else {}
            response = await self.client.get(path, cast_to=httpx2.Response, options=options)
            return self._parse_object(response.content, member, kind)

    async def post_object(
        self, path: str, body: Mapping[str, Any], file: tuple[str, bytes] | None = None
    ) -> Mapping[str, Any]:
        """Create an object and return it; it has an ``id``, and nothing else in it is checked.

        Args:
            path: below the address.
            body: is sent as JSON, or as a form if there is a file.
            file: its name and content.
        """
        more: dict[str, Any] = {}
        if file is not None:
            more = {"files": {"file": file}, "options": {"headers": {"Content-Type": "multipart/form-data"}}}
        async with self.translate_errors():
            response = await self.client.post(path, cast_to=httpx2.Response, body=body, **more)
            return self._parse_object(response.content, "id", str)

    async def post_action(self, path: str) -> None:
        """Send a request that has no body and whose response does not matter."""
        async with self.translate_errors():
            await self.client.post(path, cast_to=httpx2.Response)

    async def list_objects(self, path: str) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the objects of a list that comes in pages; each has an ``id``. Nothing for a server without such a list."""
        query: dict[str, Any] = {"limit": 100}
        for _ in range(_MOST_PAGES):
            try:
                page = await self.get_object(path, query, "data", list)
            except ProviderError as error:
                if error.status in (404, 405, 501):
                    return
                raise
            rows = [row for row in get_member(page, "data", list) if get_member(row, "id", str)]
            for row in rows:
                yield row
            if not rows or page.get("has_more") is not True:
                return
            query[self.endpoint.page_cursor] = rows[-1]["id"]

    async def list_model_names(self) -> list[str]:
        """Return the names of the server's models, at most a thousand, or none if the server does not list them."""
        names: list[str] = []
        try:
            async with asyncio.timeout(self._timeout):
                async for row in self.list_objects(self.endpoint.models_path):
                    names += [row["id"]] if len(row["id"]) <= _LONGEST_NAME else []
                    if len(names) >= _MOST_NAMES:
                        break
        except Exception:  # noqa: BLE001 - the names only help in a text, and many servers have no such list
            return []
        return names

    async def read_lines(self, path: str, thing: str, only_first: bool = False) -> list[bytes]:
        """Return the lines of a text, or only the first line.

        Args:
            path: below the address.
            thing: what the text is, for the text of an error.
            only_first: whether to stop after the first line.

        Raises:
            TeacherError: the text is too long (:data:`dsrl_http.bodies.MOST_RESULT_BYTES`).
        """

        def make_error(most: int) -> Exception:
            address = self.endpoint.address
            return TeacherError(
                f"{address} returned more than {format_megabytes(most)} for {thing}; dsrl reads no more"
            )

        lines: list[bytes] = []
        line = bytearray()
        async with self.translate_errors():
            response = await self.client.get(path, cast_to=httpx2.Response, stream=True, stream_cls=None)
            response.stream.most, response.stream.make_error = bodies.MOST_RESULT_BYTES, make_error
            try:
                async for chunk in response.aiter_bytes():
                    head, *tail = chunk.split(b"\n")
                    line += head
                    for following in tail:
                        lines.append(bytes(line))
                        line = bytearray(following)
                    if len(line) > bodies.MOST_ANSWER_BYTES:
                        raise make_error(bodies.MOST_ANSWER_BYTES)
                    if only_first and lines:
                        return lines[:1]
            finally:
                await response.aclose()
        return [*lines, bytes(line)]

    # --- errors -------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def translate_errors(self) -> AsyncIterator[None]:
        """Limit the time of a call, and turn exceptions of the SDK and its transport into those of this class."""
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except Exception as error:
            replacement = self._translate(error)
            if replacement is error:
                raise
            raise replacement from None

    def describe_wrong_path(self, reason: str) -> str:
        """Return the text for a server that does not have the API at this address."""
        return (
            f"there is no such service at {self.endpoint.address} ({reason}). Check the end of the address: some servers "
            "expect /v1 there, others do not"
        )

    def _translate(self, error: Exception) -> Exception:
        name = self.endpoint.name
        if isinstance(error, TimeoutError):
            return TransientError(f"{name} did not answer within {self._timeout:g} s", unknown=True)
        if isinstance(error, self._sdk.APIStatusError):
            # The whole body: the SDK keeps only the error in it, and drops what is beside that.
            return self._make_error(error.response, error.response.content)
        is_of_sdk = isinstance(error, self._sdk.APIError)
        if not (is_of_sdk or is_of_transport(error)):  # the SDKs let some errors of their transports through
            return error
        was_sent = not is_unreachable(error)
        reason = excerpt(describe_cause(error), MESSAGE_LENGTH, self._key)
        if is_of_sdk and not (self._answered_models or self._was_reached or was_sent):
            # Check before APITimeoutError: the transport reports an unreachable server as a timeout.
            return TeacherError(
                f"no server can be reached at {self.endpoint.address} ({reason}); is the address right, and is it running?"
            )
        if isinstance(error, self._sdk.APITimeoutError):
            return TransientError(f"{name} did not answer in time, or closed the connection", unknown=was_sent)
        return TransientError(f"the connection to {name} broke: {reason}", unknown=was_sent)

    def _make_error(self, response: Any, content: Any, status: int = 0, is_bill_unknown: bool = False) -> ProviderError:
        # A body that was cut may have mentioned a bill behind the cut.
        is_bill_unknown = is_bill_unknown or response.stream.was_cut
        return ProviderError(status or response.status_code, content, response.headers, self._key, is_bill_unknown)

    # --- responses ----------------------------------------------------------------------------------------------------

    def _parse_answer(self, response: httpx2.Response, raw: bytes) -> Mapping[str, Any]:
        content = parse_object(raw)
        if content is None:
            if not self._answered_models and raw.lstrip().startswith(b"<"):
                page = excerpt(describe_page(raw.decode("utf-8", "replace")), MESSAGE_LENGTH, self._key)
                raise TeacherError(self.describe_wrong_path(f"it answers with {page}"))
            raise TransientError(f"{self.endpoint.name} returned invalid JSON: {self._quote(raw)}", unknown=True)
        if content.get("error"):
            # Routers report an error with a status of success.
            code = content["error"].get("code") if isinstance(content["error"], Mapping) else None
            status = code if isinstance(code, int) and 400 <= code < 600 else 500
            # With a status of success the work may have been done, unless the error's own code says otherwise.
            raise self._make_error(response, content, status, is_bill_unknown=status >= 500)
        return content

    def _parse_object(self, raw: bytes, member: str, kind: type) -> Mapping[str, Any]:
        content = parse_object(raw)
        if content is None or not isinstance(content.get(member), kind) or content[member] == "":
            name = self.endpoint.name
            raise TransientError(f"{name} returned no JSON object with the member {member!r}: {self._quote(raw)}")
        self._was_reached = True
        return content

    def _quote(self, raw: bytes) -> str:
        return repr(excerpt(raw[:8000].decode("utf-8", "replace"), 80, self._key))
