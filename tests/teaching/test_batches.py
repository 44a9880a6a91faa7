from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dsrl.errors import BudgetReached, RowRefused, TeacherError, TransientError
from dsrl.plugins.binding import Plugin, load
from dsrl.plugins.specs import hookimpl
from dsrl.teaching.batches import list_batches
from dsrl.teaching.batches.gathering import count_bytes
from dsrl.teaching.ledger import CallPolicy, Ledger
from dsrl.teaching.reply_store import read_spending
from dsrl.types import BatchState, Completion, Message, Price, Reply, Request, Usage

T = TypeVar("T")
REQUEST = Request("write", "m", (Message("user", "Write."),), 0.7, 100)


class FakeBatchTeacher:
    """Keeps batches until a test lets them end, since a real provider takes hours."""

    def __init__(self) -> None:
        self.batches: dict[str, list[Request]] = {}
        self.states: dict[str, BatchState] = {}
        self.faults: list[Exception] = []
        self.single: list[Request] = []
        self.cancelled: list[str] = []
        self.ends = True
        self.odd: dict[int, Any] = {}  # number of a request -> its result, in place of a good answer

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        self.single.append(request)
        return Completion((Reply("single"),) * request.n, Usage(10, 10))

    @hookimpl
    def price(self, model: str) -> Price:
        return Price(1000.0, 1000.0, batch=0.5)

    @hookimpl
    async def submit_batch(self, requests: Sequence[Request]) -> str:
        if self.faults:
            raise self.faults.pop(0)
        name = f"b{len(self.batches)}"
        self.batches[name] = list(requests)
        return name

    @hookimpl
    async def poll_batch(self, batch: str) -> BatchState:
        if batch in self.states:
            return self.states[batch]
        requests = self.batches[batch]
        if not self.ends:
            return BatchState("in_progress", len(requests), 1)
        results: dict[int, Any] = {}
        for item, request in enumerate(requests):
            replies = tuple(Reply(f"{batch}.{item}.{i}") for i in range(request.n))
            results[item] = Completion(replies, Usage(10, 10 * request.n))
        results |= self.odd
        return BatchState("ended", len(requests), len(requests), 0, {i: r for i, r in results.items() if r is not None})

    @hookimpl
    async def cancel_batch(self, batch: str) -> None:
        self.cancelled.append(batch)


