"""What teachers and samplers behind a network share: one call made, its outcome told in dsrl's words.

Everything that comes back is hostile input: a body may be HTML, half a JSON or of another shape, numbers may be texts.
"""

from __future__ import annotations

import asyncio
import copy
import difflib
import json
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from dsrl.errors import RowRefused, TeacherError, TransientError
from dsrl.keys import excerpt
from dsrl.types import Completion, Message, Rate, Reply, Request, Usage

T = TypeVar("T")
#: What ``TeacherSpec.complete`` may raise.
Failure = RowRefused | TransientError | TeacherError

#: Bytes of an answer at most, unpacked: 128 replies of the longest that models write.
MOST_BYTES = 32 * 2**20
#: Bytes of any other body at most: a list, an object, an error. Of a longer error the beginning is read.
MOST_OTHER_BYTES = 4 * 2**20
#: Bytes of the results of a batch at most: each of 10,000 requests may have a hundred kilobytes.
MOST_RESULT_BYTES = 2**30
#: A longer reply is cut, and counts as cut off by its length limit.
MOST_CHARACTERS = 1_000_000
#: Seconds that the clocks of a provider and of this machine may differ.
SLACK = 600.0
_PAGES = 100
_SAID = 500
_LONGEST_NAME = 200
#: A gateway gave up waiting for the provider behind it, which may have done its work (524: Cloudflare's).
_GATEWAY_TIMEOUTS = (408, 504, 524)
_CONTEXT = re.compile(
    r"context[ _](?:length|window|size|limit)|maximum context|prompt is too long|input (?:is )?too long|max_model_len"
    r"|too many (?:input )?tokens|string_above_max_length|reduce the length of the (?:messages|prompt)",
    re.IGNORECASE,
)
_FILTER = re.compile(
    r"content[ _-](?:filter|policy|management)|ResponsibleAI|content_policy|moderation|flagged|safety system",
    re.IGNORECASE,
)
# By codes alone where they are given: the texts of mere rate limits speak of billing too.
_MONEY_CODES = re.compile(r"insufficient_quota|billing_")
_MONEY = re.compile(r"credit balance|insufficient (?:credit|fund|balance)", re.IGNORECASE)
#: A request's number in its batch, behind the name that the batch may have of its own.
_CUSTOM_ID = re.compile(r"(?:\w+-)?(\d{1,9})", re.ASCII)
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


@dataclass(frozen=True, slots=True)
class Service:
    """A provider as its users know it; for the text of errors.

    Attributes:
        name: e.g. ``OpenAI``, or the address of a server.
        variable: environment variable that holds the key; may be empty for a server that needs none.
        page: where a key is to be had; may be empty.
    """

    name: str
    variable: str
    page: str


class ProviderError(Exception):
    """A status that is no success, with what the provider said; for a plugin to translate by :meth:`Remote.failure`.

    Attributes:
        status: of HTTP.
        message: the provider's words, one line, without keys.
        codes: the error's own codes and types, joined.
        param: the part of the request that it names; may be empty.
        retry_after: seconds to wait; None where it did not say.
        rate: what is left of the limits.
        location: the address that it redirects to; may be empty.
        body: what it sent, where that is an object.
        unknown: whether the request may have been billed where the body does not say for what.
    """

    def __init__(
        self, status: int, said: Any, headers: Mapping[str, str] | None = None, key: str = "", unknown: bool = False
    ) -> None:
        if isinstance(said, (str, bytes)):
            text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
            said = parsed(text) or {"message": _title(text)}
        self.message, self.codes, self.param = _said(said, key)
        super().__init__(f"{status} {self.message}")
        headers = {} if headers is None else headers
        self.status, self.retry_after, self.rate = status, retry_after(headers), rate(headers)
        self.location = _without_secrets(headers.get("location", ""), key)
        self.body: Mapping[str, Any] = said if isinstance(said, Mapping) else {}
        self.unknown = unknown


@dataclass(frozen=True, slots=True)
class Answer:
    """A parsed success.

    Attributes:
        body: a JSON object; nothing in it is checked.
        rate: what is left of the limits.
    """

    body: Mapping[str, Any]
    rate: Rate | None


