from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dsrl.plugins.specs import hookimpl
from dsrl.teaching.batches import list_batches
from dsrl.teaching.batches.store import BatchStore
from dsrl.teaching.budget import Hold
from dsrl.teaching.calls import Route, TeacherCall
from dsrl.teaching.limiter import ConcurrencyLimiter
from dsrl.teaching.reply_store import CallRecord, ReplyStore, read_spending
from dsrl.types import Completion, Message, Price, Reply, Request, Usage

REQUEST = Request("write", "m", (Message("user", "Write."),), 0.7, 100, n=2)


class FakeTeacher:
    """Is never asked."""

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        raise AssertionError

    @hookimpl
    def price(self, model: str) -> Price | None:
        return None


@pytest.fixture
def route(bound: Any) -> Route:
    return Route(bound("teacher", FakeTeacher), {"identity": "server"}, ConcurrencyLimiter(1))


def using(path: Path, work: Callable[[ReplyStore], Awaitable[None]]) -> None:
    async def open_run() -> None:
        store = ReplyStore(path, "run")
        try:
            await work(store)
        finally:
            await store.close()

    asyncio.run(open_run())


def make_calls(route: Route) -> list[TeacherCall]:
    return [
        TeacherCall(route, replace(REQUEST, first=2 * number), "key", None, hold)
        for number, hold in enumerate([Hold(1.0), None, Hold(3.0)])
    ]


def test_a_batch_is_found_by_its_requests_once_it_is_submitted(route: Route, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"

    async def work(store: ReplyStore) -> None:
        batches = BatchStore(store)
        submission = await batches.add("token", make_calls(route))
        assert batches.find_running("key", REQUEST) is None
        await batches.set_provider_id(submission, "b7")
        assert batches.find_running("key", replace(REQUEST, first=5, n=1)) == submission.row
        assert batches.find_running("key", replace(REQUEST, first=6)) is None
        batch = batches.read_running(submission.row)
        assert (batch.provider_id, batch.run, batch.model) == ("b7", "run", "m")
        items = batches.read_items(submission.row)
        assert [(item.number, item.first, item.n) for item in items] == [(0, 0, 2), (1, 2, 2), (2, 4, 2)]
        assert [item.hold for item in items] == [submission.holds[0], None, submission.holds[1]]

    using(path, work)
    (record,) = list_batches(path)
    assert (record.provider_id, record.status, record.requests) == ("b7", "in_progress", 3)
    assert read_spending(path, "run").uncertain_usd == 4.0


def test_a_submission_is_interrupted_if_its_process_is_not_at_it(route: Route, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"

    async def submit(store: ReplyStore) -> None:
        batches = BatchStore(store)
        await batches.add("token", make_calls(route))
        assert batches.read_interrupted(route) == []

    async def go_on(store: ReplyStore) -> None:
        batches = BatchStore(store)
        (submission,) = batches.read_interrupted(route)
        assert (submission.token, submission.requests) == ("token", 3)
        assert batches.read_interrupted(replace(route, identity={"identity": "another server"})) == []
        assert len(await batches.give_up(submission)) == 2
        assert batches.read_interrupted(route) == []

    using(path, submit)
    using(path, go_on)
    assert [record.status for record in list_batches(path)] == ["failed"]
    assert read_spending(path, "run").uncertain_usd == 0


def test_a_batch_is_booked_once(route: Route, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    record = CallRecord("write", "t", "m", "key", 0, (Reply("a"), Reply("b")), Usage(1, 1), 0.5, batch="b7")

    async def work(store: ReplyStore) -> None:
        batches = BatchStore(store)
        submission = await batches.add("token", make_calls(route))
        await batches.set_provider_id(submission, "b7")
        batch = batches.read_running(submission.row)
        for _ in range(2):
            await batches.finish(batch, "ended", 1, [record], submission.holds[:1])
        assert store.read_replies("key", range(9)) == {0: Reply("a"), 1: Reply("b")}

    using(path, work)
    spending = read_spending(path, "run")
    assert (spending.calls, spending.cost_usd, spending.uncertain_usd) == (1, 0.5, 3.0)
    assert [(batch.status, batch.done) for batch in list_batches(path)] == [("ended", 1)]
