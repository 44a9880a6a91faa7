from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from dsrl.errors import StoreError
from dsrl.teaching.reply_store import CallRecord, PaidCalls, ReplyStore, read_spending, read_statistics
from dsrl.types import Reply, Usage

T = TypeVar("T")
RECORD = CallRecord("solve", "t", "m", "key", 0, (Reply("a"), Reply("b")), Usage(10, 4), 0.5, 0.25)


def using(path: Path, work: Callable[[ReplyStore], Awaitable[T]], run: str = "run", **options: PaidCalls) -> T:
    async def open_run() -> T:
        store = ReplyStore(path, run, **options)  # type: ignore[arg-type]
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(open_run())


def test_replies_are_read_by_their_numbers(tmp_path: Path) -> None:
    async def work(store: ReplyStore) -> None:
        assert await store.book(replace(RECORD, first=3))
        assert store.read_replies("key", range(4)) == {3: Reply("a")}
        assert store.read_replies("key", range(3, 9)) == {3: Reply("a"), 4: Reply("b")}
        assert store.read_replies("other", range(9)) == {}

    using(tmp_path / "calls.db", work)


def test_of_two_calls_for_the_same_replies_both_are_booked_and_the_first_counts(tmp_path: Path) -> None:
    async def work(store: ReplyStore) -> None:
        assert await store.book(RECORD)
        assert not await store.book(replace(RECORD, replies=(Reply("late"),)))
        assert store.read_replies("key", range(1)) == {0: Reply("a")}
        assert (store.get_spending().calls, store.get_spending().cost_usd) == (2, 1.0)

    using(tmp_path / "calls.db", work)


def test_an_unknown_bill_an_unknown_price_and_a_hold_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"

    async def work(store: ReplyStore) -> None:
        await store.book(replace(RECORD, usage=Usage(), cost=None), hold_usd=2.0)
        await store.book(replace(RECORD, first=2, cost=None))
        spending = store.get_spending()
        assert (spending.unknown_bills, spending.unpriced, spending.priced) == (1, 1, False)

    using(path, work)
    spending = read_spending(path, "run")
    assert (spending.unknown_bills, spending.unpriced, spending.uncertain_usd) == (1, 1, 2.0)
    statistics = read_statistics(path, "solve", "t", "m")
    assert statistics is not None
    assert (statistics.calls, statistics.completion_tokens, statistics.seconds) == (1, 2.0, 0.25)


def test_a_store_that_lost_paid_calls_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    counts: list[int] = []

    async def book(store: ReplyStore) -> None:
        await store.book(RECORD)

    async def nothing(store: ReplyStore) -> None: ...

    with pytest.raises(StoreError, match=r"calls.db is missing: this run has paid for 3 calls or more"):
        using(path, nothing, paid_calls=PaidCalls(3, counts.append))
    using(path, book, paid_calls=PaidCalls(0, counts.append))
    assert counts == [1]
    with pytest.raises(
        StoreError, match=r"is not the file that it was: .* 2 calls or more, and the file has 1 of them"
    ):
        using(path, nothing, paid_calls=PaidCalls(2, counts.append))
