"""The gate to one provider: how many calls may be under way, and when the next may begin.

The number finds the provider's limit by itself, as TCP does (Jacobson 1988): it grows by one with every success until the
provider first says "too many", then by one a round; it halves when the provider says so, once for a burst. A "too many"
among good answers may be bad luck: then the number soon comes back near to where it was (as in CUBIC, RFC 9438), and only
the call that it was said to waits. Said twice in a row, how long to wait holds for everybody behind the gate. A provider
that only gets slower has its limit, too: the number grows no more then.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, replace

from dsrl.teaching.patience import PATIENCE
from dsrl.types import Rate

#: Calls under way at the start.
START = 8
#: Calls that take so many times as long as before have become too many for the provider, even if it does not say so.
_CROWDED = 3.0
#: Calls that a mean is taken over: with fewer, chance looks like a limit; with more, it is seen too late.
_LATELY = 16
#: Seconds that a provider's account of its limits can stop everybody; it says when all is allowed again, and some is before.
LONGEST_RESET = 60.0
#: Share of the number before a single "too many" that it comes back to at once.
_BACK = 0.9


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to make one call.

    Attributes:
        began: monotonic seconds when the call was sent; until then, when the pass was given.
        most: tokens that it takes at most.
        counted: tokens that were counted for it.
    """

    began: float
    most: int = 0
    counted: float = 0.0


class ConcurrencyLimiter:
    """Lets calls through.

    Args:
        ceiling: calls under way at most.
        requests_per_minute: that may begin in any minute; 0: no limit. They are spread over the minute.
        tokens_per_minute: prompt and completion together, as they turn out; 0: no limit.
    """

    def __init__(self, ceiling: int, requests_per_minute: int = 0, tokens_per_minute: int = 0) -> None:
        self._ceiling = ceiling
        self._limit = float(min(ceiling, START))
        # Up to here it grows by one with every success; beyond, by one a round.
        self._quick = float(ceiling)
        self._halved = float("-inf")
        # Whether a call was answered since the provider last said "too many".
        self._answering = True
        # Seconds that a call takes, the mean of the last ones and the least that it was.
        self._answered = 0
        self._mean, self._least = 0.0, float("inf")
        self._busy = 0
        self._waiting: deque[tuple[asyncio.Future[Permit], int]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._between = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._a_token = 60.0 / tokens_per_minute if tokens_per_minute else 0.0
        # Monotonic times before which nobody goes through: said by the provider, by requests, by tokens a minute.
        self._paused = self._next_request = self._next_token = 0.0
        # Calls are counted at their most until it is seen which share of it they take.
        self._share = 1.0

    @property
    def limit(self) -> int:
        """How many may be under way as things stand."""
        return max(int(self._limit), 1)

    async def acquire(self, tokens: int = 0) -> Permit:
        """Wait for a turn; whoever comes first goes first. Every pass must be given back with :meth:`leave`.

        Args:
            tokens: that the call takes at most, for the limit of tokens a minute.
        """
        now = time.monotonic()
        if not self._waiting and self._busy < self.limit and self._opens() <= now:
            return self._let_through(now, tokens)
        turn: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, tokens))
        self._open()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._busy -= 1
                self._open()
            raise

    def send(self, permit: Permit) -> Permit:
        """Start the clock of a pass: its call is sent now. Give the pass to use from then on."""
        return replace(permit, began=time.monotonic())

    def release(
        self, permit: Permit, tokens: int | None = None, rate: Rate | None = None, answered: bool = True
    ) -> None:
        """Give a pass back.

        Args:
            tokens: what the call took; None where that is not known.
            rate: what the provider says is left of its limits.
            answered: whether the provider did what was asked.
        """
        if answered:
            self._answering = True
            self._take_time(time.monotonic() - permit.began)
            crowded = self._mean > _CROWDED * self._least
            if self._busy >= self.limit and not crowded:  # a limit that is not reached proves nothing
                more = 1.0 if self._limit < self._quick else 1.0 / self._limit
                self._limit = min(self._limit + more, self._ceiling)
        self._busy -= 1
        if tokens is not None and self._a_token:
            self._next_token += (tokens - permit.counted) * self._a_token
            if answered and permit.most:
                self._share += 0.1 * (min(tokens / permit.most, 1.0) - self._share)
        if rate is not None:
            self._heed(rate)
        self._open()

    def on_rate_limited(self, permit: Permit, seconds: float | None) -> None:
        """Take note that the provider said "too many" to the call of ``given``.

        Args:
            seconds: how long it asks to wait; None where it does not say.
        """
        # Calls that were under way when the limit was halved had been too many with it: one burst.
        if permit.began > self._halved:
            self._quick = _BACK * self._limit if self._answering else 0.0
            self._limit = max(self._limit / 2, 1.0)
            self._halved = time.monotonic()
        # One of many that are answered has bad luck; two in a row speak for all.
        if seconds and not self._answering:
            self._paused = max(self._paused, time.monotonic() + min(seconds, PATIENCE))
        self._answering = False

    def _take_time(self, seconds: float) -> None:
        self._answered += 1
        self._mean += (seconds - self._mean) / min(self._answered, _LATELY)
        if self._answered >= START:
            self._least = min(self._least, self._mean)

    def _heed(self, rate: Rate) -> None:
        for remaining, reset in (
            (rate.remaining_requests, rate.reset_requests),
            (rate.remaining_tokens, rate.reset_tokens),
        ):
            if remaining is not None and remaining <= 0 and reset:
                self._paused = max(self._paused, time.monotonic() + min(reset, LONGEST_RESET))

    def _opens(self) -> float:
        return max(self._paused, self._next_request, self._next_token)

    def _let_through(self, now: float, tokens: int) -> Permit:
        self._busy += 1
        if self._between:
            self._next_request = max(self._next_request, now) + self._between
        counted = tokens * self._share
        if self._a_token:
            self._next_token = max(self._next_token, now) + counted * self._a_token
        return Permit(now, tokens, counted)

    def _open(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            turn, tokens = self._waiting[0]
            if turn.done():  # cancelled
                self._waiting.popleft()
                continue
            if self._busy >= self.limit:
                return
            now = time.monotonic()
            wait = self._opens() - now
            if wait > 0:
                self._timer = asyncio.get_running_loop().call_later(wait, self._open)
                return
            self._waiting.popleft()
            turn.set_result(self._let_through(now, tokens))
