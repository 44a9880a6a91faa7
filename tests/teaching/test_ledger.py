from __future__ import annotations

import asyncio
import itertools
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, get_args

import pytest

from dsrl.errors import PluginError, RowRefused, StoreError, TeacherError, TransientError
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import hookimpl
from dsrl.teaching.ledger import CallPolicy, Ledger, compute_request_key
from dsrl.teaching.patience import TRIES
from dsrl.teaching.reply_store import read_spending
from dsrl.types import Completion, Message, Price, Purpose, Reply, Request, Usage

T = TypeVar("T")
REQUEST = Request("solve", "m", (Message("system", "Add."), Message("user", "1 + 1?")), 0.7, 64)


class FakeTeacher:
    """Numbers its replies and fails on demand, as no real teacher does."""

    def __init__(
        self,
        faults: list[Exception] | None = None,
        texts: Callable[[int], Any] = "reply {}".format,
        price: Price | None = Price(1.0, 2.0),  # noqa: B008
        identity: str = "",
        slip: float = 0.0,
    ) -> None:
        self.faults = list(faults or [])
        self.texts, self.cost, self.name = texts, price, identity
        self.asked: list[Request] = []
        self.given = itertools.count()
        self.under_way = self.most_under_way = 0
        self.hold: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)
        self.more = 0
        self.closed = False

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        self.asked.append(request)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.hold()
        finally:
            self.under_way -= 1
        if self.faults:
            raise self.faults.pop(0)
        replies = tuple(Reply(self.texts(next(self.given))) for _ in range(request.n + self.more))
        return Completion(replies, Usage(prompt_tokens=1_000_000 * request.n, completion_tokens=500_000))

    @hookimpl
    def price(self, model: str) -> Price | None:
        return self.cost

    @hookimpl
    def identity(self) -> str:
        return self.name

    @hookimpl
    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def teach(bound: Any) -> Callable[..., tuple[FakeTeacher, Plugin[Any]]]:
    """Return a function that installs a FakeTeacher and returns it with its plugin."""

    def made(**options: Any) -> tuple[FakeTeacher, Plugin[Any]]:
        fake = FakeTeacher(**options)
        return fake, bound("teacher", fake)

    return made


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Skip the pauses between tries; return their lengths in seconds."""
    waited: list[float] = []
    sleep = asyncio.sleep

    async def counted(seconds: float) -> None:
        waited.append(seconds)
        await sleep(0)

    monkeypatch.setattr("dsrl.teaching.ledger.asyncio.sleep", counted)
    monkeypatch.setattr("dsrl.teaching.limiter.ConcurrencyLimiter.on_rate_limited", lambda self, given, seconds: None)
    return waited


def using(
    plugin: Plugin[Any], path: Path, work: Callable[[Ledger], Awaitable[T]], run: str = "run", at_once: int = 4
) -> T:
    """Open a ledger, run ``work`` with it, and close it."""

    async def open_run() -> T:
        ledger = Ledger(plugin, path, run, CallPolicy(at_once))
        try:
            return await work(ledger)
        finally:
            await ledger.close()

    return asyncio.run(open_run())


def texts(completion: Completion) -> list[str]:
    return [reply.text for reply in completion.replies]


def stored(path: Path) -> list[tuple[int, str]]:
    database = sqlite3.connect(path)
    try:
        return database.execute("SELECT number, text FROM replies ORDER BY key, number").fetchall()
    finally:
        database.close()


# --- never asked twice -----------------------------------------------------------------------------------------------


def test_a_reply_is_stored_before_it_is_given(teach: Any, tmp_path: Path) -> None:
    _, plugin = teach()
    path = tmp_path / "calls.db"

    async def work(ledger: Ledger) -> None:
        completion = await ledger.complete(replace(REQUEST, n=2))
        assert stored(path) == [(0, "reply 0"), (1, "reply 1")] == list(enumerate(texts(completion)))

    using(plugin, path, work)


def test_nothing_is_given_that_cannot_be_stored(teach: Any, tmp_path: Path) -> None:
    _, plugin = teach()
    path = tmp_path / "calls.db"

    async def work(ledger: Ledger) -> None:
        database = sqlite3.connect(path, isolation_level=None)
        database.execute("CREATE TRIGGER full BEFORE INSERT ON replies BEGIN SELECT RAISE(ABORT, 'no'); END")
        database.close()
        with pytest.raises((StoreError, sqlite3.Error)):
            await ledger.complete(REQUEST)
        assert ledger.get_spending().calls == 0

    using(plugin, path, work)


def test_the_same_request_is_asked_once(teach: Any, tmp_path: Path) -> None:
    fake, plugin = teach()

    async def work(ledger: Ledger) -> list[list[str]]:
        return [texts(await ledger.complete(REQUEST)) for _ in range(3)]

    assert using(plugin, tmp_path / "calls.db", work) == [["reply 0"]] * 3
    assert using(plugin, tmp_path / "calls.db", work, run="another run") == [["reply 0"]] * 3
    assert len(fake.asked) == 1


def test_the_same_request_at_the_same_time_is_asked_once(teach: Any, tmp_path: Path) -> None:
    fake, plugin = teach()

    async def work(ledger: Ledger) -> list[Completion]:
        return await asyncio.gather(*(ledger.complete(REQUEST) for _ in range(20)))

    assert {tuple(texts(c)) for c in using(plugin, tmp_path / "calls.db", work)} == {("reply 0",)}
    assert len(fake.asked) == 1


def test_only_gaps_are_asked_for(teach: Any, tmp_path: Path) -> None:
    fake, plugin = teach()

    async def work(ledger: Ledger) -> Completion:
        for first, n in ((2, 2), (5, 1)):
            await ledger.complete(replace(REQUEST, first=first, n=n))
        fake.asked.clear()
        return await ledger.complete(replace(REQUEST, n=8))

    completion = using(plugin, tmp_path / "calls.db", work)
    assert [(request.first, request.n) for request in fake.asked] == [(0, 2), (4, 1), (6, 2)]
    assert len(completion.replies) == 8
    assert [completion.replies[i].text for i in (2, 3, 5)] == ["reply 0", "reply 1", "reply 2"]
    assert stored(tmp_path / "calls.db") == list(enumerate(texts(completion)))


def test_two_ledgers_on_one_file_give_the_same_replies(teach: Any, tmp_path: Path) -> None:
    """Both ask at the same time. Both must get the stored replies, or one of the runs could not be repeated."""
    _, plugin = teach()
    path = tmp_path / "calls.db"

    async def work(first: Ledger) -> list[Completion]:
        second = Ledger(plugin, path, "second", CallPolicy(4))
        try:
            return await asyncio.gather(*(ledger.complete(replace(REQUEST, n=2)) for ledger in (first, second)))
        finally:
            await second.close()

    completions = using(plugin, path, work)
    kept = [text for _, text in stored(path)]
    assert [texts(completion) for completion in completions] == [kept, kept]


def test_a_refused_request_stores_nothing_and_passes_as_it_is(teach: Any, tmp_path: Path) -> None:
    fake, plugin = teach(faults=[RowRefused("content_filter")])

    async def work(ledger: Ledger) -> Completion:
        with pytest.raises(RowRefused) as caught:
            await ledger.complete(REQUEST)
        assert caught.value.reason == "content_filter"
        assert stored(tmp_path / "calls.db") == []
        return await ledger.complete(REQUEST)

    assert texts(using(plugin, tmp_path / "calls.db", work)) == ["reply 0"]
    assert len(fake.asked) == 2


class FakeOneAtATime(FakeTeacher):
    """A provider that returns at most two answers a call."""

    @hookimpl
    def max_n(self, model: str) -> int:
        return 2


def test_a_request_for_more_than_one_call_brings_is_split(bound: Any, tmp_path: Path) -> None:
    fake = FakeOneAtATime()
    plugin = bound("teacher", fake)

    async def work(ledger: Ledger) -> Completion:
        return await ledger.complete(replace(REQUEST, n=5))

    assert len(using(plugin, tmp_path / "calls.db", work).replies) == 5
    assert sorted((request.first, request.n) for request in fake.asked) == [(0, 2), (2, 2), (4, 1)]
    assert fake.most_under_way == 3, "at the same time"


def test_other_numbers_of_the_same_prompt_do_not_wait_for_each_other(teach: Any, tmp_path: Path) -> None:
    fake, plugin = teach()

    async def work(ledger: Ledger) -> None:
        await asyncio.gather(*(ledger.complete(replace(REQUEST, first=number)) for number in range(4)))

    using(plugin, tmp_path / "calls.db", work)
    assert fake.most_under_way == 4


def test_who_stops_waiting_loses_no_reply_that_is_paid_for(teach: Any, tmp_path: Path) -> None:
    fake, plugin = teach()
    fake.hold = lambda: asyncio.sleep(0.05)

    async def work(ledger: Ledger) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ledger.complete(REQUEST), 0.01)

    using(plugin, tmp_path / "calls.db", work)
    assert stored(tmp_path / "calls.db") == [(0, "reply 0")]


def test_each_job_may_have_its_own_teacher(teach: Any, tmp_path: Path) -> None:
    (writer, plugin), (solver, other) = teach(), teach()
    path = tmp_path / "calls.db"

    async def work() -> None:
        ledger = Ledger(plugin, path, "run", CallPolicy(), {"solve": other})
        await ledger.complete(REQUEST)
        await ledger.complete(replace(REQUEST, purpose="write"))
        await ledger.close()

    asyncio.run(work())
    assert [r.purpose for r in writer.asked] == ["write"]
    assert [r.purpose for r in solver.asked] == ["solve"]
    assert [(line.purpose, line.teacher, line.calls) for line in read_spending(path, "run").lines] == [
        ("solve", other.name, 1),
        ("write", plugin.name, 1),
    ]
    assert writer.closed
    assert solver.closed


def test_a_call_that_brings_the_wrong_number_is_booked(teach: Any, tmp_path: Path) -> None:
    fake, plugin = teach()
    fake.more = 1
    path = tmp_path / "calls.db"

    async def work(ledger: Ledger) -> None:
        with pytest.raises(PluginError):
            await ledger.complete(replace(REQUEST, n=3))

    using(plugin, path, work)
    assert read_spending(path, "run").cost_usd == 3 * 1.0 + 0.5 * 2.0
    assert len(stored(path)) == 3, "what came is kept"


def test_fewer_replies_than_asked_for_are_kept_and_the_rest_asked_for(teach: Any, tmp_path: Path) -> None:
    fake, plugin = teach()
    fake.more = -2
    path = tmp_path / "calls.db"

    async def hold() -> None:
        if len(fake.asked) == 2:
            fake.more = 0
            await asyncio.sleep(60)

    async def cut_off(ledger: Ledger) -> None:
        fake.hold = hold
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ledger.complete(replace(REQUEST, n=3)), 0.3)
        for task in ledger._sent:
            task.cancel()

    async def work(ledger: Ledger) -> Completion:
        return await ledger.complete(replace(REQUEST, n=3))

    using(plugin, path, cut_off)
    assert [number for number, _ in stored(path)] == [0], "on the disk before the second call ends"
    got = using(plugin, path, work)
    assert [(request.first, request.n) for request in fake.asked] == [(0, 3), (1, 2), (1, 2)]
    assert texts(got) == ["reply 0", "reply 1", "reply 2"]
    spent = read_spending(path, "run")
    assert (spent.calls, sum(line.replies for line in spent.lines)) == (3, 3)
    assert spent.unknown_bills == 1, "the call that was cut off may have been billed"


def test_a_refusal_or_failure_that_is_billed_is_booked(teach: Any, tmp_path: Path, pauses: list[float]) -> None:
    used = Usage(1_000_000, 0)
    _, plugin = teach(faults=[TransientError("half", usage=used), RowRefused("content_filter", usage=used)])

    async def work(ledger: Ledger) -> None:
        with pytest.raises(RowRefused):
            await ledger.complete(REQUEST)
        assert (ledger.get_spending().calls, ledger.get_spending().cost_usd) == (2, 2.0)

    using(plugin, tmp_path / "calls.db", work)


def test_too_many_is_no_failure(teach: Any, tmp_path: Path, pauses: list[float]) -> None:
    fake, plugin = teach(faults=[TransientError("429", limited=True)] * (TRIES + 4))

    async def work(ledger: Ledger) -> Completion:
        return await ledger.complete(REQUEST)

    using(plugin, tmp_path / "calls.db", work)
    assert len(fake.asked) == TRIES + 5


def test_a_wait_that_is_too_long_is_told_at_once(teach: Any, tmp_path: Path, pauses: list[float]) -> None:
    fake, plugin = teach(faults=[TransientError("429: the day is over", retry_after=80_000.0, limited=True)])

    async def work(ledger: Ledger) -> None:
        with pytest.raises(TeacherError, match="the day is over"):
            await ledger.complete(REQUEST)

    using(plugin, tmp_path / "calls.db", work)
    assert len(fake.asked) == 1


def test_a_budget_wants_a_price(teach: Any, tmp_path: Path) -> None:
    fake, plugin = teach(price=None)

    async def work() -> None:
        ledger = Ledger(plugin, tmp_path / "calls.db", "run", CallPolicy(budget=1.0))
        with pytest.raises(TeacherError, match=r"price of 'm' is not known.*--price m=PROMPT,COMPLETION"):
            await ledger.complete(REQUEST)
        await ledger.close()
        ledger = Ledger(plugin, tmp_path / "calls.db", "run", CallPolicy(budget=9.0, prices={"m": Price(2.0, 2.0)}))
        await ledger.complete(REQUEST)
        assert ledger.get_spending().cost_usd == 3.0, "the user's price"
        await ledger.close()

    asyncio.run(work())
    assert len(fake.asked) == 1


# --- faults of a teacher ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [-3, 1])
def test_another_number_of_replies_is_told_with_the_teachers_name(teach: Any, tmp_path: Path, more: int) -> None:
    fake, plugin = teach()
    fake.more = more

    async def work(ledger: Ledger) -> None:
        with pytest.raises(PluginError, match=f"of stranger-teacher0 gave {3 + more} replies to a request for 3"):
            await ledger.complete(replace(REQUEST, n=3))

    using(plugin, tmp_path / "calls.db", work)


def test_a_reply_without_text_is_told_with_the_teachers_name(teach: Any, tmp_path: Path) -> None:
    _, plugin = teach(texts=lambda number: None)

    async def work(ledger: Ledger) -> None:
        with pytest.raises(PluginError, match="stranger-teacher0"):
            await ledger.complete(REQUEST)

    using(plugin, tmp_path / "calls.db", work)


def test_a_passing_fault_is_tried_again(teach: Any, tmp_path: Path, pauses: list[float]) -> None:
    fake, plugin = teach(faults=[TransientError("429", retry_after=70.0), TransientError("time-out")])

    async def work(ledger: Ledger) -> Completion:
        return await ledger.complete(REQUEST)

    assert texts(using(plugin, tmp_path / "calls.db", work)) == ["reply 0"]
    assert len(fake.asked) == 3
    waited = [pause for pause in pauses if pause]
    assert 70.0 <= waited[0] <= 84.0, "what the provider asks for is waited"
    assert waited[1] <= 4.0
    assert read_spending(tmp_path / "calls.db", "run").calls == 1


def test_a_fault_that_stays_stops_the_run_with_a_sentence(teach: Any, tmp_path: Path, pauses: list[float]) -> None:
    fake, plugin = teach(faults=[TransientError("no route to host")] * 100)

    async def work(ledger: Ledger) -> None:
        with pytest.raises(TeacherError) as caught:
            await ledger.complete(REQUEST)
        for words in ("teacher0", f"{TRIES} times", "no route to host", "same command"):
            assert words in str(caught.value)

    using(plugin, tmp_path / "calls.db", work)
    assert len(fake.asked) == TRIES
    waited = [pause for pause in pauses if pause]
    assert len(waited) == TRIES - 1
    assert sum(waited) <= 190, "with full jitter"


def test_a_teacher_that_cannot_go_on_is_not_tried_again(teach: Any, tmp_path: Path) -> None:
    fake, plugin = teach(faults=[TeacherError("the key is refused")])

    async def work(ledger: Ledger) -> None:
        with pytest.raises(TeacherError, match="the key is refused"):
            await ledger.complete(REQUEST)

    using(plugin, tmp_path / "calls.db", work)
    assert len(fake.asked) == 1


def test_the_others_get_their_replies_where_one_fails(teach: Any, tmp_path: Path) -> None:
    _, plugin = teach(faults=[RowRefused("content_filter")])

    async def work(ledger: Ledger) -> list[Any]:
        requests = [replace(REQUEST, first=n, model=str(n)) for n in range(4)]
        return await asyncio.gather(*map(ledger.complete, requests), return_exceptions=True)

    outcome = using(plugin, tmp_path / "calls.db", work)
    assert [type(each).__name__ for each in outcome].count("Completion") == 3
    assert len(stored(tmp_path / "calls.db")) == 3


def test_no_more_are_under_way_than_allowed(teach: Any, tmp_path: Path) -> None:
    fake, plugin = teach()
    fake.hold = lambda: asyncio.sleep(0.001)

    async def work(ledger: Ledger) -> None:
        await asyncio.gather(*(ledger.complete(replace(REQUEST, model=str(n))) for n in range(12)))

    using(plugin, tmp_path / "calls.db", work, at_once=3)
    assert fake.most_under_way == 3


def test_lone_surrogates_in_a_reply_are_stored_as_question_marks(teach: Any, tmp_path: Path) -> None:
    _, plugin = teach(texts=lambda number: "a \ud800 b \U0001f600 \x00")

    async def work(ledger: Ledger) -> list[list[str]]:
        return [texts(await ledger.complete(REQUEST)) for _ in range(2)]

    assert using(plugin, tmp_path / "calls.db", work) == [["a ? b \U0001f600 \x00"]] * 2


def test_a_cancelled_request_keeps_what_was_paid_for(teach: Any, tmp_path: Path) -> None:
    fake, plugin = teach()
    path = tmp_path / "calls.db"

    async def work(ledger: Ledger) -> None:
        asking = asyncio.create_task(ledger.complete(REQUEST))
        while not ledger._sent:
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    using(plugin, path, work)
    assert stored(path) == [(0, "reply 0")]
    assert fake.closed


# --- money -----------------------------------------------------------------------------------------------------------


def test_spending_is_booked_once_and_on_the_run_that_asked(teach: Any, tmp_path: Path) -> None:
    _, plugin = teach()
    path = tmp_path / "calls.db"

    async def work(ledger: Ledger) -> Any:
        await ledger.complete(replace(REQUEST, n=2))
        return ledger.get_spending()

    spent = using(plugin, path, work)
    assert (spent.calls, spent.cost_usd, spent.priced) == (1, 2 * 1.0 + 0.5 * 2.0, True)
    assert using(plugin, path, work) == spent, "opened again, nothing is counted twice"
    assert replace(read_spending(path, "run"), lines=()) == spent
    other = using(plugin, path, work, run="other")
    assert (other.calls, other.cost_usd, other.priced) == (0, 0.0, True)


def test_an_unknown_price_is_said(teach: Any, tmp_path: Path) -> None:
    _, plugin = teach(price=None)

    async def work(ledger: Ledger) -> Any:
        await ledger.complete(REQUEST)
        return ledger.get_spending()

    spent = using(plugin, tmp_path / "calls.db", work)
    assert (spent.calls, spent.cost_usd, spent.priced) == (1, 0.0, False)


def test_cached_tokens_have_their_own_price() -> None:
    usage = Usage(prompt_tokens=3_000_000, completion_tokens=1_000_000, cached_tokens=2_000_000)
    assert Price(1.0, 10.0, cached=0.1).cost(usage) == pytest.approx(1.0 + 0.2 + 10.0)
    assert Price(1.0, 10.0).cost(usage) == pytest.approx(13.0)


def test_no_reply_store_is_no_spending(tmp_path: Path) -> None:
    assert read_spending(tmp_path / "none.db", "run").calls == 0
    assert not (tmp_path / "none.db").exists()


# --- keys ------------------------------------------------------------------------------------------------------------


def test_the_key_changes_with_whatever_decides_a_reply(teach: Any, bound: Any) -> None:
    _, plugin = teach()
    optioned = bound("teacher", FakeTeacher, slip=0.5)
    _, identified = teach(identity="rules 2")
    keys = [
        compute_request_key(plugin, REQUEST),
        compute_request_key(optioned, REQUEST),
        compute_request_key(identified, REQUEST),
        compute_request_key(plugin, replace(REQUEST, model="other")),
        compute_request_key(plugin, replace(REQUEST, messages=REQUEST.messages[1:])),
        compute_request_key(plugin, replace(REQUEST, messages=(Message("user", "Add."), REQUEST.messages[1]))),
        compute_request_key(plugin, replace(REQUEST, messages=(REQUEST.messages[0], Message("user", "1 + 2?")))),
        compute_request_key(plugin, replace(REQUEST, temperature=0.0)),
        compute_request_key(plugin, replace(REQUEST, top_p=0.9)),
        compute_request_key(plugin, replace(REQUEST, max_tokens=65)),
        compute_request_key(plugin, replace(REQUEST, schema={"type": "object"})),
    ]
    assert len(set(keys)) == len(keys)


def test_the_key_does_not_hang_on_purpose_variables_or_numbers(teach: Any) -> None:
    _, plugin = teach()
    same = replace(REQUEST, purpose="write", variables={"input": "x"}, n=5, first=3)
    assert compute_request_key(plugin, same) == compute_request_key(plugin, REQUEST)


def test_the_key_does_not_hang_on_the_order_of_options_or_schema(bound: Any) -> None:
    class Two:
        def __init__(self, a: int, b: int) -> None: ...

        complete = FakeTeacher.complete
        price = FakeTeacher.price

    schema = {"type": "object", "required": ["input"]}
    turned = dict(reversed(schema.items()))
    first, second = bound("teacher", Two, a=1, b=2), bound("teacher", Two, b=2, a=1)
    keys = {
        compute_request_key(replace(plugin, ref=replace(plugin.ref, name="two")), replace(REQUEST, schema=given))
        for plugin in (first, second)
        for given in (schema, turned)
    }
    assert len(keys) == 1


# --- the file --------------------------------------------------------------------------------------------------------


def open_run(plugin: Plugin[Any], path: Path) -> None:
    async def nothing(ledger: Ledger) -> None: ...

    using(plugin, path, nothing)


def test_a_damaged_file_is_told(teach: Any, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    path.write_bytes(b"this is no database" * 1000)
    with pytest.raises(
        StoreError, match=r"calls\.db is damaged or no database .*`sqlite3 .* \.recover` .*; move it away"
    ):
        open_run(teach()[1], path)


def test_a_folder_in_its_place_is_told(teach: Any, tmp_path: Path) -> None:
    (tmp_path / "calls.db").mkdir()
    with pytest.raises(StoreError, match=r"calls\.db cannot be written"):
        open_run(teach()[1], tmp_path / "calls.db")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StoreError, match="cannot be written"):
        open_run(teach()[1], tmp_path / "file" / "calls.db")


def test_a_file_of_a_newer_version_is_told(teach: Any, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    open_run(teach()[1], path)
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(StoreError, match=r"from a newer version of dsrl .*; update dsrl"):
        open_run(teach()[1], path)


def failing_store(
    plugin: Plugin[Any], fake: FakeTeacher, path: Path, fail: Callable[[Ledger], Callable[[], None]]
) -> list[str]:
    """Let the store fail while four calls are in flight, and repair it later; return the notes.

    Twenty more requests wait for their turn. ``fail`` gives what mends it.
    """
    notes: list[str] = []

    async def work() -> None:
        ledger = Ledger(plugin, path, "run", CallPolicy(4), note=notes.append)
        mend: list[Callable[[], None]] = []

        async def hold() -> None:
            if len(fake.asked) == 4 and not mend:
                mend.append(fail(ledger))
            while not mend:
                await asyncio.sleep(0)
            await asyncio.sleep(0.1)

        fake.hold = hold
        requests = [replace(REQUEST, first=number) for number in range(24)]
        asking = asyncio.gather(*map(ledger.complete, requests))
        try:
            async with asyncio.timeout(20):
                while not notes:
                    await asyncio.sleep(0.01)
                out = len(fake.asked)
                await asyncio.sleep(0.2)
                assert len(fake.asked) == out < 24, "no new call goes out once a write has failed"
                mend[0]()
                assert {tuple(texts(completion)) for completion in await asking} == {
                    (text,) for _, text in stored(path)
                }
        finally:
            ledger._store.database._timeout = 0.0
            await ledger.close()

    asyncio.run(work())
    assert len(fake.asked) == len(stored(path)) == 24, "nothing was asked for twice"
    return notes


def test_what_is_delivered_while_the_file_is_locked_is_stored_later(
    teach: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsrl.teaching.database._RETRY_PAUSE", 0.05)
    fake, plugin = teach()
    path = tmp_path / "calls.db"

    def lock(ledger: Ledger) -> Callable[[], None]:
        ledger._store.database._writer.execute("PRAGMA busy_timeout=10")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        return other.close

    notes = failing_store(plugin, fake, path, lock)
    assert "is locked by another process; end it or wait for it" in notes[0] or "is locked by process" in notes[0]
    assert "Paid replies wait in memory" in notes[0]
    assert notes[1:] == [f"{path} can be written again; the run continues"]


def test_what_is_delivered_while_the_disk_is_full_is_stored_later(
    teach: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsrl.teaching.database._RETRY_PAUSE", 0.05)
    fake, plugin = teach(texts=lambda number: f"{number}" * 100_000)

    def fill(ledger: Ledger) -> Callable[[], None]:
        (pages,) = ledger._store.database._writer.execute("PRAGMA page_count").fetchone()
        ledger._store.database._writer.execute(
            f"PRAGMA max_page_count={pages + 2}"
        )  # SQLite raises the same error as on a full disk
        return lambda: ledger._store.database._writer.execute("PRAGMA max_page_count=1000000").close()

    notes = failing_store(plugin, fake, tmp_path / "calls.db", fill)
    assert notes[0].startswith(f"{tmp_path / 'calls.db'}: no room on the disk; free some. Paid replies wait")


def test_a_disk_that_stays_full_ends_the_wait(teach: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsrl.teaching.database._RETRY_PAUSE", 0.02)
    monkeypatch.setattr("dsrl.teaching.database.WRITE_TIMEOUT", 0.1)
    _, plugin = teach(texts=lambda number: "x" * 100_000)
    path = tmp_path / "calls.db"
    notes: list[str] = []

    async def work() -> None:
        ledger = Ledger(plugin, path, "run", CallPolicy(4), note=notes.append)
        await ledger.complete(REQUEST)
        (pages,) = ledger._store.database._writer.execute("PRAGMA page_count").fetchone()
        ledger._store.database._writer.execute(f"PRAGMA max_page_count={pages + 2}")
        with pytest.raises(StoreError, match=r"calls\.db: no room on the disk; free some"):
            await ledger.complete(replace(REQUEST, first=1))
        await ledger.close()

    asyncio.run(work())
    assert [number for number, _ in stored(path)] == [0]
    assert notes[-1] == f"1 paid replies could not be written to {path} and are lost"


def test_whoever_hurries_ends_the_wait_for_a_full_disk(teach: Any, tmp_path: Path) -> None:
    """Ctrl-C hurries the ledger."""
    _, plugin = teach(texts=lambda number: "x" * 100_000)
    notes: list[str] = []

    async def work() -> None:
        ledger = Ledger(plugin, tmp_path / "calls.db", "run", CallPolicy(4), note=notes.append)
        (pages,) = ledger._store.database._writer.execute("PRAGMA page_count").fetchone()
        ledger._store.database._writer.execute(f"PRAGMA max_page_count={pages + 2}")
        asking = asyncio.create_task(ledger.complete(REQUEST))
        while not notes:
            await asyncio.sleep(0.01)
        asking.cancel()
        async with asyncio.timeout(20):
            await ledger.close(hurry=True)

    asyncio.run(work())
    assert "are lost" in notes[-1]


def test_many_processes_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dsrl.teaching.reply_store import ReplyStore\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
        "calls = ReplyStore(Path(sys.argv[1]), 'run')\n"
        "calls.database._writer.execute('INSERT INTO holds (run, usd) VALUES (0, 1.0)')"
    )
    path = str(tmp_path / "calls.db")
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in started:
        assert process.stdout
        process.stdout.readline()
    for process in started:
        assert process.stdin
        process.stdin.close()
    told = [process.stderr.read() for process in started if process.stderr]
    assert [process.wait() for process in started] == [0] * 4, "\n".join(told)
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM holds").fetchone() == (4,), "all have the same file"
    assert [file.name for file in tmp_path.iterdir() if file.name.endswith(".new")] == []


def test_the_teachers_of_another_task_share_store_limits_and_end(teach: Any, tmp_path: Path) -> None:
    first, first_plugin = teach(identity="first task")
    second, second_plugin = teach(identity="second task")

    async def ask() -> None:
        ledger = Ledger(first_plugin, tmp_path / "calls.db", "run", CallPolicy(8))
        others = ledger.route(dict.fromkeys(get_args(Purpose), second_plugin))
        for requester in (ledger, others, others):
            await requester.complete(REQUEST)
        assert ledger.get_spending().calls == 2, "the third request was stored"
        await ledger.close()

    asyncio.run(ask())
    assert (len(first.asked), len(second.asked)) == (1, 1)
    assert first.closed
    assert second.closed
