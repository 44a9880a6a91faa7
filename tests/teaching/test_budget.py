from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrl.errors import BudgetReached, SettingsError, TeacherError
from dsrl.teaching.budget import Budget, bound_prompt_tokens, check_first_call, check_price, compute_worst_cost
from dsrl.teaching.holds import insert_hold
from dsrl.teaching.reply_store import CallRecord, ReplyStore, read_spending
from dsrl.types import Message, Price, Request, Usage

T = TypeVar("T")


def using(path: Path, work: Callable[[ReplyStore], Awaitable[T]]) -> T:
    async def open_run() -> T:
        calls = ReplyStore(path, "run")
        try:
            return await work(calls)
        finally:
            await calls.close()

    return asyncio.run(open_run())


def holds(path: Path) -> list[float]:
    database = sqlite3.connect(path)
    try:
        return [usd for (usd,) in database.execute("SELECT usd FROM holds ORDER BY id")]
    finally:
        database.close()


def test_money_is_on_the_disk_before_it_is_given(tmp_path: Path) -> None:
    async def work(calls: ReplyStore) -> None:
        budget = Budget(1.0, calls)
        await budget.hold(0.25)
        assert holds(calls.path) == [0.25]

    using(tmp_path / "calls.db", work)


def test_the_shared_row_is_written_only_when_it_must_grow_or_is_far_too_large(tmp_path: Path) -> None:
    async def work(calls: ReplyStore) -> None:
        written = []
        budget = Budget(100.0, calls)
        change = budget._journal.change

        async def changed(hold: int | None, usd: float) -> int | None:
            written.append(usd)
            return await change(hold, usd)

        budget._journal.change = changed  # type: ignore[method-assign]
        out = list(await asyncio.gather(*(budget.hold(1.0) for _ in range(10))))
        assert written == [10.0]
        for _ in range(30):
            budget.settle(out.pop(0), 0.5)
            out.append(await budget.hold(1.0))
        assert written == [10.0]
        assert holds(calls.path) == [10.0]
        for hold in out[:6]:
            budget.settle(hold, 0.5)
        await budget.close()
        assert holds(calls.path) == [4.0]  # these calls may have been billed

    using(tmp_path / "calls.db", work)


def test_no_call_begins_before_its_hold_is_in_the_shared_row(tmp_path: Path) -> None:
    """This holds also while the shared row is being reduced, or increased for other calls."""

    async def work(calls: ReplyStore) -> None:
        random.seed(7)
        budget, out = Budget(1e9, calls), []
        total = 0.0

        async def one() -> None:
            nonlocal total
            await asyncio.sleep(random.random() * 0.02)
            for _ in range(15):
                usd = random.choice([0.1, 1.0, 7.0])
                hold = await budget.hold(usd)
                total += usd
                out.append(usd)
                assert sum(holds(calls.path)) >= total - 1e-6
                await asyncio.sleep(random.random() * 0.01)
                total -= usd
                budget.settle(hold, 0.0)

        await asyncio.gather(*(one() for _ in range(8)))
        await budget.close()
        assert len(out) == 120
        assert holds(calls.path) == []

    using(tmp_path / "calls.db", work)


def test_what_does_not_fit_now_waits_for_the_bill_of_others(tmp_path: Path) -> None:
    async def work(calls: ReplyStore) -> None:
        budget = Budget(1.0, calls)
        first = await budget.hold(0.8)
        waiting = asyncio.create_task(budget.hold(0.7))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        budget.settle(first, 0.2)
        second = await waiting
        late = asyncio.create_task(budget.hold(0.7))
        await asyncio.sleep(0)
        budget.settle(second, 0.2)
        with pytest.raises(BudgetReached, match=r"\$1.00 is reached: \$0.40 is spent, and .*\$0.70.*larger --budget"):
            await late

    using(tmp_path / "calls.db", work)


