"""Coroutines that run at the same time."""

from __future__ import annotations

import asyncio

import pytest

from dsrl.errors import DataError
from dsrl.pipeline.concurrency import run_limited, run_together


async def fail(error: BaseException, seconds: float = 0.0) -> None:
    await asyncio.sleep(seconds)
    raise error


def test_results_come_in_order() -> None:
    async def wait(number: int) -> int:
        await asyncio.sleep(0.01 * (3 - number))
        return number

    assert asyncio.run(run_together(wait(number) for number in range(3))) == [0, 1, 2]


def test_the_first_error_stops_the_others_and_keeps_its_cause() -> None:
    async def main() -> None:
        try:
            raise OSError("disk")
        except OSError as cause:
            error = DataError("file")
            error.__cause__ = cause
        await run_together([fail(error), asyncio.sleep(60)])  # type: ignore[list-item]

    with pytest.raises(DataError, match="file") as caught:
        asyncio.run(main())
    assert isinstance(caught.value.__cause__, OSError)


def test_an_error_that_the_user_can_correct_is_the_most_useful() -> None:
    async def main() -> None:
        await run_together([fail(ValueError("ours")), run_together([fail(DataError("file"))])])  # type: ignore[list-item]

    with pytest.raises(DataError, match="file"):
        asyncio.run(main())


def test_no_more_run_at_a_time_than_allowed() -> None:
    active, most, started = 0, 0, []

    async def work(number: int) -> None:
        nonlocal active, most
        started.append(number)
        active += 1
        most = max(most, active)
        await asyncio.sleep(0.001)
        active -= 1

    asyncio.run(run_limited(3, (work(number) for number in range(10))))
    assert (most, started) == (3, list(range(10)))
