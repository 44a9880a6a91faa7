"""A provider's refusal: its status, its message, and what it says about the bill.

The body of an error is hostile input: it may be HTML, half of a JSON text, or JSON of another shape.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from dsrl import RowRefused, TeacherError, TransientError, Usage
from dsrl.keys import excerpt
from dsrl_http.headers import read_rate, read_retry_after
from dsrl_http.json_values import parse_object

#: What ``TeacherSpec.complete`` may raise.
Failure = RowRefused | TransientError | TeacherError

#: Maximum characters of a provider's message in our own texts.
MESSAGE_LENGTH = 500
#: A gateway gave up waiting for the provider behind it, which may have done its work (524 is Cloudflare's).
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


class ProviderError(Exception):
    """A response whose status is not a success. :func:`dsrl_http.failures.explain` says what it means.

    Args:
        status: the HTTP status.
        content: the body: bytes, a text, or parsed JSON.
        headers: of the response.
        key: is hidden where the provider repeats it.
        is_bill_unknown: whether the request may have been billed, even if the body does not mention a bill.

    Attributes:
        status, is_bill_unknown: as above.
        message: the provider's message on one line, without keys.
        codes: the codes and types of the error, joined by spaces.
        param: the part of the request that the error names; may be empty.
        retry_after: seconds to wait; None if the provider did not say.
        rate: what remains of the rate limits; None if the provider did not say.
        location: the address of a redirect; may be empty.
        body: the parsed body; empty if it is not a JSON object.
    """

    def __init__(
        self,
        status: int,
        content: Any,
        headers: Mapping[str, str] | None = None,
        key: str = "",
        is_bill_unknown: bool = False,
    ) -> None:
        if isinstance(content, (str, bytes)):
            text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
            content = parse_object(text) or {"message": describe_page(text)}
        self.message, self.codes, self.param = _read_error(content, key)
        super().__init__(f"{status} {self.message}")
        headers = {} if headers is None else headers
        self.status, self.retry_after, self.rate = status, read_retry_after(headers), read_rate(headers)
        self.location = _strip_secrets(headers.get("location", ""), key)
        self.body: Mapping[str, Any] = content if isinstance(content, Mapping) else {}
        self.is_bill_unknown = is_bill_unknown


class Bill(NamedTuple):
    """What a failed call was billed for; ``unknown``: it may have been billed, and nobody can say how much."""

    usage: Usage | None
    unknown: bool


def read_bill(error: ProviderError, read_usage: Callable[[Any], Usage | None]) -> Bill:
    """Return what a failed call was billed for.

    Args:
        error: the provider's refusal.
        read_usage: reads the member ``usage`` of a body; returns None if a part of it cannot be read.
    """
    for holder in (error.body, error.body.get("error")):
        if isinstance(holder, Mapping) and holder.get("usage") is not None:
            usage = read_usage(holder["usage"])
            if usage != Usage():
                return Bill(usage, usage is None)
    return Bill(None, error.is_bill_unknown or error.status in _GATEWAY_TIMEOUTS)


def get_row_fault(error: ProviderError) -> str:
    """Return what is wrong with this one request: ``context_too_long``, ``content_filter``, or empty for any other error."""
    if error.status not in (400, 403, 413, 422):
        return ""
    text = f"{error.codes} {error.message}"
    if error.status == 413 or _CONTEXT.search(text):
        return "context_too_long"
    return "content_filter" if _FILTER.search(text) or "invalid_prompt" in error.codes else ""


def describe_page(text: str) -> str:
    """Return a text as it is, but for a page of HTML its title."""
    if "<" not in text[:200]:
        return text
    page = text[:20_000]
    start = page.lower().find("<title")
    begin = page.find(">", start) + 1
    end = page.lower().find("</title>", begin)
    title = " ".join(page[begin:end].split()) if start >= 0 and begin and end >= 0 else ""
    return f"a page of HTML ({title})" if title else "a page of HTML"


def _read_error(body: Any, key: str) -> tuple[str, str, str]:
    """Return message, codes and parameter from any body of an error."""
    codes, param, message = [], "", ""
    # The message of the innermost object counts, because routers wrap the error of the provider behind them.
    layer: Any = body
    for _ in range(4):
        if isinstance(layer, str):
            message = layer
        if not isinstance(layer, Mapping):
            break
        codes += [str(layer[name]) for name in ("type", "code", "status") if isinstance(layer.get(name), (str, int))]
        param = layer["param"] if isinstance(layer.get("param"), str) else param
        detail = layer.get("detail")
        text = layer.get("message") or (detail if isinstance(detail, str) else detail and _dump(detail))
        message = text if isinstance(text, str) else message
        layer = layer.get("error") or layer.get("innererror") or None
    message = excerpt(message, MESSAGE_LENGTH, key)
    return (message or "no reason given"), " ".join(codes)[:MESSAGE_LENGTH], param[:MESSAGE_LENGTH]


def _dump(value: Any) -> str:
    try:
        return json.dumps(value, default=str)
    except (ValueError, RecursionError):
        return ""


def _strip_secrets(address: str, key: str) -> str:
    """Return an address without the parts that may hold a secret: user, password, query."""
    try:
        split = urlsplit(address)
        host = f"{split.hostname}:{split.port}" if split.port else split.hostname or ""
    except ValueError:
        return ""
    return excerpt(urlunsplit((split.scheme, host, split.path, "", "")), MESSAGE_LENGTH, key)
