"""The limit on calls to one provider: how many may be in flight, and when the next may begin.

The limiter finds the provider's limit by itself, as TCP does (Jacobson 1988). The number of calls grows by one with every
success until the provider answers "too many requests" for the first time, and by one a round trip from then on. It halves
at each such answer, once for a burst. A single one among good answers may be bad luck, so the number soon returns near to
where it was (as in CUBIC, RFC 9438), and only the refused call waits. After two in a row, all calls wait as long as the
provider asks. A provider that only becomes slower has reached its limit too: the number stops growing then.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, replace

from dsrl.teaching.outcomes import Ending
from dsrl.teaching.patience import PATIENCE
from dsrl.types import Rate

#: Calls in flight at the start.
START = 8
#: If calls take this many times as long as at best, there are too many for the provider, even if it does not say so.
_CROWDED = 3.0
#: Calls in the moving average of latency. With fewer, chance looks like a limit; with more, a limit is noticed too late.
_AVERAGED_CALLS = 16
#: Seconds that a limit in a response's headers can stop all calls, at most. Headers give the time of a full reset; part of
#: the quota returns earlier.
LONGEST_RESET = 60.0
#: After an isolated "too many requests", ramp quickly back to this share of the previous limit.
_QUICK_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to make one call.

    Attributes:
        began: when the call was sent, in monotonic seconds; until then, when the permit was issued.
        max_tokens: tokens that the call takes at most.
        counted_tokens: tokens that were counted for it in advance.
    """

    began: float
    max_tokens: int = 0
    counted_tokens: float = 0.0


class ConcurrencyLimiter:
    """Limits the calls to one provider.

    Args:
        ceiling: calls in flight, at most.
        requests_per_minute: calls that may begin in any minute; 0: no limit. They are spread over the minute.
        tokens_per_minute: prompt and completion tokens together, as they turn out; 0: no limit.
    """

    def __init__(self, ceiling: int, requests_per_minute: int = 0, tokens_per_minute: int = 0) -> None:
        self._ceiling = ceiling
        self._limit = float(min(ceiling, START))
        # Up to here the limit grows by one with every success; beyond, by one a round trip.
        self._quick_limit = float(ceiling)
        self._halved_at = float("-inf")
        # Whether a call was answered since the provider last said "too many requests".
        self._is_answering = True
        # Latency of a call in seconds: moving average, and the least average so far.
        self._answers = 0
        self._mean, self._least_mean = 0.0, float("inf")
        self._busy = 0
        self._waiting: deque[tuple[asyncio.Future[Permit], int]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._seconds_per_request = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._seconds_per_token = 60.0 / tokens_per_minute if tokens_per_minute else 0.0
        # Monotonic times before which no call begins: by the provider's word, by requests, by tokens a minute.
        self._paused_until = self._next_request = self._next_token = 0.0
        # Calls are counted at their maximum of tokens until it is known which share of it they take.
        self._token_share = 1.0

    @property
    def limit(self) -> int:
        """How many calls may be in flight now."""
        return max(int(self._limit), 1)

    async def acquire(self, tokens: int = 0) -> Permit:
        """Wait for a permit, first come, first served. Every permit must be given back with :meth:`release`.

        Args:
            tokens: tokens that the call takes at most, for the limit of tokens a minute.
        """
        now = time.monotonic()
        if not self._waiting and self._busy < self.limit and self._get_opening() <= now:
            return self._issue(now, tokens)
        turn: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, tokens))
        self._issue_waiting()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._busy -= 1
                self._issue_waiting()
            raise

    def send(self, permit: Permit) -> Permit:
        """Start the clock of a permit, whose call is sent now; return the permit to use from now on."""
        return replace(permit, began=time.monotonic())

    def release(
        self, permit: Permit, tokens: int | None = None, rate: Rate | None = None, ending: Ending = Ending.ANSWERED
    ) -> None:
        """Take a permit back.

        Args:
            tokens: tokens that the call took; None if that is unknown.
            rate: what is left of the provider's limits; None if it does not say.
            ending: how the call ended; what was never sent has failed.
        """
        is_answered = ending is Ending.ANSWERED
        if is_answered:
            self._is_answering = True
            self._record_latency(time.monotonic() - permit.began)
            is_crowded = self._mean > _CROWDED * self._least_mean
            if self._busy >= self.limit and not is_crowded:  # a limit that was not reached proves nothing
                growth = 1.0 if self._limit < self._quick_limit else 1.0 / self._limit
                self._limit = min(self._limit + growth, self._ceiling)
        self._busy -= 1
        if tokens is not None and self._seconds_per_token:
            self._next_token += (tokens - permit.counted_tokens) * self._seconds_per_token
            if is_answered and permit.max_tokens:
                self._token_share += 0.1 * (min(tokens / permit.max_tokens, 1.0) - self._token_share)
        if rate is not None:
            self._read_rate(rate)
        self._issue_waiting()

    def on_rate_limited(self, permit: Permit, seconds: float | None) -> None:
        """Slow down, because the provider answered "too many requests" to the call of ``permit``.

        Args:
            seconds: how long it asks to wait; None or 0 if it does not say.
        """
        # Calls that were in flight when the limit was halved belong to the same burst.
        if permit.began > self._halved_at:
            self._quick_limit = _QUICK_SHARE * self._limit if self._is_answering else 0.0
            self._limit = max(self._limit / 2, 1.0)
            self._halved_at = time.monotonic()
        # One refusal among answers is bad luck; two in a row concern all calls.
        if seconds and not self._is_answering:
            self._paused_until = max(self._paused_until, time.monotonic() + min(seconds, PATIENCE))
        self._is_answering = False

    def _record_latency(self, seconds: float) -> None:
        self._answers += 1
        self._mean += (seconds - self._mean) / min(self._answers, _AVERAGED_CALLS)
        if self._answers >= START:
            self._least_mean = min(self._least_mean, self._mean)

    def _read_rate(self, rate: Rate) -> None:
        for remaining, reset in (
            (rate.remaining_requests, rate.reset_requests),
            (rate.remaining_tokens, rate.reset_tokens),
        ):
            if remaining is not None and remaining <= 0 and reset:
                self._paused_until = max(self._paused_until, time.monotonic() + min(reset, LONGEST_RESET))

    def _get_opening(self) -> float:
        return max(self._paused_until, self._next_request, self._next_token)

    def _issue(self, now: float, tokens: int) -> Permit:
        self._busy += 1
        if self._seconds_per_request:
            self._next_request = max(self._next_request, now) + self._seconds_per_request
        counted = tokens * self._token_share
        if self._seconds_per_token:
            self._next_token = max(self._next_token, now) + counted * self._seconds_per_token
        return Permit(now, tokens, counted)

    def _issue_waiting(self) -> None:
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
            wait = self._get_opening() - now
            if wait > 0:
                self._timer = asyncio.get_running_loop().call_later(wait, self._issue_waiting)
                return
            self._waiting.popleft()
            turn.set_result(self._issue(now, tokens))
