"""What a call to a teacher was billed for, decided in one place from how the call ended.

A call ends in one of five ways: it was answered, the provider said "too many", it failed and cost nothing, it failed and was
billed, or nobody can say what it was billed. Plugins are not trusted here: a usage that no provider can mean is not known.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from dsrl.errors import RowRefused, TeacherError, TransientError
from dsrl.types import Completion, Price, Usage

#: Tokens that no single call can take.
_MOST_TOKENS = 10**12


@dataclass(frozen=True, slots=True)
class Bill:
    """What a call was billed for.

    Attributes:
        usage: its tokens; zeros where the bill is not known.
        cost: dollars; None where the bill or the price is not known.
        known: whether the provider said what the call was billed for.
    """

    usage: Usage
    cost: float | None
    known: bool = True


def bill_of(ended: Completion | BaseException, price: Price | None, batch: bool = False) -> Bill | None:
    """Give what a call was billed for that ended with a completion or an exception; None: it was not billed.

    Args:
        price: None where it is not known.
        batch: whether the call was part of a batch.
    """
    if price is not None and not price.worst(1, 1):  # a free teacher owes nobody an account
        free = readable_usage(getattr(ended, "usage", None)) or Usage()
        return Bill(free, 0.0) if isinstance(ended, Completion) or free != Usage() else None
    if isinstance(ended, Completion):
        unknown = False
    elif isinstance(ended, (TransientError, RowRefused, TeacherError)):
        unknown = bool(ended.unknown)
        if ended.usage is None and not unknown:
            return None
    else:  # no exception of the contract: it may have been raised before the call was sent, or after it was billed
        return Bill(Usage(), None, known=False)
    usage = readable_usage(ended.usage)
    if unknown or usage is None or usage == Usage():
        return Bill(Usage(), None, known=False)
    return Bill(usage, None if price is None else max(price.cost(usage, batch), 0.0))


def readable_usage(usage: object) -> Usage | None:
    """Give a usage that a provider can mean; None for anything else."""
    if not isinstance(usage, Usage):
        return None
    for field in fields(usage):
        tokens = getattr(usage, field.name)
        if type(tokens) is not int or not 0 <= tokens <= _MOST_TOKENS:
            return None
    return usage if usage.cached_tokens + usage.cache_write_tokens <= usage.prompt_tokens else None