class Remote:
    """One provider behind its official SDK, whose own retries are off: the ledger repeats.

    Args:
        service: for texts.
        sdk: the SDK's module; its exceptions carry the same names with OpenAI and Anthropic.
        connect: makes the SDK's asynchronous client on a transport. Called on the event loop, when it is first needed.
        key: hidden wherever the provider echoes it.
        address: the base URL, for texts.
        timeout: seconds for one call from its start to the last byte.
        read_usage: reads the member ``usage`` of a body; None where a part of it cannot be read.
    """

    def __init__(
        self,
        service: Service,
        sdk: Any,
        connect: Callable[[Any], Any],
        key: str,
        address: str,
        timeout: float,
        read_usage: Callable[[Any], Usage | None],
    ) -> None:
        self._read_usage = read_usage
        self._service, self._sdk, self._connect = service, sdk, connect
        self._key, self._address, self._timeout = key, address, timeout
        self._client: Any = None
        self._http: Any = None
        # By path and model: a request of the SDK that was answered.
        self._forms: dict[tuple[str, str], Any] = {}
        self._answered: set[str] = set()
        self._reached = False

    @property
    def client(self) -> Any:
        """The SDK's client."""
        if self._client is None:
            self._http = _transport(self._sdk, self._bound)
            self._client = self._connect(self._http)
        return self._client

    async def aclose(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            client, self._client = self._client, None
            self._forms.clear()
            await client.close()

    async def post(self, path: str, body: Mapping[str, Any], model: str) -> Answer:
        """Send a request and read its JSON.

        By the SDK's general ``post``, for its typed methods take as long again, and their types are promised, not checked.
        When that was answered, the same request goes out with other contents, on the SDK's transport: to make each anew
        takes the SDK half of a call's CPU time (benchmarks/transport.py).

        Raises:
            ProviderError: a status that is no success.
            TransientError, TeacherError: no status came at all, or a body that cannot be read.
        """
        return await self.told(self._posted(path, body, model))

    async def answer(
        self,
        path: str,
        body: Callable[[], Mapping[str, Any]],
        model: str,
        learn: Callable[[ProviderError, Mapping[str, Any]], bool],
    ) -> Answer:
        """Send a request, anew as long as its refusals teach how the model wants to be asked.

        Args:
            path, model: as :meth:`post`.
            body: makes what is sent, as it is known by then.
            learn: given a refusal and what was refused, whether to ask again.

        Raises:
            TransientError, TeacherError, RowRefused: as :meth:`failure` says.
        """
        while True:
            sent = body()
            try:
                return await self.post(path, sent, model)
            except ProviderError as error:
                if not learn(error, sent):
                    raise await self.failure(error, model) from None
                usage, unknown = self._bill(error)
                if usage is not None or unknown:
                    # A call is paid for; the next one needs money of its own.
                    said = f"{self._service.name} does not take a setting: {error.message}"
                    raise TransientError(said, usage=usage, unknown=unknown) from None

    async def told(self, call: Awaitable[T]) -> T:
        """Await a call of the SDK; its exceptions become those of :meth:`post`."""
        try:
            async with asyncio.timeout(self._timeout):
                return await call
        except (ProviderError, TransientError):
            raise
        except TimeoutError:
            said = f"{self._service.name} did not answer within {self._timeout:g} s"
            raise TransientError(said, unknown=True) from None
        except self._sdk.APIStatusError as error:
            # The body as it came: the SDK gives away what stands beside the error in it.
            raise self._refusal(error.response, error.response.content) from None
        except self._sdk.APIError as error:
            # Before its time-outs are: the transport counts a server that is not there among them.
            sent = not _unreachable(error)
            if not (self._answered or self._reached) and not sent:
                raise TeacherError(
                    f"no server can be reached at {self._address} ({self._why(error)}); is the address right, "
                    "and is it running?"
                ) from None
            if isinstance(error, self._sdk.APITimeoutError):
                raise TransientError(f"{self._service.name} did not answer in time, or hung up", unknown=sent) from None
            raise self._broken(error, sent) from None
        except Exception as error:
            # The SDK's transports let some faults of theirs through as they are.
            if not _of_transport(error):
                raise
            raise self._broken(error, not _unreachable(error)) from None

    async def failure(self, error: ProviderError, model: str, answered: bool | None = None) -> Failure:
        """Say what a status means: the exception to raise, of those that ``TeacherSpec.complete`` may raise.

        Args:
            answered: whether requests with the same settings have been answered; None: whether :meth:`post` had answers.
        """
        name, said, status = self._service.name, error.message, error.status
        usage, unknown = self._bill(error)
        if 300 <= status < 400:
            where = f" to {error.location}" if error.location else ""
            return TeacherError(
                f"{self._address} redirects{where} ({status}). Requests and keys are not sent on to another address; "
                "if that is the right one, give it with the option base_url",
                usage,
                unknown,
            )
        if status == 402 or (400 <= status < 500 and (_MONEY_CODES.search(error.codes) or _MONEY.search(said))):
            text = f"{name} asks for money first: {said}. Look after the account's billing, then go on."
            return TeacherError(text, usage, unknown)
        if reason := row_fault(error):
            return RowRefused(reason, said, usage, unknown)
        if status in (401, 403):
            return TeacherError(self._bad_key(error), usage, unknown)
        if status in (404, 405):
            return TeacherError(await self._not_found(error, model), usage, unknown)
        if status in (408, 409, 425, 429) or status >= 500:
            return TransientError(
                f"{name} answered {status}: {said}",
                error.retry_after,
                error.rate,
                usage,
                limited=status in (429, 529),
                unknown=unknown,
            )
        if model in self._answered if answered is None else answered:
            # The settings are good, for they have been answered before: it is this request.
            return RowRefused("bad_request", said, usage, unknown)
        return TeacherError(f"{name} refuses the request ({status}): {said}", usage, unknown)

    # --- batches ------------------------------------------------------------------------------------------------------

    async def asked(self, call: Awaitable[T], model: str = "", thing: str = "") -> T:
        """Await a call of the SDK other than for an answer.

        Args:
            call: of the SDK.
            model: that it is about, if it is about one.
            thing: what it is about and the provider may not know, for texts.

        Raises:
            TransientError, TeacherError: as :meth:`failure` says.
        """
        try:
            return await self.told(call)
        except ProviderError as error:
            if error.status in (400, 404) and thing:
                raise TeacherError(f"{self._address} knows nothing of {thing}: {error.message}") from None
            failure = await self.failure(error, model)
            raise (TeacherError(str(failure)) if isinstance(failure, RowRefused) else failure) from None

    async def cancelled(self, call: Awaitable[Any], batch: str) -> None:
        """Await a call that cancels a batch; nothing happens where it is over already.

        Raises:
            TransientError, TeacherError: as :meth:`asked`.
        """

        async def unless_over() -> None:
            try:
                await self.told(call)
            except ProviderError as error:
                if error.status not in (400, 409):  # these say that it is over already
                    raise

        await self.asked(unless_over(), thing=f"batch {batch}")

    async def results(
        self,
        lines: Iterable[bytes],
        read: Callable[[Mapping[str, Any]], Completion | None],
        model: str,
        adapt: Callable[[ProviderError], bool],
    ) -> dict[int, Completion | Exception]:
        """Read the results of a batch, a JSON object a line; give what calls of their own would have given or raised.

        Args:
            lines: in any order. What cannot be read is left out.
            read: reads one of them; may raise ``ProviderError`` and what ``TeacherSpec.complete`` may; None: unanswered.
            model: of the requests.
            adapt: learns from what was refused; says whether it is worth asking again otherwise.

        Raises:
            TransientError: not one can be read, so it is another text (a page of HTML) under a status of success.
        """
        results: dict[int, Completion | Exception] = {}
        failed: dict[int, ProviderError] = {}
        filled = known = 0
        for line in filter(bytes.strip, lines):
            filled += 1
            row = parsed(line) or {}
            match = _CUSTOM_ID.fullmatch(part(row, "custom_id", str))
            if match is None:
                continue
            known += 1
            try:
                if (completion := read(row)) is not None:
                    results[int(match[1])] = completion
            except ProviderError as error:
                failed[int(match[1])] = error
            except (RowRefused, TransientError, TeacherError) as failure:
                results[int(match[1])] = failure
        if filled and not known:
            raise TransientError(f"{self._service.name} sent what are no results of a batch")
        # Of this batch alone: other calls may have had other settings, and thousands of rows would be dropped.
        answered = any(isinstance(result, Completion) for result in results.values())
        told: dict[str, Failure] = {}  # to say what is wrong may take a call
        for number, status in failed.items():
            said = f"{status.codes} {status}"
            if said not in told and adapt(status):
                told[said] = TransientError(f"{self._service.name} does not take a setting: {status.message}")
            elif said not in told:
                told[said] = await self.failure(status, model, answered)
            results[number] = fault = copy.copy(told[said])
            fault.usage, fault.unknown = self._bill(status)
        return results

    async def object(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        model: str = "",
        thing: str = "",
        file: tuple[str, bytes] | None = None,
    ) -> Mapping[str, Any]:
        """Get an object that has an ``id``, or make one where there is a ``body``; nothing else in it is checked.

        Args:
            path: below the address.
            body: sent as JSON, or as a form where there is a ``file``.
            model, thing: as :meth:`asked`.
            file: its name and content.

        Raises:
            TransientError, TeacherError: as :meth:`asked`; or what came is none.
        """
        return await self.asked(self._object(path, "id", str, body, file=file), model, thing)

    async def listed(self, path: str, cursor: str) -> AsyncIterator[Mapping[str, Any]]:
        """Go through a list that comes in pages; an empty one where a server has no such list.

        Raises:
            TransientError, TeacherError: as :meth:`asked`.
        """

        async def page() -> Mapping[str, Any]:
            try:
                return await self.told(self._object(path, "data", list, query=query))
            except ProviderError as error:
                if error.status in (404, 405, 501):
                    return {}
                raise

        query: dict[str, Any] = {"limit": 100}
        for _ in range(_PAGES):
            found = await self.asked(page())
            rows = [row for row in part(found, "data", list) if part(row, "id", str)]
            for row in rows:
                yield row
            if not rows or found.get("has_more") is not True:
                return
            query[cursor] = rows[-1]["id"]

    async def lines(self, path: str, thing: str, first: bool = False) -> list[bytes]:
        """Get the lines of a text, or only the first of them.

        Raises:
            TransientError, TeacherError: as :meth:`asked`; or the text is too long (:data:`MOST_RESULT_BYTES`).
        """
        return await self.asked(self._lines(path, thing, first), thing=thing)

    async def _object(
        self,
        path: str,
        member: str,
        kind: type,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        file: tuple[str, bytes] | None = None,
    ) -> Mapping[str, Any]:
        # As it is: the SDKs' typed methods promise what they read, and check nothing.
        import httpx2

        options: dict[str, Any] = {"params": dict(query)} if query else {}
        if body is None:
            response = await self.client.get(path, cast_to=httpx2.Response, options=options)
        elif file is None:
            response = await self.client.post(path, cast_to=httpx2.Response, body=body)
        else:
            options = {"headers": {"Content-Type": "multipart/form-data"}}
            response = await self.client.post(
                path, cast_to=httpx2.Response, body=body, files={"file": file}, options=options
            )
        read = parsed(response.content)
        if read is None or not isinstance(read.get(member), kind) or read[member] == "":
            start = self._beginning(response.content)
            raise TransientError(f"{self._service.name} sent what has no {member!r}: {start!r}")
        self._reached = True
        return read

    async def _lines(self, path: str, thing: str, first: bool) -> list[bytes]:
        import httpx2

        def too_long(most: int) -> Exception:
            return TeacherError(f"{self._address} sent more than {_megabytes(most)} as {thing}; that is not read")

        response = await self.client.get(path, cast_to=httpx2.Response, stream=True, stream_cls=None)
        response.stream.most, response.stream.too_long = MOST_RESULT_BYTES, too_long
        lines: list[bytes] = []
        line = bytearray()
        try:
            async for chunk in response.aiter_bytes():
                head, *tail = chunk.split(b"\n")
                line += head
                for following in tail:
                    lines.append(bytes(line))
                    line = bytearray(following)
                if len(line) > MOST_BYTES:
                    raise too_long(MOST_BYTES)
                if first and lines:
                    return lines[:1]
        finally:
            await response.aclose()
        return [*lines, bytes(line)]

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _posted(self, path: str, body: Mapping[str, Any], model: str) -> Answer:
        response = await self._sent(path, body, model)
        response.stream.most = MOST_BYTES
        raw = await self._whole(response)
        read = parsed(raw)
        if read is None:
            if not self._answered and raw.lstrip().startswith(b"<"):
                page = excerpt(_title(raw.decode("utf-8", "replace")), _SAID, self._key)
                raise TeacherError(
                    f"there is no such service at {self._address}, which answers with {page}; does the address end as the "
                    "server wants it, e.g. in /v1?"
                )
            start = self._beginning(raw)
            raise TransientError(f"{self._service.name} sent what is no JSON object: {start!r}", unknown=True)
        if read.get("error"):
            # Routers say so under a status of success.
            inner = read["error"]
            code = inner.get("code") if isinstance(inner, Mapping) else None
            status = code if isinstance(code, int) and 400 <= code < 600 else 500
            # Under a status of success the work may have been done, unless the error's own code says otherwise.
            raise self._refusal(response, read, status, unknown=status >= 500)
        self._answered.add(model)
        if (path, model) not in self._forms:
            self._forms[path, model] = response.request
            for own in ("Content-Length", "Cookie"):
                response.request.headers.pop(own, None)
        return Answer(read, rate(response.headers))

    async def _sent(self, path: str, body: Mapping[str, Any], model: str) -> Any:
        # Imported by the SDKs anyway. The body is read by us, not there, since only so it can be too long.
        import httpx2

        client = self.client
        form = self._forms.get((path, model))
        if form is None:
            return await client.post(path, cast_to=httpx2.Response, body=body, stream=True, stream_cls=None)
        request = httpx2.Request(
            "POST",
            form.url,
            headers=form.headers,
            cookies=self._http.cookies,
            content=json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(),
            extensions=form.extensions,
        )
        response = await self._http.send(request, stream=True)
        if response.is_success:
            return response
        raise self._refusal(response, await self._whole(response))

    async def _bound(self, response: Any) -> None:
        """Put a bound on the body of any response, before the SDK or anyone else reads it."""
        from dsrl_http.bodies import BoundedBody

        def too_long(most: int) -> Exception:
            return TransientError(f"{self._service.name} sent more than {_megabytes(most)}", unknown=True)

        BoundedBody.of(response, MOST_OTHER_BYTES, too_long if response.is_success else None)

    async def _whole(self, response: Any) -> bytes:
        try:
            return bytes(await response.aread())
        finally:
            await response.aclose()

    def _refusal(self, response: Any, said: Any, status: int = 0, unknown: bool = False) -> ProviderError:
        """Make the error of a response that was read; one whose body was cut may have told of a bill."""
        unknown = unknown or response.stream.was_cut
        return ProviderError(status or response.status_code, said, response.headers, self._key, unknown)

    def _bill(self, error: ProviderError) -> tuple[Usage | None, bool]:
        """Give what a failed call was billed for, and whether it may have been and nobody can say for how much."""
        for holder in (error.body, error.body.get("error")):
            if isinstance(holder, Mapping) and holder.get("usage") is not None:
                usage = self._read_usage(holder["usage"])
                if usage != Usage():
                    return usage, usage is None
        return None, error.unknown or error.status in _GATEWAY_TIMEOUTS

    def _beginning(self, raw: bytes) -> str:
        return excerpt(raw[:8000].decode("utf-8", "replace"), 80, self._key)

    def _bad_key(self, error: ProviderError) -> str:
        service = self._service
        if not service.variable:
            return (
                f"{service.name} wants a key ({error.status}: {error.message}); name the environment variable that holds it "
                "with the option api_key_env"
            )
        get = f" A key is to be had at {service.page}." if service.page else ""
        return f"{service.name} does not take the key in {service.variable} ({error.status}: {error.message}).{get}"

    async def _not_found(self, error: ProviderError, model: str) -> str:
        names = await self._models()
        if model in (names or [model]) and "model" not in f"{error.codes} {error.message}".lower():
            return (
                f"there is no such service at {self._address} ({error.status}: {error.message}); "
                "does the address end as the server wants it, e.g. in /v1?"
            )
        near = difflib.get_close_matches(model, names, n=3, cutoff=0.4) or names[:5]
        hint = f"; there is {', '.join(near)}" if near and model not in names else ""
        return f"{self._service.name} has no model {model!r} ({error.message}){hint}"

    async def _models(self) -> list[str]:
        async def listed() -> list[str]:
            names = []
            async for model in self.client.models.list():
                names += [name for name in (str(model.id),) if len(name) <= _LONGEST_NAME]
                if len(names) >= 1000:
                    break
            return names

        try:
            return await self.told(listed())
        except Exception:  # noqa: BLE001 - a help for a text; many servers have no such list
            return []

    def _broken(self, error: BaseException, sent: bool) -> TransientError:
        return TransientError(f"the connection to {self._service.name} broke: {self._why(error)}", unknown=sent)

    def _why(self, error: BaseException) -> str:
        chain = [str(e) or type(e).__name__ for e in _chain(error)]
        return excerpt(chain[min(1, len(chain) - 1)], _SAID, self._key)


def _transport(sdk: Any, bound: Callable[[Any], Awaitable[None]]) -> Any:
    """Make the SDK's aiohttp transport, which takes less CPU time than its own (benchmarks/transport.py).

    It opens as many connections as are asked for: the ledger limits what is under way. It follows no redirect: what
    belongs to one address, keys and prompts, goes to no other.

    Args:
        sdk: its module.
        bound: is given every response before its body is read.
    """
    import httpx2  # by the SDKs anyway

    return sdk.DefaultAioHttpClient(
        # 0 is aiohttp's word for no limit; None would leave it at its own hundred.
        limits=httpx2.Limits(max_connections=0, max_keepalive_connections=0),
        follow_redirects=False,
        event_hooks={"response": [bound]},
    )


def forget_environment(client: Any, headers: Mapping[str, str] | None = None) -> Any:
    """Take out of an SDK's client what it read from the environment and would send along; give the client.

    The SDKs read headers, organization, project and further credentials of their own provider from the environment, whatever
    the address is. They have no argument that says not to.

    Args:
        client: just made.
        headers: that it is to send all the same.

    Raises:
        TeacherError: this version of the SDK keeps them elsewhere, so they cannot be taken out.
    """
    if not isinstance(getattr(client, "_custom_headers", None), Mapping):
        raise TeacherError(
            f"this version of the package {type(client).__module__.partition('.')[0]!r} cannot be kept from sending "
            "headers of the environment to another server; install another version"
        )
    client._custom_headers = dict(headers or {})
    for name in ("organization", "project", "admin_api_key", "auth_token", "webhook_secret", "webhook_key"):
        if getattr(client, name, None) is not None:
            setattr(client, name, None)
    return client


def everything(model: str) -> Request:
    """Make a request with every setting that one can have; who reads the results of a batch does not know what was sent."""
    return Request("write", model, (Message("user", ""),), 1.0, 1, n=2, top_p=0.5, schema={"type": "object"})


def row_fault(error: ProviderError) -> str:
    """Name what is wrong with this one request: ``context_too_long``, ``content_filter``; empty if it is not that."""
    if error.status not in (400, 403, 413, 422):
        return ""
    everything = f"{error.codes} {error.message}"
    if error.status == 413 or _CONTEXT.search(everything):
        return "context_too_long"
    return "content_filter" if _FILTER.search(everything) or "invalid_prompt" in error.codes else ""


def reply(text: str, finish_reason: str) -> Reply:
    """Make a reply; an endless one is cut."""
    if len(text) > MOST_CHARACTERS:
        return Reply(text[:MOST_CHARACTERS], "length")
    return Reply(text, finish_reason)


def parsed(raw: bytes | str) -> Mapping[str, Any] | None:
    """Read a JSON object; None where it is none."""
    try:
        read = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def count(holder: Any, *path: str) -> int:
    """Read a number of tokens out of nested objects; 0 where there is none that can be one."""
    for name in path:
        holder = holder.get(name) if isinstance(holder, Mapping) else None
    if isinstance(holder, bool) or not isinstance(holder, (int, float)) or not 0 <= holder < 1e12:
        return 0
    return int(holder)


def tokens(holder: Any, *path: str, default: int | None = None) -> int:
    """Read a number of tokens that is billed, out of nested objects.

    Args:
        holder: the outermost object.
        path: names of the members, from the outside.
        default: where the number, or an object around it, is not there or null.

    Raises:
        ValueError: it is not there and there is no default, or what is there is no number of tokens.
    """
    value = holder
    for name in path:
        if value is None and default is not None:
            return default
        if not isinstance(value, Mapping):
            raise ValueError(f"no object that has {name!r}")
        value = value.get(name)
    if value is None and default is not None:
        return default
    if isinstance(value, str):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e12:
        raise ValueError(f"no number of tokens in {path[-1]!r}")
    return math.ceil(value)


def part(holder: Any, name: str, kind: type) -> Any:
    """Read a member of the wanted type; that type's empty value where there is none."""
    value = holder.get(name) if isinstance(holder, Mapping) else None
    return value if isinstance(value, kind) else kind()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read how many seconds a provider asks to wait (``retry-after-ms``; ``Retry-After``, RFC 9110 10.2.3)."""
    milliseconds = headers.get("retry-after-ms")
    if milliseconds is not None and (ms := _number(milliseconds)) is not None:
        return ms / 1000
    text = headers.get("retry-after")
    if text is None:
        return None
    if (number := _number(text)) is not None:
        return number
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def rate(headers: Mapping[str, str]) -> Rate | None:
    """Read what is left of the limits: ``x-ratelimit-*`` as OpenAI writes them, ``anthropic-ratelimit-*``."""
    for remaining, reset in (
        ("x-ratelimit-remaining-{}", "x-ratelimit-reset-{}"),
        ("anthropic-ratelimit-{}-remaining", "anthropic-ratelimit-{}-reset"),
    ):
        found = Rate(
            _left(headers.get(remaining.format("requests"))),
            _left(headers.get(remaining.format("tokens"))),
            seconds(headers.get(reset.format("requests"))),
            seconds(headers.get(reset.format("tokens"))),
        )
        if found != Rate():
            return found
    return None


def seconds(text: str | None) -> float | None:
    """Read a span of time: ``1m30s``, ``20ms``, ``7.5``, or a time of day of RFC 3339 from now; None if it is none."""
    if not text:
        return None
    if (number := _number(text)) is not None:
        return number
    match = _DURATION.fullmatch(text.strip())
    if match and any(match.groups()):
        values = (float(group or 0) for group in match.groups())
        return sum(value * unit for value, unit in zip(values, (86400, 3600, 60, 1, 0.001), strict=True))
    try:
        return max(datetime.fromisoformat(text.strip()).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < 1e9 else None


def _left(text: str | None) -> int | None:
    number = _number(text) if text else None
    return None if number is None else int(number)


def _said(body: Any, key: str) -> tuple[str, str, str]:
    """Give message, codes and the parameter named, out of any body of an error."""
    codes, param, message = [], "", ""
    # The message of the innermost object counts: routers wrap that of the provider behind them.
    layer: Any = body
    for _ in range(4):
        if isinstance(layer, str):
            message = layer
        if not isinstance(layer, Mapping):
            break
        codes += [str(layer[name]) for name in ("type", "code", "status") if isinstance(layer.get(name), (str, int))]
        param = layer["param"] if isinstance(layer.get("param"), str) else param
        detail = layer.get("detail")
        words = layer.get("message") or (detail if isinstance(detail, str) else detail and _as_text(detail))
        message = words if isinstance(words, str) else message
        layer = layer.get("error") or layer.get("innererror") or None
    message = excerpt(message, _SAID, key)
    return (message or "no reason given"), " ".join(codes)[:_SAID], param[:_SAID]


def _as_text(value: Any) -> str:
    try:
        return json.dumps(value, default=str)
    except (ValueError, RecursionError):
        return ""


def _title(text: str) -> str:
    if "<" not in text[:200]:
        return text
    page = text[:20_000]
    start = page.lower().find("<title")
    begin = page.find(">", start) + 1
    end = page.lower().find("</title>", begin)
    title = " ".join(page[begin:end].split()) if start >= 0 and begin and end >= 0 else ""
    return f"a page of HTML ({title})" if title else "a page of HTML"


def _without_secrets(address: str, key: str) -> str:
    """Give an address without what may hold a secret: user, password, query."""
    try:
        split = urlsplit(address)
        host = f"{split.hostname}:{split.port}" if split.port else split.hostname or ""
    except ValueError:
        return ""
    return excerpt(urlunsplit((split.scheme, host, split.path, "", "")), _SAID, key)


def _megabytes(most: int) -> str:
    return f"{most // 2**20} MB"


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__ or following.__context__
    return chain


def _unreachable(error: BaseException) -> bool:
    # By the names of the innermost: the SDKs' transports map them differently, a server that hangs up among them.
    names = {"ClientConnectorError", "ClientConnectorDNSError", "ConnectionRefusedError", "gaierror"}
    names |= {"ClientConnectorSSLError", "ClientConnectorCertificateError", "SSLCertVerificationError"}
    return any(type(e).__name__ in names for e in _chain(error))


def _of_transport(error: BaseException) -> bool:
    modules = {base.__module__.partition(".")[0] for base in type(error).__mro__}
    return isinstance(error, (OSError, EOFError)) or bool(modules & {"aiohttp", "httpx", "httpx2", "httpcore2"})
