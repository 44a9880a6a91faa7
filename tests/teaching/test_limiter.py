from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from dsrl.teaching.limiter import START, ConcurrencyLimiter, Permit
from dsrl.teaching.outcomes import Ending
from dsrl.types import Rate


class FakeTime:
    """A clock for the limiter and for the loop's timers, which a test advances."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def monotonic(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Callable[[], None]) -> Any:
        timer = (self.now + seconds, call)
        self.timers.append(timer)
        return type("Handle", (), {"cancel": lambda _: self.timers.remove(timer) if timer in self.timers else None})()

    async def pass_(self, seconds: float) -> None:
        until = self.now + seconds
        while due := [timer for timer in self.timers if timer[0] <= until + 1e-9]:
            timer = min(due, key=lambda timer: timer[0])
            self.timers.remove(timer)
            self.now = max(self.now, timer[0])
            timer[1]()
            await asyncio.sleep(0)
        self.now = until
        await asyncio.sleep(0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr("dsrl.teaching.limiter.time", fake)
    return fake


def run(clock: FakeTime, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def timed() -> None:
        asyncio.get_running_loop().call_later = clock.call_later  # type: ignore[assignment, method-assign]
        await work()

    asyncio.run(timed())


async def entered(waiting: Awaitable[Permit]) -> asyncio.Future[Permit]:
    task = asyncio.ensure_future(waiting)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


def test_the_ceiling_is_never_passed_and_who_comes_first_goes_first(clock: FakeTime) -> None:
    async def work() -> None:
        limiter = ConcurrencyLimiter(2)
        tasks = [await entered(limiter.acquire()) for _ in range(4)]
        assert [task.done() for task in tasks] == [True, True, False, False]
        limiter.release(tasks[0].result())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [task.done() for task in tasks] == [True, True, True, False]
        assert limiter.limit == 2

    run(clock, work)


def test_it_grows_with_every_success_until_the_ceiling(clock: FakeTime) -> None:
    async def work() -> None:
        limiter = ConcurrencyLimiter(START * 4)
        passes = [await limiter.acquire() for _ in range(START)]
        for given in passes:
            limiter.release(given)
            for _ in range(2):
                await limiter.acquire()  # two new calls for each that ends, so that the limit is always reached
        assert limiter.limit == 2 * START
        for _ in range(3 * START):
            limiter.release(Permit(clock.now))
            limiter._busy = limiter.limit
        assert limiter.limit == 4 * START, "and no further"

    run(clock, work)


def test_a_limit_that_is_not_reached_does_not_grow(clock: FakeTime) -> None:
    async def work() -> None:
        limiter = ConcurrencyLimiter(START * 4)
        for _ in range(100):
            limiter.release(await limiter.acquire())
        assert limiter.limit == START

    run(clock, work)


def test_it_grows_no_more_where_calls_only_wait_for_each_other(clock: FakeTime) -> None:
    async def served(at_a_time: int) -> int:
        """Send as many calls as allowed to a server that works on some at a time, each for a second; return the limit."""
        limiter, free = ConcurrencyLimiter(START * 50), [clock.now] * at_a_time
        under_way: list[tuple[float, int, Permit]] = []
        for number in range(START * 150):
            while limiter._busy < limiter.limit:
                ends = max(heapq.heappop(free), clock.now) + 1.0
                heapq.heappush(free, ends)
                heapq.heappush(under_way, (ends, number + len(under_way), await limiter.acquire()))
            clock.now, _, given = heapq.heappop(under_way)
            limiter.release(given)
        return limiter.limit

    async def work() -> None:
        assert START <= await served(1) < START * 8
        assert await served(START * 10) >= START * 10
        assert await served(START * 1000) == START * 50

    run(clock, work)


def test_too_many_halves_it_once_a_burst_and_then_it_grows_slowly(clock: FakeTime) -> None:
    async def work() -> None:
        limiter = ConcurrencyLimiter(16)
        limiter._limit = 16.0
        passes = [await limiter.acquire() for _ in range(16)]
        clock.now += 1
        for given in passes:
            limiter.on_rate_limited(given, None)
            limiter.release(given, ending=Ending.RATE_LIMITED)
        assert limiter.limit == 8, "one burst"
        clock.now += 1
        again = await limiter.acquire()
        clock.now += 1
        limiter.on_rate_limited(again, None)
        limiter.release(again, ending=Ending.RATE_LIMITED)
        assert limiter.limit == 4, "the next"
        for _ in range(3):
            passes = [await limiter.acquire() for _ in range(limiter.limit)]
            for given in passes:
                limiter.release(given)
        assert limiter.limit <= 5, "by one a round, no more"
        clock.now += 1
        for _ in range(10):
            given = await limiter.acquire()
            clock.now += 1
            limiter.on_rate_limited(given, None)
            limiter.release(given, ending=Ending.RATE_LIMITED)
        assert limiter.limit == 1, "never nothing"

    run(clock, work)


def test_the_wait_that_is_told_twice_in_a_row_holds_for_all(clock: FakeTime) -> None:
    async def work() -> None:
        limiter = ConcurrencyLimiter(8)
        for given in [await limiter.acquire(), await limiter.acquire()]:
            assert (await entered(limiter.acquire())).done()
            limiter.on_rate_limited(given, 3.0)
            limiter.release(given, ending=Ending.RATE_LIMITED)
        waiting = await entered(limiter.acquire())
        await clock.pass_(2.9)
        assert not waiting.done()
        await clock.pass_(0.2)
        assert waiting.done()

    run(clock, work)


def test_one_refusal_among_answers_stops_nobody_and_is_soon_made_good(clock: FakeTime) -> None:
    async def work() -> None:
        limiter = ConcurrencyLimiter(20)
        limiter._limit = 20.0
        passes = [await limiter.acquire() for _ in range(20)]
        clock.now += 1
        limiter.on_rate_limited(passes[0], 3.0)
        limiter.release(passes[0], ending=Ending.RATE_LIMITED)
        assert limiter.limit == 10
        waiting = [asyncio.ensure_future(limiter.acquire()) for _ in range(40)]
        for given in passes[1:]:
            limiter.release(given)
            await asyncio.sleep(0)
        began = [task.result() for task in waiting if task.done()]
        assert len(began) >= 10, "nobody waits the three seconds"
        for given in began:
            limiter.release(given)
        assert 18 <= limiter.limit < 20
        for task in waiting:
            task.cancel()

    run(clock, work)


@pytest.mark.parametrize("rate", [Rate(0, None, 5.0, None), Rate(9, 0, None, 5.0)])
def test_nothing_left_of_a_limit_stops_all_until_it_is_reset(clock: FakeTime, rate: Rate) -> None:
    async def work() -> None:
        limiter = ConcurrencyLimiter(8)
        limiter.release(await limiter.acquire(), 10, rate)
        waiting = await entered(limiter.acquire())
        assert not waiting.done()
        await clock.pass_(5.1)
        assert waiting.done()
        limiter.release(waiting.result(), 10, Rate(3, 100, 60.0, 60.0))
        assert (await entered(limiter.acquire())).done(), "something is left"

    run(clock, work)


def test_requests_are_spread_over_the_minute(clock: FakeTime) -> None:
    async def work() -> None:
        limiter = ConcurrencyLimiter(1000, requests_per_minute=30)
        began: list[float] = []

        async def one() -> None:
            given = await limiter.acquire()
            began.append(given.began)
            limiter.release(given)

        tasks = [await entered(one()) for _ in range(100)]
        await clock.pass_(300)
        assert all(task.done() for task in tasks)
        for start in began:
            assert sum(start <= at < start + 60 - 1e-6 for at in began) <= 30
        assert began[-1] - began[0] == pytest.approx(99 * 2.0)

    run(clock, work)


def test_tokens_count_as_they_turn_out(clock: FakeTime) -> None:
    async def work() -> None:
        limiter = ConcurrencyLimiter(1000, tokens_per_minute=600)
        limiter.release(await limiter.acquire(10), 100)  # it took ten times the tokens that were expected: ten seconds
        waiting = await entered(limiter.acquire(10))
        await clock.pass_(9.9)
        assert not waiting.done()
        await clock.pass_(0.2)
        assert waiting.done()

    run(clock, work)


def test_who_gives_up_waiting_keeps_nobody_out(clock: FakeTime) -> None:
    async def work() -> None:
        limiter = ConcurrencyLimiter(1)
        first = await limiter.acquire()
        second, third = await entered(limiter.acquire()), await entered(limiter.acquire())
        second.cancel()
        await asyncio.sleep(0)
        limiter.release(first)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert third.done()
        fourth = await entered(limiter.acquire())
        limiter.release(third.result())
        fourth.cancel()  # at the moment when its turn comes
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (await entered(limiter.acquire())).done()

    run(clock, work)


def test_calls_are_counted_at_their_most_until_it_is_seen_what_they_take(clock: FakeTime) -> None:
    async def work() -> None:
        limiter = ConcurrencyLimiter(1000, tokens_per_minute=6000)
        took: list[tuple[float, int]] = []

        async def one() -> None:
            given = await limiter.acquire(1000)
            took.append((given.began, 100))
            limiter.release(given, 100)

        tasks = [await entered(one()) for _ in range(200)]
        await clock.pass_(600)
        assert all(task.done() for task in tasks)
        for start, _ in took:
            assert sum(tokens for at, tokens in took if start <= at < start + 60) <= 6000 + 100
        assert took[-1][0] - took[0][0] <= 1.1 * 200 * 100 / 6000 * 60, "and hardly slower than allowed"

    run(clock, work)
