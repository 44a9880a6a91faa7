"""The budget of a run: what it means, and every check of it.

A budget is the most that a run may cost in dollars; None: there is no cap. Before each call its worst-case cost is put on
hold, and the bill is settled against the hold afterwards.

A hold is written down before the call is made, so a call that a kill cuts off counts at its worst case from then on: nobody
can know whether the provider billed it. The calls of a process share one row of the journal (:mod:`dsrl.teaching.holds`). It
is written only when the holds exceed everything written before; while as many calls end as begin, nothing is written.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from dsrl.errors import BudgetReached, SettingsError, StoreError, TeacherError
from dsrl.teaching.holds import HoldJournal
from dsrl.teaching.pricing import dollars
from dsrl.teaching.reply_store import ReplyStore
from dsrl.types import Price, Request

#: Tokens that a provider adds to a message, at most.
TOKENS_PER_MESSAGE = 32
#: Tokens that a provider adds to a schema, at most (Anthropic: a hidden prompt for tools of about 350 tokens).
TOKENS_PER_SCHEMA = 1024
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Hold:
    """Money put on hold for one call, in dollars."""

    usd: float


def bound_prompt_tokens(request: Request) -> int:
    """Return an upper bound of a prompt's tokens: no tokenizer makes more tokens of a text than it has bytes of UTF-8."""
    tokens = sum(len(message.content.encode("utf-8", "replace")) + TOKENS_PER_MESSAGE for message in request.messages)
    return tokens + (len(json.dumps(request.schema)) + TOKENS_PER_SCHEMA if request.schema is not None else 0)


def compute_worst_cost(price: Price, request: Request, batch: bool = False) -> float:
    """Return the dollars that a request can cost at most, even if its prompt is billed with each of its ``n`` answers."""
    return request.n * price.worst(bound_prompt_tokens(request), request.max_tokens, batch)


def check_price(budget: float | None, price: Price | None, model: str) -> None:
    """Refuse a budget for a model whose price is unknown.

    Raises:
        TeacherError: names the model, and the flag that sets its price.
    """
    if budget is not None and price is None:
        raise TeacherError(
            f"the price of {model!r} is not known, so --budget cannot be kept. Set it with --price "
            f"{model}=PROMPT,COMPLETION in dollars per million tokens"
        )


def check_first_call(budget: float | None, price: Price, request: Request, model: str, batch: bool = False) -> None:
    """Refuse a budget that is not enough for the first call of a run.

    Args:
        budget: dollars; None: no cap.
        price: of the model.
        request: the first one.
        model: the teacher and its model, for the text.
        batch: whether the request goes into a batch.

    Raises:
        SettingsError: says what the call may cost.
    """
    worst = compute_worst_cost(price, request, batch)
    if budget is not None and worst > budget:
        raise SettingsError(
            f"--budget {budget:g} is not enough for the first call, which may cost up to {dollars(worst)} "
            f"({model}, replies of up to {request.max_tokens} tokens). Give a larger --budget; "
            "`dsrl plan` says what the run may cost"
        )


def describe_budget_reached(budget: float, details: str) -> str:
    """Return the text for the user when the budget is reached.

    Args:
        budget: dollars.
        details: what follows from it; a clause without a full stop.
    """
    return (
        f"the budget of {dollars(budget)} is reached: {details}. "
        "The same command with a larger --budget continues from here"
    )


