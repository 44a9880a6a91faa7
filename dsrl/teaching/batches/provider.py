"""Questions about a batch in ``calls.db`` to its provider, without a run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from dsrl.errors import TeacherError, TransientError
from dsrl.plugins.binding import Plugin, load
from dsrl.plugins.specs import TeacherSpec
from dsrl.teaching.batches.store import BatchRecord
from dsrl.types import BatchState, PluginRef

T = TypeVar("T")


async def poll_batch(batch: BatchRecord) -> BatchState:
    """Return the state of a batch from its provider; nothing is booked.

    Raises:
        DsrlError: the provider cannot be asked.
    """
    return await _ask_provider(
        batch, lambda teacher: teacher.hook.poll_batch(batch=batch.provider_id, model=batch.model)
    )


async def cancel_batch(batch: BatchRecord) -> None:
    """Ask the provider to stop a batch. The run that waits for it keeps what was answered by then.

    Raises:
        DsrlError: the provider cannot be asked.
    """
    await _ask_provider(batch, lambda teacher: teacher.hook.cancel_batch(batch=batch.provider_id))


async def _ask_provider(batch: BatchRecord, ask: Callable[[Plugin[TeacherSpec]], Awaitable[T]]) -> T:
    teacher = load(PluginRef("teacher", batch.teacher, batch.options), "teacher")
    try:
        return await ask(teacher)
    except TransientError as error:
        raise TeacherError(f"teacher {batch.teacher!r} cannot be reached now: {error}") from error
    finally:
        if teacher.implements("aclose"):
            await teacher.hook.aclose()
