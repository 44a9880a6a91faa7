"""The cap on what a run may spend: money is put aside before each call at its worst case, and the bill taken from it.

What is put aside is written down first, so that a call that a kill cuts off counts at its worst case for good: whether the
provider billed it cannot be known. Calls under way share one such entry, the purse, which is written only when more must be
aside than ever before: while as many calls end as begin, nothing is.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from dsrl.errors import BudgetReached, StoreError
from dsrl.teaching.pricing import dollars
from dsrl.teaching.reply_store import ReplyStore
from dsrl.types import Price, Request

#: Tokens that a provider puts around a message, at most.
A_MESSAGE = 32
#: Tokens that a provider puts around a schema, at most (Anthropic: a hidden prompt for tools of some 350 tokens).
A_SCHEMA = 1024
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Hold:
    """Money put aside. ``id``: of its own entry in ``calls.db``, 0 where it is in the purse; ``usd``: how much."""

    id: int
    usd: float


def most_prompt_tokens(request: Request) -> int:
    """Bound the tokens of a prompt: no tokenizer in use makes more of a text than it has bytes of UTF-8."""
    tokens = sum(len(message.content.encode("utf-8", "replace")) + A_MESSAGE for message in request.messages)
    return tokens + (len(json.dumps(request.schema)) + A_SCHEMA if request.schema is not None else 0)


def worst_case(price: Price, request: Request, batch: bool = False) -> float:
    """Dollars that a request can cost at most, even if its prompt is paid for with each of its ``n`` answers."""
    return request.n * price.worst(most_prompt_tokens(request), request.max_tokens, batch)


class Budget:
    """What is left of a run's money.

    Args:
        cap: dollars for the run, all its sittings.
        calls: what was spent and held so far.
    """

    def __init__(self, cap: float, calls: ReplyStore) -> None:
        self._cap, self._calls = cap, calls
        # Holds that are there at the start are of calls whose answer was lost, and of batches that are out.
        self._earlier: dict[int, float] = dict(calls.read("SELECT id, usd FROM holds WHERE run = ?", calls.run))
        #: Of what is spent: what may have been, by calls whose answer was lost.
        self._lost = sum(self._earlier.values())
        self._spent = calls.spending().cost_usd + self._lost
        self._held = 0.0
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        # Of what is held: what the purse must have, what it has at least, its entry, and whoever is changing that.
        self._needed = self._journaled = 0.0
        self._entry: int | None = None
        self._filling: asyncio.Task[None] | None = None

    async def hold(self, usd: float) -> Hold:
        """Put money aside for a call by this process; where it does not fit, wait for what others will leave of theirs.

        Raises:
            BudgetReached: it does not fit, and nothing is to be waited for.
        """
        await self.reserve(usd)
        held = Hold(0, usd)
        self._needed += usd
        try:
            if self._needed > self._journaled + _ROUNDING and self._filling is not None:
                await asyncio.shield(self._filling)  # it began before this call
            if self._needed > self._journaled + _ROUNDING:
                await asyncio.shield(self._fill())
        except BaseException:  # the call will not be made
            self.settle(held, 0.0)
            raise
        return held

    async def reserve(self, usd: float) -> None:
        """Put money aside for the caller to write down: for a request in a batch, whose entry outlives this process.

        Raises:
            BudgetReached: as :meth:`hold`.
        """
        if not self._waiting and self._fits(usd):
            self._held += usd
            return
        if not self._held and not self._waiting:
            raise self._reached(usd)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((usd, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._free(usd, 0.0)
            raise

    def unreserve(self, usd: float) -> None:
        """Give back what was reserved and not written down."""
        self._free(usd, 0.0)

    def reconcile_hold(self, hold: int, cost: float) -> None:
        """Take the bill of a call that an earlier sitting held money for, and that was not lost after all."""
        usd = self._earlier.pop(hold, None)
        if usd is not None:
            self._spent -= usd
            self._lost -= usd
            self._free(0.0, cost)

    def settle(self, hold: Hold, cost: float) -> None:
        """Take the bill from what was put aside; the rest is free for others."""
        if not hold.id:
            self._needed = max(self._needed - hold.usd, 0.0)
            if self._journaled and self._needed <= self._journaled / 4:
                self._fill()
        self._free(hold.usd, cost)

    def write_off(self, hold: Hold) -> None:
        """Count what was put aside as spent: whether it was billed will never be known. It stays written down."""
        self._lost += hold.usd
        self._free(hold.usd, hold.usd)

    async def close(self) -> None:
        """Empty the purse, but for calls whose bill is not known."""
        with suppress(StoreError):  # what is written down stays on hold then
            while self._filling is not None:
                await self._filling
            if self._needed < self._journaled:
                await self._fill()

    def _free(self, usd: float, cost: float) -> None:
        self._held -= usd
        self._spent += cost
        if self._held < _ROUNDING:
            self._held = 0.0
        while self._waiting:
            usd, turn = self._waiting[0]
            if turn.done():
                self._waiting.popleft()
            elif self._fits(usd):
                self._waiting.popleft()
                self._held += usd
                turn.set_result(None)
            elif self._held:
                return
            else:
                self._waiting.popleft()
                turn.set_exception(self._reached(usd))

    def _fill(self) -> asyncio.Task[None]:
        """Give the purse what it needs; one writing at a time, so that the last one counts."""
        if self._filling is None:
            self._filling = asyncio.create_task(self._write_journal())
            self._filling.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._filling

    async def _write_journal(self) -> None:
        try:
            usd = self._needed if self._needed > _ROUNDING else 0.0
            # Until it is written, the purse has the smaller of both for sure.
            self._journaled = min(self._journaled, usd)
            self._entry = await self._calls.change_hold(self._entry, usd)
            self._journaled = usd
        finally:
            self._filling = None

    def _fits(self, usd: float) -> bool:
        return self._spent + self._held + usd <= self._cap + _ROUNDING

    def _reached(self, usd: float) -> BudgetReached:
        lost = f", {dollars(self._lost)} more at most by calls whose answer was lost" if self._lost > _ROUNDING else ""
        return BudgetReached(
            f"the budget of {dollars(self._cap)} is reached: {dollars(self._spent - self._lost)} is spent{lost}, and the "
            f"next call may cost {dollars(usd)}. The same command with a larger --budget goes on"
        )