class Budget:
    """What is left of a run's money.

    Args:
        cap: dollars for the run, over all commands that work on it; None: no cap.
        store: what was spent so far; its file holds the journal.
    """

    def __init__(self, cap: float | None, store: ReplyStore) -> None:
        self.cap = cap
        self._journal = HoldJournal(store.database, store.run)
        # Rows that exist at the start belong to calls whose answer was lost, and to batches in progress.
        self._earlier_rows = {} if cap is None else self._journal.read_all()
        #: The part of what is spent that may have been billed, by calls whose answer was lost.
        self._lost = sum(self._earlier_rows.values())
        self._spent = store.get_spending().cost_usd + self._lost
        self._held = 0.0
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        # Holds of batches that this process has submitted, by the id of their row.
        self._rows: dict[int, float] = {}
        # The shared row: dollars that it must have, dollars that it has for certain, its id, and the write in progress.
        self._needed = self._journaled = 0.0
        self._row: int | None = None
        self._writing: asyncio.Task[None] | None = None

    async def hold(self, usd: float) -> Hold | None:
        """Put money on hold for a call of this process; wait if it does not fit until other calls have left some.

        Args:
            usd: worst-case cost of the call.

        Returns:
            The hold, when it is on the disk; None if there is no cap.

        Raises:
            BudgetReached: it does not fit, and no call in flight can leave money.
            StoreError: the hold cannot be written.
        """
        if self.cap is None:
            return None
        hold = await self.reserve(usd)
        self._needed += usd
        try:
            if self._needed > self._journaled + _ROUNDING and self._writing is not None:
                await asyncio.shield(self._writing)  # it began before this call
            if self._needed > self._journaled + _ROUNDING:
                await asyncio.shield(self._write_journal())
        except BaseException:  # the call will not be made
            self.settle(hold, 0.0)
            raise
        return hold

    async def reserve(self, usd: float) -> Hold:
        """Put money on hold without writing it down: the caller writes it, with the batch that outlives this process.

        Raises:
            BudgetReached: as :meth:`hold`.
        """
        if self.cap is None:
            return Hold(usd)
        if not self._waiting and self._fits(usd):
            self._held += usd
            return Hold(usd)
        if not self._held and not self._waiting:
            raise self._make_error(usd)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((usd, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._release(usd, 0.0)
            raise
        return Hold(usd)

    def unreserve(self, hold: Hold | None) -> None:
        """Return what was reserved and not written down."""
        if hold is not None and self.cap is not None:
            self._release(hold.usd, 0.0)

    def add_row(self, row: int, hold: Hold) -> None:
        """Record that a reserved hold is written down now, in a row of its own."""
        if self.cap is not None:
            self._rows[row] = hold.usd

    def settle(self, hold: Hold | None, cost: float) -> None:
        """Replace a hold by the bill of its call; the rest is free for other calls.

        Args:
            hold: None: there is no cap.
            cost: dollars that were billed.
        """
        if hold is None:
            return
        self._needed = max(self._needed - hold.usd, 0.0)
        if self._journaled and self._needed <= self._journaled / 4:
            self._write_journal()
        self._release(hold.usd, cost)

    def settle_row(self, row: int, cost: float) -> None:
        """Replace the hold of a request in a batch by its bill; the row may be of an earlier process."""
        if (usd := self._rows.pop(row, None)) is not None:
            self._release(usd, cost)
        elif (usd := self._earlier_rows.pop(row, None)) is not None:
            # It was counted as spent, and was not lost after all.
            self._spent -= usd
            self._lost -= usd
            self._release(0.0, cost)

    def write_off(self, hold: Hold | None) -> None:
        """Count a hold as spent, because nobody can know whether its call was billed. It stays in the journal."""
        if hold is not None:
            self._lost += hold.usd
            self._release(hold.usd, hold.usd)

    def write_off_row(self, row: int) -> None:
        """Do as :meth:`write_off` for a request in a batch. A row of an earlier process counts as spent already."""
        if (usd := self._rows.pop(row, None)) is not None:
            self.write_off(Hold(usd))

    async def close(self) -> None:
        """Empty the shared row of the journal, except for calls whose bill is unknown."""
        with suppress(StoreError):  # then the money stays on hold
            while self._writing is not None:
                await self._writing
            if self._needed < self._journaled:
                await self._write_journal()

    def _release(self, usd: float, cost: float) -> None:
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
                turn.set_exception(self._make_error(usd))

    def _write_journal(self) -> asyncio.Task[None]:
        """Write what the shared row must have; one write at a time, so that the last one counts."""
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_row())
            self._writing.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._writing

    async def _write_row(self) -> None:
        try:
            usd = self._needed if self._needed > _ROUNDING else 0.0
            # Until the write commits, only the smaller amount is guaranteed on disk.
            self._journaled = min(self._journaled, usd)
            self._row = await self._journal.change(self._row, usd)
            self._journaled = usd
        finally:
            self._writing = None

    def _fits(self, usd: float) -> bool:
        return self.cap is None or self._spent + self._held + usd <= self.cap + _ROUNDING

    def _make_error(self, usd: float) -> BudgetReached:
        assert self.cap is not None
        lost = (
            f", calls whose answer was lost may have cost {dollars(self._lost)} more" if self._lost > _ROUNDING else ""
        )
        details = f"{dollars(self._spent - self._lost)} is spent{lost}, and the next call may cost {dollars(usd)}"
        return BudgetReached(describe_budget_reached(self.cap, details))
