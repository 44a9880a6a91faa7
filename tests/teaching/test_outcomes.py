"""What calls are billed for, checked against fake providers that keep their own records and do not always report them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dsrl.errors import BudgetReached, PluginError, RowRefused, TeacherError, TransientError
from dsrl.plugins.specs import hookimpl
from dsrl.teaching.ledger import CallPolicy, Ledger
from dsrl.teaching.outcomes import Bill, Billing, Ending, read_outcome, read_usage
from dsrl.teaching.reply_store import Spending, read_spending, read_statistics
from dsrl.types import Completion, Message, Price, Reply, Request, Usage

PRICE = Price(3.0, 15.0)
MOST = 200  # tokens of a reply
REPLY = (Reply("r"),)


class FakeProvider:
    """Records what it bills, and ends every call as ``end`` says."""

    def __init__(self, price: Price | None = PRICE) -> None:
        self.cost = price
        self.calls, self.billed = 0, 0.0
        self.usage, self.seconds = Usage(20, MOST), 0.0
        self.end: Callable[[Usage], Completion | BaseException] = lambda usage: Completion(REPLY, usage)

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        self.calls += 1
        self.billed += PRICE.cost(self.usage)
        await asyncio.sleep(self.seconds)
        ended = self.end(self.usage)
        if isinstance(ended, BaseException):
            raise ended
        return ended

    @hookimpl
    def price(self, model: str) -> Price | None:
        return self.cost


@pytest.fixture
def provider(bound: Any) -> tuple[FakeProvider, Any]:
    fake = FakeProvider()
    return fake, bound("teacher", fake)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsrl.teaching.patience.LONGEST_PAUSE", 0.001)


def ask(plugin: Any, path: Path, requests: int, budget: float | None) -> tuple[list[Any], Spending]:
    async def sitting() -> tuple[list[Any], Spending]:
        ledger = Ledger(plugin, path, "run", CallPolicy(8, budget=budget))
        texts = (Message("user", f"question {number:05}") for number in range(requests))
        try:
            calls = (ledger.complete(Request("solve", "m", (text,), 0.7, MOST)) for text in texts)
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            return outcomes, ledger.get_spending()
        finally:
            await ledger.close()

    return asyncio.run(sitting())


HALF = Usage(20, 0)
ODD: dict[str, Any] = {
    "none": None,
    "zeros": Usage(),
    "negative": Usage(20, -200),
    "bool": Usage(True, True),
    "float": Usage(20, 200.0),  # type: ignore[arg-type]
    "nan": Usage(20, float("nan")),  # type: ignore[arg-type]
    "text": Usage(20, "200"),  # type: ignore[arg-type]
    "absurd": Usage(20, 10**13),
    "cached": Usage(20, 200, cached_tokens=10**9),
    "dict": {"prompt_tokens": 20, "completion_tokens": 200},
}
FAILURES: dict[str, Callable[[Usage], BaseException]] = {
    "transient, with its bill": lambda usage: TransientError("500", usage=usage),
    "transient, not known": lambda usage: TransientError("cut", unknown=True),
    "transient, half a bill": lambda usage: TransientError("500", usage=HALF, unknown=True),
    "refused, with its bill": lambda usage: RowRefused("content_filter", usage=usage),
    "refused, not known": lambda usage: RowRefused("content_filter", unknown=True),
    "teacher, with its bill": lambda usage: TeacherError("error in a 200", usage=usage),
    "teacher, not known": lambda usage: TeacherError("error in a 200", unknown=True),
    "a fault of the plugin": lambda usage: ValueError("a reply that the plugin cannot read"),
}


@pytest.mark.parametrize("usage", ODD.values(), ids=ODD)
def test_a_usage_that_cannot_be_meant_is_not_known_and_the_cap_holds(provider: Any, tmp_path: Path, usage: Any) -> None:
    fake, plugin = provider
    fake.end = lambda _: Completion(REPLY, usage)
    path = tmp_path / "calls.db"
    for budget in (0.05, 0.06):
        outcomes, _ = ask(plugin, path, 40, budget)
        assert 0 < fake.billed <= budget
        assert any(isinstance(outcome, BudgetReached) for outcome in outcomes)
        spent = read_spending(path, "run")
        assert spent.cost_usd + spent.uncertain_usd >= fake.billed - 1e-9
        assert (spent.unknown_bills, spent.priced) == (fake.calls, False)
    assert sum(line.replies for line in spent.lines) == fake.calls, "what was answered is kept"


@pytest.mark.parametrize("end", FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("budget", [0.05, None])
def test_a_failed_call_counts_with_what_it_was_billed_for(
    provider: Any, tmp_path: Path, end: Any, budget: float | None
) -> None:
    fake, plugin = provider
    fake.end = end
    path = tmp_path / "calls.db"
    for _ in range(3):
        ask(plugin, path, 20, budget)
        spent = read_spending(path, "run")
        assert fake.billed > 0
        assert spent.cost_usd + spent.uncertain_usd >= fake.billed - 1e-9
        if budget is not None:
            assert fake.billed <= budget + 1e-9


def test_a_call_that_was_not_billed_leaves_no_trace(provider: Any, tmp_path: Path) -> None:
    fake, plugin = provider
    faults = iter([TransientError("429", limited=True), RowRefused("content_filter"), TeacherError("no key")])
    fake.end = lambda usage: next(faults)
    for _ in range(2):
        ask(plugin, tmp_path / "calls.db", 1, None)
    assert read_spending(tmp_path / "calls.db", "run") == Spending(0, 0.0, True)


def test_without_a_budget_paid_calls_that_do_not_say_their_bill_are_not_free(provider: Any, tmp_path: Path) -> None:
    fake, plugin = provider
    fake.end = lambda usage: Completion(REPLY)
    path = tmp_path / "calls.db"
    _, live = ask(plugin, path, 33, None)
    spent = read_spending(path, "run")
    for said in (live, spent):
        assert (said.calls, said.cost_usd, said.priced, said.unknown_bills, said.unpriced) == (33, 0.0, False, 33, 0)
    assert spent.uncertain_usd >= fake.billed
    assert spent.lines[0].cost_usd is None
    assert read_statistics(path, "solve", plugin.name, "m") is None, "a forecast has nothing to go by"
    asked = fake.calls
    outcomes, _ = ask(plugin, path, 40, fake.billed)
    assert fake.calls == asked, "a budget given later counts them at their worst case"
    assert sum(isinstance(outcome, BudgetReached) for outcome in outcomes) == 7


def test_a_bill_that_is_larger_than_its_worst_case_is_booked_as_it_is(provider: Any, tmp_path: Path) -> None:
    fake, plugin = provider
    fake.usage = Usage(20, 10 * MOST)
    path = tmp_path / "calls.db"
    outcomes, spent = ask(plugin, path, 100, 0.05)
    assert spent.cost_usd == pytest.approx(fake.billed)
    assert spent.cost_usd > 0.05, "this is what the provider did"
    assert fake.calls <= 2 * 8, "no call was made after the bill was known"
    assert read_spending(path, "run").uncertain_usd == 0
    asked = fake.calls
    outcomes, _ = ask(plugin, path, 100, 0.05)
    assert fake.calls == asked
    assert any(isinstance(outcome, BudgetReached) for outcome in outcomes)


def test_what_is_no_completion_names_the_plugin_and_its_bill_is_not_known(provider: Any, tmp_path: Path) -> None:
    fake, plugin = provider
    fake.end = lambda usage: {"text": "r"}  # type: ignore[assignment,return-value]
    (outcome,), spent = ask(plugin, tmp_path / "calls.db", 1, None)
    assert isinstance(outcome, PluginError)
    assert "returned dict, not Completion" in str(outcome)
    assert spent.unknown_bills == 1


def test_a_free_teacher_owes_no_account() -> None:
    free = Price(0.0, 0.0)
    assert read_outcome(Completion(REPLY), 1, free).bill == Bill(Billing.KNOWN, cost=0.0)
    assert read_outcome(Completion(REPLY, Usage()), 1, free).bill.billing is Billing.KNOWN
    assert read_outcome(TransientError("cut", unknown=True), 1, free).bill.billing is Billing.NONE
    assert read_outcome(Completion(REPLY, Usage()), 1, PRICE).bill.billing is Billing.UNKNOWN
    assert read_usage(Usage(20, 0)) == Usage(20, 0)


def test_waiting_for_money_is_not_the_latency_of_the_provider(provider: Any, tmp_path: Path) -> None:
    """One call at a time fits into the budget, and each takes a fiftieth of a second."""
    fake, plugin = provider
    fake.usage, fake.seconds = Usage(1, 1), 0.02

    async def sitting() -> float:
        ledger = Ledger(plugin, tmp_path / "calls.db", "run", CallPolicy(8, budget=0.006))
        texts = (Message("user", f"question {number:05}") for number in range(32))
        began = time.monotonic()
        try:
            calls = (ledger.complete(Request("solve", "m", (text,), 0.7, MOST)) for text in texts)
            await asyncio.gather(*calls)
            assert time.monotonic() - began > 32 * 0.02, "they waited for each other's money"
            return ledger._default_route.limiter._mean
        finally:
            await ledger.close()

    assert asyncio.run(sitting()) < 0.08


def test_how_a_call_ended_is_read_in_one_place() -> None:
    used = Usage(20, 10)
    good = read_outcome(Completion((Reply("a \ud800"), Reply("b")), used), 2, PRICE, seconds=0.5)
    assert (good.ending, good.tokens, good.seconds, good.defect) == (Ending.ANSWERED, 30, 0.5, "")
    assert [reply.text for reply in good.replies] == ["a ?", "b"]
    assert good.bill == Bill(Billing.KNOWN, used, PRICE.cost(used))
    limited = read_outcome(TransientError("429", retry_after=3.0, limited=True), 1, PRICE)
    assert (limited.ending, limited.retry_after, limited.bill.billing) == (Ending.RATE_LIMITED, 3.0, Billing.NONE)
    failed = read_outcome(TransientError("500", usage=used), 1, None)
    assert (failed.ending, failed.tokens) == (Ending.FAILED, None)
    assert failed.bill == Bill(Billing.KNOWN, used, None), "billed, at a price that is not known"
    assert read_outcome(ValueError("x"), 1, PRICE).bill == Bill(Billing.UNKNOWN)


def test_replies_that_cannot_be_stored_are_a_defect() -> None:
    many = read_outcome(Completion((Reply("a"),) * 3, Usage(1, 1)), 2, PRICE)
    assert (len(many.replies), many.defect) == (2, "gave 3 replies to a request for 2")
    odd = read_outcome(Completion((Reply("a"), Reply(None)), Usage(1, 1)), 2, PRICE)  # type: ignore[arg-type]
    assert (len(odd.replies), odd.defect) == (1, "gave a reply that is not a text")
    assert read_outcome(Completion((), Usage(1, 1)), 2, PRICE).defect == "gave 0 replies to a request for 2"
