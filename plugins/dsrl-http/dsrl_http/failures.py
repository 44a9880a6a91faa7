"""What a provider's refusal means for a run, in words that the user can act on."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from dsrl import RowRefused, TeacherError, TransientError
from dsrl_http.errors import Failure, ProviderError, get_row_fault, read_bill

if TYPE_CHECKING:
    from dsrl_http.connection import Connection
    from dsrl_http.endpoint import Endpoint

# Only the codes, where there are any: the messages of ordinary rate limits mention billing too.
_MONEY_CODES = re.compile(r"insufficient_quota|billing_")
_MONEY = re.compile(r"credit balance|insufficient (?:credit|fund|balance)", re.IGNORECASE)


async def explain(
    error: ProviderError, connection: Connection, model: str, was_answered: bool | None = None
) -> Failure:
    """Return the exception to raise for a refusal, one of those that ``TeacherSpec.complete`` may raise.

    Args:
        error: the refusal.
        connection: over which it came.
        model: that the request was for; may be empty.
        was_answered: whether requests with the same settings were answered. If None, the connection is asked.
    """
    endpoint, status = connection.endpoint, error.status
    bill = read_bill(error, endpoint.read_usage)
    if 300 <= status < 400:
        return TeacherError(_describe_redirect(endpoint, error), *bill)
    is_about_money = _MONEY_CODES.search(error.codes) or _MONEY.search(error.message)
    if status == 402 or (400 <= status < 500 and is_about_money):
        return TeacherError(
            f"{endpoint.name} requires a payment first: {error.message}. Check the account's billing, then resume the run.",
            *bill,
        )
    if reason := get_row_fault(error):
        return RowRefused(reason, error.message, *bill)
    if status in (401, 403):
        return TeacherError(_describe_bad_key(endpoint, error), *bill)
    if status in (404, 405):
        return TeacherError(await _describe_not_found(error, connection, model), *bill)
    if status in (408, 409, 425, 429) or status >= 500:
        return TransientError(
            f"{endpoint.name} answered {status}: {error.message}",
            error.retry_after,
            error.rate,
            bill.usage,
            limited=status in (429, 529),
            unknown=bill.unknown,
        )
    if connection.has_answered(model) if was_answered is None else was_answered:
        # The settings are good, because they were accepted before. So the fault is in this one request.
        return RowRefused("bad_request", error.message, *bill)
    return TeacherError(f"{endpoint.name} rejected the request ({status}): {error.message}", *bill)


def _describe_redirect(endpoint: Endpoint, error: ProviderError) -> str:
    target = f" to {error.location}" if error.location else ""
    return (
        f"{endpoint.address} redirects{target} ({error.status}). dsrl sends no request and no key to another address. "
        "If that address is the right one, set it with the option base_url"
    )


def _describe_bad_key(endpoint: Endpoint, error: ProviderError) -> str:
    reason = f"({error.status}: {error.message})"
    if not endpoint.key_variable:
        return (
            f"{endpoint.name} requires a key {reason}. Set the option api_key_env to the name of the environment variable "
            "that holds the key"
        )
    hint = f" You get a key at {endpoint.key_page}." if endpoint.key_page else ""
    return f"{endpoint.name} rejected the key in {endpoint.key_variable} {reason}.{hint}"


async def _describe_not_found(error: ProviderError, connection: Connection, model: str) -> str:
    names = await connection.list_model_names()
    if model in (names or [model]) and "model" not in f"{error.codes} {error.message}".lower():
        return connection.describe_wrong_path(f"{error.status}: {error.message}")
    similar = difflib.get_close_matches(model, names, n=3, cutoff=0.4) or names[:5]
    hint = f"; available models include {', '.join(similar)}" if similar and model not in names else ""
    return f"{connection.endpoint.name} has no model {model!r} ({error.message}){hint}"
