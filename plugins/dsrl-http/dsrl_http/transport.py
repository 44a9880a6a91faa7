"""The HTTP client below an SDK: which connections it opens, what it sends again, and how much it reads.

Import it only where a provider is called, because it needs the HTTP library of the SDKs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx2

from dsrl import TransientError
from dsrl_http.bodies import MOST_OTHER_BYTES, BoundedBody, format_megabytes


def make_http_client(sdk: Any, server_name: str) -> Any:
    """Return the SDK's aiohttp transport, which takes less CPU time than its default (benchmarks/transport.py).

    It opens as many connections as there are calls, because the ledger limits these. It follows no redirect, so that keys
    and prompts go to no other address. Every body has a size limit before the SDK or anyone else reads it.

    Args:
        sdk: the module of the SDK.
        server_name: for the text of errors.
    """

    def make_error(most: int) -> Exception:
        return TransientError(f"{server_name} returned more than {format_megabytes(most)}", unknown=True)

    async def limit_body(response: httpx2.Response) -> None:
        BoundedBody.limit_response(response, MOST_OTHER_BYTES, make_error if response.is_success else None)

    return sdk.DefaultAioHttpClient(
        # For aiohttp 0 means no limit; None would mean its default of 100.
        limits=httpx2.Limits(max_connections=0, max_keepalive_connections=0),
        follow_redirects=False,
        event_hooks={"response": [limit_body]},
    )


def copy_request(template: httpx2.Request, body: Mapping[str, Any], cookies: Any) -> httpx2.Request:
    """Return a request that differs from another one of the SDK only in its body and cookies."""
    return httpx2.Request(
        "POST",
        template.url,
        headers=template.headers,
        cookies=cookies,
        content=json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(),
        extensions=template.extensions,
    )


async def read_body(response: httpx2.Response) -> bytes:
    """Return the whole body of a response, and close it."""
    try:
        return await response.aread()
    finally:
        await response.aclose()
