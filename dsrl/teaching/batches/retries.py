"""Questions to a provider about batches, repeated until there is an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from dsrl.errors import TransientError
from dsrl.teaching.batches import limits
from dsrl.teaching.patience import Patience, WaitReporter

T = TypeVar("T")


class Retrier:
    """Repeats questions to a provider while patience lasts and the ledger is open.

    Args:
        note: receives texts for the user.

    Attributes:
        closing: set when the ledger closes; nothing is repeated from then on.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self.closing = asyncio.Event()
        self._waits = WaitReporter(note)

    async def repeat(self, ask: Callable[[], Awaitable[T]], teacher: str) -> T:
        """Call ``ask`` until it does not raise a ``TransientError``; return its result.

        Args:
            ask: asks the provider once.
            teacher: name of the teacher.

        Raises:
            TeacherError: the question is given up.
        """
        patience = Patience(teacher, self._waits)
        while True:
            began = time.monotonic()
            try:
                return await ask()
            except TransientError as error:
                if not self.closing.is_set():
                    pause = patience.get_pause(error, time.monotonic() - began, limits.POLL_PAUSES[1])
                    with suppress(TimeoutError):  # closing ends the pause
                        await asyncio.wait_for(self.closing.wait(), pause)
                if self.closing.is_set():
                    raise patience.make_error("failed", error) from error