def test_calls_that_a_kill_cut_off_count_at_their_worst(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"

    async def killed(calls: ReplyStore) -> None:
        await Budget(1.0, calls).hold(0.7)
        await calls.book(CallRecord("solve", "t", "m", "key", 0, (), Usage(1), 0.1))

    async def again(calls: ReplyStore) -> None:
        budget = Budget(1.0, calls)
        with pytest.raises(BudgetReached):
            await budget.hold(0.21)
        await budget.hold(0.2)

    using(path, killed)
    assert read_spending(path, "run").uncertain_usd == pytest.approx(0.7)
    using(path, again)


LOST = r"\$0.00 is spent, calls whose answer was lost may have cost \$0.70 more, and the next call may cost \$0.31"


def test_a_call_whose_answer_is_lost_counts_at_its_worst(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"

    async def work(calls: ReplyStore) -> None:
        budget = Budget(1.0, calls)
        lost, other = await budget.hold(0.7), await budget.hold(0.2)
        waiting = asyncio.create_task(budget.hold(0.3))
        await asyncio.sleep(0.02)
        budget.write_off(lost)
        assert not waiting.done()
        budget.settle(other, 0.0)
        budget.settle(await waiting, 0.0)
        with pytest.raises(BudgetReached, match=LOST):
            await budget.hold(0.31)
        await budget.close()

    async def again(calls: ReplyStore) -> None:
        with pytest.raises(BudgetReached, match=LOST):
            await Budget(1.0, calls).hold(0.31)

    using(path, work)
    assert read_spending(path, "run").uncertain_usd == pytest.approx(0.7)
    using(path, again)


def test_who_gives_up_waiting_leaves_no_hold(tmp_path: Path) -> None:
    async def work(calls: ReplyStore) -> None:
        budget = Budget(1.0, calls)
        hold = budget.hold
        first = await hold(1.0)
        waiting, writing = asyncio.create_task(hold(0.5)), None
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        budget.settle(first, 0.0)
        writing = asyncio.create_task(hold(1.0))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await budget.close()
        assert holds(calls.path) == []
        await hold(1.0)

    using(tmp_path / "calls.db", work)


@given(st.text(max_size=200), st.integers(1, 8))
def test_a_prompt_is_bounded_by_its_bytes(text: str, n: int) -> None:
    request = Request("solve", "m", (Message("user", text),), 0.0, 10, n=n)
    assert bound_prompt_tokens(request) >= len(text.encode("utf-8", "replace"))
    price = Price(1.0, 10.0, cached=0.1, cache_write=1.25, batch=0.5)
    worst = compute_worst_cost(price, request)
    assert worst >= price.cost(Usage(len(text.encode("utf-8", "replace")) * n, 10 * n))
    assert compute_worst_cost(price, request, batch=True) == pytest.approx(worst / 2)


def test_a_schema_counts_too() -> None:
    plain = Request("write", "m", (Message("user", "x"),), 0.0, 10)
    schema = Request("write", "m", (Message("user", "x"),), 0.0, 10, schema={"type": "object"})
    assert bound_prompt_tokens(schema) > bound_prompt_tokens(plain) + 346


def test_without_a_cap_nothing_is_held_or_refused(tmp_path: Path) -> None:
    async def work(calls: ReplyStore) -> None:
        budget = Budget(None, calls)
        hold = await budget.hold(1e9)
        assert hold is None
        budget.settle(hold, 1e9)
        budget.write_off(await budget.hold(1e9))
        budget.unreserve(await budget.reserve(1e9))
        await budget.close()
        assert holds(calls.path) == []

    using(tmp_path / "calls.db", work)


def test_the_hold_of_a_batch_is_settled_by_its_row_also_by_a_later_process(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"

    async def submit(calls: ReplyStore) -> None:
        budget = Budget(1.0, calls)
        hold = await budget.reserve(0.6)
        row = await calls.database.write(lambda connection: insert_hold(connection, "run", hold.usd))
        budget.add_row(row, hold)
        waiting = asyncio.create_task(budget.reserve(0.9))
        await asyncio.sleep(0)
        assert not waiting.done()
        budget.settle_row(row, 0.1)
        assert (await waiting).usd == 0.9

    async def go_on(calls: ReplyStore) -> None:
        budget = Budget(1.0, calls)
        with pytest.raises(BudgetReached, match="may have cost"):
            await budget.reserve(0.9)
        (row,) = budget._journal.read_all()
        budget.settle_row(row, 0.1)
        budget.settle_row(row, 0.1)
        await budget.reserve(0.9)

    using(path, submit)
    using(path, go_on)


def test_a_budget_is_checked_before_the_first_call() -> None:
    request, price = Request("write", "m", (Message("user", "x"),), 0.0, 1_000_000), Price(0.0, 2.0)
    check_price(None, None, "m")
    check_price(1.0, price, "m")
    with pytest.raises(TeacherError, match=r"price of 'm' is not known.*--price m=PROMPT,COMPLETION"):
        check_price(1.0, None, "m")
    check_first_call(None, price, request, "t:m")
    check_first_call(2.0, price, request, "t:m")
    with pytest.raises(SettingsError, match=r"--budget 1 is not enough .* up to \$2.00 \(t:m"):
        check_first_call(1.0, price, request, "t:m")
