from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from dsrl.gate import START, Gate, Pass
from dsrl.records import Rate


class FakeTime:
    """Seconds that pass when a test says so, for the gate and for the loop's timers."""

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
    monkeypatch.setattr("dsrl.gate.time", fake)
    return fake


def run(clock: FakeTime, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def timed() -> None:
        asyncio.get_running_loop().call_later = clock.call_later  # type: ignore[assignment, method-assign]
        await work()

    asyncio.run(timed())


async def entered(waiting: Awaitable[Pass]) -> asyncio.Future[Pass]:
    task = asyncio.ensure_future(waiting)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


def test_the_ceiling_is_never_passed_and_who_comes_first_goes_first(clock: FakeTime) -> None:
    async def work() -> None:
        gate = Gate(2)
        tasks = [await entered(gate.enter()) for _ in range(4)]
        assert [task.done() for task in tasks] == [True, True, False, False]
        gate.leave(tasks[0].result())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [task.done() for task in tasks] == [True, True, True, False]
        assert gate.limit == 2

    run(clock, work)


def test_it_grows_with_every_success_until_the_ceiling(clock: FakeTime) -> None:
    async def work() -> None:
        gate = Gate(START * 4)
        passes = [await gate.enter() for _ in range(START)]
        for given in passes:
            gate.leave(given)
            for _ in range(2):
                await gate.enter()  # two for each that ends: always as many as may be
        assert gate.limit == 2 * START
        for _ in range(3 * START):
            gate.leave(Pass(clock.now))
            gate._busy = gate.limit
        assert gate.limit == 4 * START, "and no further"

    run(clock, work)


def test_a_limit_that_is_not_reached_does_not_grow(clock: FakeTime) -> None:
    async def work() -> None:
        gate = Gate(START * 4)
        for _ in range(100):
            gate.leave(await gate.enter())
        assert gate.limit == START

    run(clock, work)


def test_it_grows_no_more_where_calls_only_wait_for_each_other(clock: FakeTime) -> None:
    async def served(at_a_time: int) -> int:
        """Ask a server that works on so many at a time, each for a second, as many as may be."""
        gate, free = Gate(START * 50), [clock.now] * at_a_time
        under_way: list[tuple[float, int, Pass]] = []
        for number in range(START * 150):
            while gate._busy < gate.limit:
                ends = max(heapq.heappop(free), clock.now) + 1.0
                heapq.heappush(free, ends)
                heapq.heappush(under_way, (ends, number + len(under_way), await gate.enter()))
            clock.now, _, given = heapq.heappop(under_way)
            gate.leave(given)
        return gate.limit

    async def work() -> None:
        assert START <= await served(1) < START * 8
        assert await served(START * 10) >= START * 10
        assert await served(START * 1000) == START * 50

    run(clock, work)


def test_too_many_halves_it_once_a_burst_and_then_it_grows_slowly(clock: FakeTime) -> None:
    async def work() -> None:
        gate = Gate(16)
        gate._limit = 16.0
        passes = [await gate.enter() for _ in range(16)]
        clock.now += 1
        for given in passes:
            gate.slow_down(given, None)
            gate.leave(given, answered=False)
        assert gate.limit == 8, "one burst"
        clock.now += 1
        again = await gate.enter()
        clock.now += 1
        gate.slow_down(again, None)
        gate.leave(again, answered=False)
        assert gate.limit == 4, "the next"
        for _ in range(3):
            passes = [await gate.enter() for _ in range(gate.limit)]
            for given in passes:
                gate.leave(given)
        assert gate.limit <= 5, "by one a round, no more"
        clock.now += 1
        for _ in range(10):
            given = await gate.enter()
            clock.now += 1
            gate.slow_down(given, None)
            gate.leave(given, answered=False)
        assert gate.limit == 1, "never nothing"

    run(clock, work)


def test_the_wait_that_is_told_twice_in_a_row_holds_for_all(clock: FakeTime) -> None:
    async def work() -> None:
        gate = Gate(8)
        for given in [await gate.enter(), await gate.enter()]:
            assert (await entered(gate.enter())).done()
            gate.slow_down(given, 3.0)
            gate.leave(given, answered=False)
        waiting = await entered(gate.enter())
        await clock.pass_(2.9)
        assert not waiting.done()
        await clock.pass_(0.2)
        assert waiting.done()

    run(clock, work)


def test_one_refusal_among_answers_stops_nobody_and_is_soon_made_good(clock: FakeTime) -> None:
    async def work() -> None:
        gate = Gate(20)
        gate._limit = 20.0
        passes = [await gate.enter() for _ in range(20)]
        clock.now += 1
        gate.slow_down(passes[0], 3.0)
        gate.leave(passes[0], answered=False)
        assert gate.limit == 10
        waiting = [asyncio.ensure_future(gate.enter()) for _ in range(40)]
        for given in passes[1:]:
            gate.leave(given)
            await asyncio.sleep(0)
        began = [task.result() for task in waiting if task.done()]
        assert len(began) >= 10, "nobody waits the three seconds"
        for given in began:
            gate.leave(given)
        assert 18 <= gate.limit < 20
        for task in waiting:
            task.cancel()

    run(clock, work)


@pytest.mark.parametrize("rate", [Rate(0, None, 5.0, None), Rate(9, 0, None, 5.0)])
def test_nothing_left_of_a_limit_stops_all_until_it_is_reset(clock: FakeTime, rate: Rate) -> None:
    async def work() -> None:
        gate = Gate(8)
        gate.leave(await gate.enter(), 10, rate)
        waiting = await entered(gate.enter())
        assert not waiting.done()
        await clock.pass_(5.1)
        assert waiting.done()
        gate.leave(waiting.result(), 10, Rate(3, 100, 60.0, 60.0))
        assert (await entered(gate.enter())).done(), "something is left"

    run(clock, work)


def test_requests_are_spread_over_the_minute(clock: FakeTime) -> None:
    async def work() -> None:
        gate = Gate(1000, requests_per_minute=30)
        began: list[float] = []

        async def one() -> None:
            given = await gate.enter()
            began.append(given.began)
            gate.leave(given)

        tasks = [await entered(one()) for _ in range(100)]
        await clock.pass_(300)
        assert all(task.done() for task in tasks)
        for start in began:
            assert sum(start <= at < start + 60 - 1e-6 for at in began) <= 30
        assert began[-1] - began[0] == pytest.approx(99 * 2.0)

    run(clock, work)


def test_tokens_count_as_they_turn_out(clock: FakeTime) -> None:
    async def work() -> None:
        gate = Gate(1000, tokens_per_minute=600)
        gate.leave(await gate.enter(10), 100)  # ten seconds' worth, one expected
        waiting = await entered(gate.enter(10))
        await clock.pass_(9.9)
        assert not waiting.done()
        await clock.pass_(0.2)
        assert waiting.done()

    run(clock, work)


def test_who_gives_up_waiting_keeps_nobody_out(clock: FakeTime) -> None:
    async def work() -> None:
        gate = Gate(1)
        first = await gate.enter()
        second, third = await entered(gate.enter()), await entered(gate.enter())
        second.cancel()
        await asyncio.sleep(0)
        gate.leave(first)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert third.done()
        fourth = await entered(gate.enter())
        gate.leave(third.result())
        fourth.cancel()  # at the moment in which its turn comes
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (await entered(gate.enter())).done()

    run(clock, work)


def test_calls_are_counted_at_their_most_until_it_is_seen_what_they_take(clock: FakeTime) -> None:
    async def work() -> None:
        gate = Gate(1000, tokens_per_minute=6000)
        took: list[tuple[float, int]] = []

        async def one() -> None:
            given = await gate.enter(1000)
            took.append((given.began, 100))
            gate.leave(given, 100)

        tasks = [await entered(one()) for _ in range(200)]
        await clock.pass_(600)
        assert all(task.done() for task in tasks)
        for start, _ in took:
            assert sum(tokens for at, tokens in took if start <= at < start + 60) <= 6000 + 100
        assert took[-1][0] - took[0][0] <= 1.1 * 200 * 100 / 6000 * 60, "and hardly slower than allowed"

    run(clock, work)
