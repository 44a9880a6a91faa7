"""How a call to a teacher ended, and what it was billed for: one value, read in one place, for single calls and batches.

A call was answered, or the provider said "too many requests", or it failed. It was billed, or not, or nobody can say.
Plugins are not trusted here: a usage that no provider can mean is an unknown bill.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum

from dsrl.errors import RowRefused, TeacherError, TransientError
from dsrl.teaching.patience import read_retry_after
from dsrl.text import replace_surrogates
from dsrl.types import Completion, Price, Rate, Reply, Usage

#: Tokens that no single call can take.
_MAX_TOKENS = 10**12


class Ending(Enum):
    """How a call ended."""

    ANSWERED = "answered"
    RATE_LIMITED = "rate limited"
    FAILED = "failed"


class Billing(Enum):
    """Whether a call was billed. ``UNKNOWN``: it may have been, and nobody can say how much."""

    NONE = "not billed"
    KNOWN = "billed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Bill:
    """What a call was billed for.

    Attributes:
        billing: whether it was billed.
        usage: billed tokens; zeros if it was not billed, or if the bill is unknown.
        cost: dollars; None if the bill or the price is unknown.
    """

    billing: Billing
    usage: Usage = field(default=Usage())
    cost: float | None = None


_NO_BILL = Bill(Billing.NONE, cost=0.0)
_UNKNOWN_BILL = Bill(Billing.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended, and what it was billed for.

    Attributes:
        ending: answered, rate limited or failed.
        bill: what the call was billed for.
        replies: the replies that can be stored.
        defect: what is wrong with the other replies, as a verb phrase about the plugin; empty if nothing is.
        error: the exception that the call ended with; None if it was answered.
        rate: what is left of the provider's limits; None if it does not say.
        tokens: tokens that the call took, for the limit of tokens a minute; None if that is unknown.
        retry_after: seconds that the provider asks to wait; 0 if it does not.
        seconds: how long the call took; 0 in a batch.
    """

    ending: Ending
    bill: Bill
    replies: tuple[Reply, ...] = ()
    defect: str = ""
    error: BaseException | None = None
    rate: Rate | None = None
    tokens: int | None = 0
    retry_after: float = 0.0
    seconds: float = 0.0


#: A batch ended without a result for the request; it costs nothing.
NOT_ANSWERED = Outcome(Ending.FAILED, _NO_BILL)


def read_outcome(
    result: Completion | BaseException, n: int, price: Price | None, batch: bool = False, seconds: float = 0.0
) -> Outcome:
    """Read how a call ended from the completion or exception that it ended with.

    Args:
        result: what the plugin returned or raised.
        n: how many replies were requested.
        price: of the model; None if it is unknown.
        batch: whether the call was part of a batch.
        seconds: how long the call took.
    """
    bill = _read_bill(result, price, batch)
    if isinstance(result, Completion):
        usage = read_usage(result.usage)
        tokens = usage.prompt_tokens + usage.completion_tokens if usage else None
        replies, defect = _read_replies(result, n)
        return Outcome(Ending.ANSWERED, bill, replies, defect, rate=result.rate, tokens=tokens, seconds=seconds)
    if isinstance(result, TransientError):
        return Outcome(
            Ending.RATE_LIMITED if result.limited or result.retry_after else Ending.FAILED,
            bill,
            error=result,
            rate=result.rate,
            tokens=None,
            retry_after=read_retry_after(result.retry_after),
            seconds=seconds,
        )
    return Outcome(Ending.FAILED, bill, error=result, seconds=seconds)


def read_usage(usage: object) -> Usage | None:
    """Return a usage that a provider can mean; None for anything else."""
    if not isinstance(usage, Usage):
        return None
    for attribute in fields(usage):
        tokens = getattr(usage, attribute.name)
        if type(tokens) is not int or not 0 <= tokens <= _MAX_TOKENS:
            return None
    return usage if usage.cached_tokens + usage.cache_write_tokens <= usage.prompt_tokens else None


def _read_bill(result: Completion | BaseException, price: Price | None, batch: bool) -> Bill:
    if price is not None and not price.worst(1, 1):  # a free teacher need not say what it used
        free = read_usage(getattr(result, "usage", None)) or Usage()
        return Bill(Billing.KNOWN, free, 0.0) if isinstance(result, Completion) or free != Usage() else _NO_BILL
    if isinstance(result, (TransientError, RowRefused, TeacherError)):
        if result.unknown:
            return _UNKNOWN_BILL
        if result.usage is None:
            return _NO_BILL
    elif not isinstance(result, Completion):
        return _UNKNOWN_BILL  # it may have been raised before the call was sent, or after it was billed
    usage = read_usage(result.usage)
    if usage is None or usage == Usage():
        return _UNKNOWN_BILL
    return Bill(Billing.KNOWN, usage, None if price is None else max(price.cost(usage, batch), 0.0))


def _read_replies(completion: Completion, n: int) -> tuple[tuple[Reply, ...], str]:
    """Return the replies that can be stored, and what is wrong with the others; all of them are paid for."""
    count = len(completion.replies)
    defect = "" if 1 <= count <= n else f"gave {count} replies to a request for {n}"
    replies = []
    for reply in completion.replies[:n]:
        if not isinstance(reply, Reply) or not isinstance(reply.text, str):
            defect = "gave a reply that is not a text"
            break
        replies.append(Reply(replace_surrogates(reply.text), reply.finish_reason))
    return tuple(replies), defect