@pytest.fixture
def teach(bound: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[FakeBatchTeacher, Plugin[Any]]:
    monkeypatch.setattr("dsrl.teaching.batches.limits.WINDOW", 0.02)
    monkeypatch.setattr("dsrl.teaching.batches.limits.POLL_PAUSES", (0.005, 0.005))
    fake = FakeBatchTeacher()
    return fake, bound("teacher", fake)


def using(
    plugin: Plugin[Any],
    path: Path,
    work: Callable[[Ledger], Awaitable[T]],
    budget: float | None = None,
    run: str = "run",
    others: Any = None,
) -> T:
    async def open_run() -> T:
        ledger = Ledger(plugin, path, run, CallPolicy(4, budget=budget, batch=True), others)
        try:
            return await work(ledger)
        finally:
            await ledger.close()

    return asyncio.run(open_run())


def all_of(*requests: Request) -> Callable[[Ledger], Awaitable[list[Any]]]:
    async def work(ledger: Ledger) -> list[Any]:
        return await asyncio.gather(*map(ledger.complete, requests), return_exceptions=True)

    return work


def numbered(n: int) -> list[Request]:
    return [replace(REQUEST, first=number) for number in range(n)]


def test_what_arrives_together_goes_together_and_is_stored_at_the_price_of_a_batch(teach: Any, tmp_path: Path) -> None:
    fake, plugin = teach
    path = tmp_path / "calls.db"
    outcome = using(plugin, path, all_of(*numbered(5), replace(REQUEST, purpose="keywords", n=1, first=9)))
    assert [[request.first for request in batch] for batch in fake.batches.values()] == [[0, 1, 2, 3, 4]]
    assert [c.replies[0].text for c in outcome] == ["b0.0.0", "b0.1.0", "b0.2.0", "b0.3.0", "b0.4.0", "single"]
    assert len(fake.single) == 1, "the one for the keywords is not kept waiting for hours"
    spent = read_spending(path, "run")
    assert (spent.calls, spent.cost_usd) == (6, pytest.approx(5 * 0.02 / 2 + 0.02))
    using(plugin, path, all_of(*numbered(6)))
    assert [r.first for r in fake.batches["b1"]] == [5], "only what is new"
    assert [(b.provider_id, b.status, b.requests) for b in list_batches(path)] == [
        ("b1", "ended", 1),
        ("b0", "ended", 5),
    ]


async def stopped_when_seen(asking: Coroutine[Any, Any, Any], path: Path) -> None:
    """Cancel the requests when their batch has been polled."""
    task = asyncio.create_task(asking)
    async with asyncio.timeout(20):
        while not (known := list_batches(path)) or not known[0].done:
            await asyncio.sleep(0.01)
    task.cancel()


def test_a_batch_that_is_out_is_found_again_and_not_submitted_twice(teach: Any, tmp_path: Path) -> None:
    fake, plugin = teach
    path = tmp_path / "calls.db"
    fake.ends = False

    async def stopped(ledger: Ledger) -> None:
        await stopped_when_seen(all_of(*numbered(3))(ledger), path)

    using(plugin, path, stopped)
    (known,) = list_batches(path)
    assert (known.provider_id, known.status, known.done) == ("b0", "in_progress", 1)
    fake.ends = True
    outcome = using(plugin, path, all_of(*numbered(4)))
    assert [c.replies[0].text for c in outcome] == ["b0.0.0", "b0.1.0", "b0.2.0", "b1.0.0"]
    assert read_spending(path, "run").calls == 4


def test_two_runs_that_wait_for_one_batch_book_it_once(teach: Any, tmp_path: Path) -> None:
    fake, plugin = teach
    path = tmp_path / "calls.db"
    fake.ends = False

    async def both(ledger: Ledger) -> None:
        first = asyncio.create_task(all_of(*numbered(2))(ledger))
        while not fake.batches:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        other = Ledger(plugin, path, "other", CallPolicy(4, batch=True))
        second = asyncio.create_task(all_of(*numbered(2))(other))
        await asyncio.sleep(0.03)
        fake.ends = True
        assert await first == await second
        await other.close()

    using(plugin, path, both)
    assert len(fake.batches) == 1
    assert (read_spending(path, "run").calls, read_spending(path, "other").calls) == (2, 0)


def test_what_a_batch_refuses_is_told_and_what_it_leaves_out_goes_into_the_next(teach: Any, tmp_path: Path) -> None:
    fake, plugin = teach
    fake.odd = {
        2: RowRefused("content_filter", usage=Usage(10, 0)),
        3: None,
        4: TransientError("half", usage=Usage(10, 5)),
    }
    path = tmp_path / "calls.db"
    outcome = using(plugin, path, all_of(*numbered(5)), budget=100.0)
    assert isinstance(outcome[2], RowRefused)
    assert outcome[2].reason == "content_filter"
    texts = [each.replies[0].text for each in outcome if isinstance(each, Completion)]
    assert texts == ["b0.0.0", "b0.1.0", "b1.0.0", "b1.1.0"]
    spent = read_spending(path, "run")
    assert spent.cost_usd == pytest.approx((4 * 20 + 10 + 15) * 0.001 / 2), "what failed was billed too"
    assert (spent.calls, spent.uncertain_usd) == (6, 0)


@pytest.mark.parametrize("budget", [100.0, None])
def test_a_line_of_a_batch_that_does_not_say_its_bill_counts_at_its_worst_case(
    teach: Any, tmp_path: Path, budget: float | None
) -> None:
    """A request may cost 0.5 * 1000 * (38 + 100) millionths = 0.069 dollars."""
    fake, plugin = teach
    fake.odd = {
        1: Completion((Reply("no usage"),)),
        2: Completion((Reply("half a usage"),), Usage(10, -1)),
        3: RowRefused("content_filter", unknown=True),
    }
    path = tmp_path / "calls.db"
    outcome = using(plugin, path, all_of(*numbered(4)), budget=budget)
    assert [each.replies[0].text for each in outcome[:3]] == ["b0.0.0", "no usage", "half a usage"]
    assert isinstance(outcome[3], RowRefused)
    spent = read_spending(path, "run")
    assert (spent.calls, spent.unknown_bills, spent.priced) == (4, 3, False)
    assert spent.cost_usd == pytest.approx(0.01)
    assert spent.uncertain_usd == pytest.approx(3 * 0.069)
    fake.odd = {}
    later = [replace(REQUEST, first=9), replace(REQUEST, first=10)]
    one, other = using(plugin, path, all_of(*later), budget=0.01 + 4 * 0.069)
    assert isinstance(one, Completion), "it just fits beside what may have been billed"
    assert isinstance(other, BudgetReached)
    assert read_spending(path, "run").uncertain_usd == pytest.approx(3 * 0.069)


def test_a_batch_that_never_answers_a_request_is_given_up(teach: Any, tmp_path: Path) -> None:
    fake, plugin = teach
    fake.odd = {0: TransientError("overloaded")}
    (outcome,) = using(plugin, tmp_path / "calls.db", all_of(*numbered(1)))
    assert isinstance(outcome, TeacherError)
    assert "3 batches" in str(outcome)
    assert "overloaded" in str(outcome)
    assert "--batch" in str(outcome)


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_batch_that_fails_is_told_and_keeps_what_it_answered(teach: Any, tmp_path: Path, status: Any) -> None:
    fake, plugin = teach
    fake.states["b0"] = BatchState(
        status, 2, 1, 1, {0: Completion((Reply("good"),), Usage(10, 10))}, "line 1 is no JSON"
    )
    path = tmp_path / "calls.db"
    outcome = using(plugin, path, all_of(*numbered(2)))
    assert any(isinstance(each, TeacherError) and status in str(each) for each in outcome)
    again = using(plugin, path, all_of(*numbered(2)))
    assert [c.replies[0].text for c in again] == ["good", "b1.0.0"]


def test_nobody_left_to_wait_is_no_batch(teach: Any, tmp_path: Path) -> None:
    fake, plugin = teach

    async def work(ledger: Ledger) -> None:
        task = asyncio.create_task(ledger.complete(REQUEST))
        await asyncio.sleep(0.01)
        held = read_spending(tmp_path / "calls.db", "run").uncertain_usd
        assert held == 0, "a kill before anything is sent costs nothing"
        task.cancel()
        await asyncio.sleep(0.05)

    using(plugin, tmp_path / "calls.db", work, budget=100.0)
    assert fake.batches == {}
    assert list_batches(tmp_path / "calls.db") == []
    assert read_spending(tmp_path / "calls.db", "run").uncertain_usd == 0


def test_a_submission_that_fails_for_a_moment_is_repeated(
    teach: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, plugin = teach
    monkeypatch.setattr("dsrl.teaching.batches.limits.POLL_PAUSES", (0.001, 0.001))
    fake.faults = [TransientError("500")] * 2
    assert using(plugin, tmp_path / "calls.db", all_of(*numbered(1)))[0].replies[0].text == "b0.0.0"
    fake.faults = [TeacherError("the key is refused")]
    (outcome,) = using(plugin, tmp_path / "calls.db", all_of(replace(REQUEST, first=7)), budget=100.0)
    assert "the key is refused" in str(outcome)
    assert read_spending(tmp_path / "calls.db", "run").uncertain_usd == 0


def test_a_budget_holds_for_batches_too(teach: Any, tmp_path: Path) -> None:
    """A request may cost 0.5 * 1000 * (38 + 100) millionths = 0.069 dollars, and costs 0.01."""
    fake, plugin = teach
    path = tmp_path / "calls.db"
    outcome = using(plugin, path, all_of(*numbered(8)), budget=0.15)
    assert len(fake.batches["b0"]) == 2, "two fit at first; then what they leave is used"
    assert any(isinstance(each, Completion) for each in outcome)
    assert read_spending(path, "run").cost_usd <= 0.15
    paid = sum(isinstance(each, Completion) for each in outcome)
    assert paid + sum(isinstance(each, BudgetReached) for each in outcome) == 8
    assert read_spending(path, "run").uncertain_usd == 0


def test_money_held_for_a_batch_is_known_again_after_a_restart(teach: Any, tmp_path: Path) -> None:
    fake, plugin = teach
    path = tmp_path / "calls.db"
    fake.ends = False

    async def stopped(ledger: Ledger) -> None:
        await stopped_when_seen(all_of(*numbered(2))(ledger), path)

    using(plugin, path, stopped, budget=0.15)
    assert read_spending(path, "run").uncertain_usd == pytest.approx(2 * 0.069)
    fake.ends = True
    outcome = using(plugin, path, all_of(*numbered(2)), budget=0.15)
    assert [isinstance(each, Completion) for each in outcome] == [True, True]
    assert read_spending(path, "run").uncertain_usd == 0
    assert isinstance(using(plugin, path, all_of(*numbered(3)), budget=0.15)[2], Completion)
    assert read_spending(path, "run").cost_usd == pytest.approx(0.03)


class FakeNamingTeacher(FakeBatchTeacher):
    """Finds its batches again by their tokens, and may be slow."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, str] = {}
        self.slow = 0.0
        self.asked: list[tuple[str, int]] = []
        self.seen_after = 0
        self.odd_fault: Exception | None = None

    @hookimpl
    async def submit_batch(self, requests: Sequence[Request], token: str) -> str:  # type: ignore[override]
        await asyncio.sleep(self.slow)
        name = await super().submit_batch(requests)
        self.names[token] = name
        if self.odd_fault:
            raise self.odd_fault
        return name

    @hookimpl
    async def find_batch(self, token: str, submitted: float, requests: int) -> str | None:
        self.asked.append((token, requests))
        return self.names.get(token) if len(self.asked) > self.seen_after else None


@pytest.fixture
def naming(bound: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[FakeNamingTeacher, Plugin[Any]]:
    monkeypatch.setattr("dsrl.teaching.batches.limits.WINDOW", 0.02)
    monkeypatch.setattr("dsrl.teaching.batches.limits.POLL_PAUSES", (0.005, 0.005))
    fake = FakeNamingTeacher()
    return fake, bound("teacher", fake)


def test_a_submission_under_way_is_not_taken_for_a_lost_one(
    bound: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsrl.teaching.batches.limits.WINDOW", 0.02)
    monkeypatch.setattr("dsrl.teaching.batches.limits.POLL_PAUSES", (0.005, 0.005))
    teachers: list[FakeNamingTeacher] = []

    class SlowTeacher(FakeNamingTeacher):
        def __init__(self) -> None:
            super().__init__()
            self.slow = 0.2
            teachers.append(self)

    plugin = bound("teacher", SlowTeacher)
    path = tmp_path / "calls.db"

    async def work(ledger: Ledger) -> list[Any]:
        first = asyncio.create_task(ledger.complete(REQUEST))
        while not list_batches(path):
            await asyncio.sleep(0.01)
        other = Ledger(plugin, path, "other", CallPolicy(4, batch=True))
        second = asyncio.create_task(ledger.complete(replace(REQUEST, purpose="solve", first=1)))
        third = asyncio.create_task(other.complete(replace(REQUEST, first=2)))
        got = await asyncio.gather(first, second, third)
        await other.close()
        return got

    solver = load(plugin.ref, "teacher")  # another plugin object for the same provider
    outcome = using(plugin, path, work, others={"solve": solver})
    assert all(isinstance(each, Completion) for each in outcome)
    assert [teacher.asked for teacher in teachers] == [[], []]
    assert {batch.status for batch in list_batches(path)} == {"ended"}


@pytest.mark.parametrize("fault", [TransientError("cut"), KeyError("of the plugin")], ids=["cut", "odd"])
def test_a_batch_that_got_through_all_the_same_is_found(naming: Any, tmp_path: Path, fault: Exception) -> None:
    fake, plugin = naming
    fake.odd_fault = fault
    fake.seen_after = 2  # a provider may list a batch only after a moment
    path = tmp_path / "calls.db"

    async def work(ledger: Ledger) -> list[Any]:
        outcome = await all_of(*numbered(2))(ledger)
        return outcome if isinstance(outcome[0], Completion) else await all_of(*numbered(2))(ledger)

    outcome = using(plugin, path, work, budget=0.15)
    assert [each.replies[0].text for each in outcome] == ["b0.0.0", "b0.1.0"]
    assert [requests for _, requests in fake.asked] == [2, 2, 2]
    spent = read_spending(path, "run")
    assert (spent.calls, spent.uncertain_usd) == (2, 0)


def test_too_many_is_repeated_without_looking(naming: Any, tmp_path: Path) -> None:
    fake, plugin = naming
    fake.faults = [TransientError("429", limited=True)] * 2
    assert using(plugin, tmp_path / "calls.db", all_of(*numbered(1)))[0].replies[0].text == "b0.0.0"
    assert fake.asked == []


@pytest.mark.parametrize("moment", ["BEFORE INSERT", "BEFORE UPDATE"])
def test_a_batch_that_cannot_be_written_down_is_told_to_all_who_wait(naming: Any, tmp_path: Path, moment: str) -> None:
    fake, plugin = naming
    path = tmp_path / "calls.db"
    using(plugin, path, all_of())
    database = sqlite3.connect(path)
    database.execute(f"CREATE TRIGGER full {moment} ON batches BEGIN SELECT RAISE(ABORT, 'no room'); END")
    database.commit()

    async def work(ledger: Ledger) -> list[Any]:
        return await asyncio.wait_for(all_of(*numbered(2))(ledger), 10)

    assert all("no room" in str(each) for each in using(plugin, path, work, budget=0.15))
    database.execute("DROP TRIGGER full")
    database.commit()
    database.close()
    assert all(isinstance(each, Completion) for each in using(plugin, path, work, budget=0.15))
    assert len(fake.batches) == 1, "not asked, or found again"
    assert read_spending(path, "run").uncertain_usd == 0


def test_a_batch_is_cut_by_number_and_by_bytes(teach: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, plugin = teach
    monkeypatch.setattr("dsrl.teaching.batches.limits.MAX_REQUESTS", 3)
    monkeypatch.setattr("dsrl.teaching.batches.limits.MAX_BYTES", 20_000)
    # A character of three bytes of UTF-8 may be sent as an escape sequence of six bytes.
    lengths = [1, 1, 1, 1, 1000, 1000, 1000, 9000, 1]
    requests = [replace(REQUEST, messages=(Message("user", "字" * n + str(i)),)) for i, n in enumerate(lengths)]
    outcome = using(plugin, tmp_path / "calls.db", all_of(*requests))
    assert all(isinstance(each, Completion) for each in outcome)
    sent = [[len(request.messages[0].content) - 1 for request in batch] for batch in fake.batches.values()]
    assert sent == [[1, 1, 1], [1, 1000, 1000], [1000], [9000], [1]]


def test_the_bytes_of_a_request_are_no_less_than_what_is_sent() -> None:
    text = '\u0000\n"字é🙂' * 100
    schema = {"type": "object", "properties": {"é": {"type": "string"}}}
    request = replace(REQUEST, messages=(Message("system", text), Message("user", text)), schema=schema)
    body = {"messages": [{"role": m.role, "content": m.content} for m in request.messages], "schema": schema}
    line = {"custom_id": "0123456789abcdef-99999", "method": "POST", "url": "/v1/chat/completions", "body": body}
    assert len(json.dumps(line)) < count_bytes(request) < len(json.dumps(line)) + 3000


def test_a_kill_while_submitting_loses_no_request(teach: Any, tmp_path: Path) -> None:
    _, plugin = teach
    path = tmp_path / "calls.db"
    using(plugin, path, all_of(*numbered(1)))
    database = sqlite3.connect(path)
    database.execute(
        "INSERT INTO batches SELECT 99, 'x', NULL, run, teacher, place, model, options, 0, 'submitting', 0 FROM batches"
    )
    database.execute("INSERT INTO batch_items SELECT 99, 0, key, 5, 1, purpose, NULL FROM batch_items")
    database.commit()
    database.close()
    (outcome,) = using(plugin, path, all_of(replace(REQUEST, first=5)))
    assert outcome.replies[0].text == "b1.0.0"
