"""Running coroutines at the same time; the first error stops the others and is raised as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, TypeVar

from dsrl.errors import DsrlError

T = TypeVar("T")


async def run_together(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all coroutines at once and return their results in order.

    Raises:
        BaseException: the error of a coroutine; a :class:`DsrlError` if there is one, else the first.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except BaseExceptionGroup as errors:
        error = _choose_error(errors)
    else:
        return [task.result() for task in tasks]
    raise error  # outside of the except block, so that the traceback keeps the error's own cause


async def run_limited(limit: int, awaitables: Iterable[Awaitable[None]]) -> None:
    """Run at most ``limit`` awaitables at a time, in their order."""
    waiting = iter(awaitables)

    async def work() -> None:
        for awaitable in waiting:
            await awaitable

    await run_together(work() for _ in range(limit))


def _choose_error(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the most useful error of a group: one that the user can correct, else the first."""
    flat: list[BaseException] = []
    for error in errors.exceptions:
        flat.append(_choose_error(error) if isinstance(error, BaseExceptionGroup) else error)
    return next((error for error in flat if isinstance(error, DsrlError)), flat[0])
