"""The cap on what a run may spend: money is put aside before each call at its worst case, and the bill taken from it.

What is put aside is written down first, so that a call that a kill cuts off counts at its worst case for good: whether the
provider billed it cannot be known.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass

from dsrl.calls import Calls
from dsrl.errors import BudgetReached
from dsrl.records import Price, Request

#: Tokens that a provider puts around a message, at most.
A_MESSAGE = 32
#: Tokens that a provider puts around a schema, at most (Anthropic: a hidden prompt for tools of some 350 tokens).
A_SCHEMA = 1024
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Hold:
    """Money put aside. ``id``: in ``calls.db``; ``usd``: how much."""

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

    def __init__(self, cap: float, calls: Calls) -> None:
        self._cap, self._calls = cap, calls
        # Holds that are there at the start are of calls that a kill cut off.
        self._earlier: dict[int, float] = dict(calls.read("SELECT id, usd FROM holds WHERE run = ?", calls.run))
        self._spent = calls.spending().cost_usd + sum(self._earlier.values())
        self._held = 0.0
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()

    async def hold(self, usd: float) -> Hold:
        """Put money aside and write that down; see :meth:`reserve`."""
        await self.reserve(usd)
        writing = asyncio.ensure_future(self._calls.hold(usd))
        try:
            return Hold(await asyncio.shield(writing), usd)
        except asyncio.CancelledError:
            # The call will not be made: what is being written down for it must go again.
            await self._calls.release(await writing)
            self.settle(Hold(0, usd), 0.0)
            raise
        except Exception:
            self.settle(Hold(0, usd), 0.0)
            raise

    async def reserve(self, usd: float) -> None:
        """Put money aside; where it does not fit, wait for what calls under way will leave of theirs.

        It is for the caller to write down, before anything is asked for it.

        Raises:
            BudgetReached: it does not fit, and nothing is to be waited for.
        """
        if self._waiting or not self._fits(usd):
            if not self._held and not self._waiting:
                raise self._reached(usd)
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((usd, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled() and turn.exception() is None:
                    self.settle(Hold(0, usd), 0.0)
                raise
        else:
            self._held += usd

    def know(self, hold: int, cost: float) -> None:
        """Take the bill of a call that an earlier sitting held money for, and that was not lost after all."""
        usd = self._earlier.pop(hold, None)
        if usd is not None:
            self._spent -= usd
            self.settle(Hold(0, 0.0), cost)

    def settle(self, hold: Hold, cost: float) -> None:
        """Take the bill from what was put aside; the rest is free for others."""
        self._held -= hold.usd
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

    def _fits(self, usd: float) -> bool:
        return self._spent + self._held + usd <= self._cap + _ROUNDING

    def _reached(self, usd: float) -> BudgetReached:
        return BudgetReached(
            f"the budget of ${self._cap:.2f} is reached: ${self._spent:.4f} is spent, and the next call may cost "
            f"${usd:.4f}. The same command with a larger --budget goes on"
        )
