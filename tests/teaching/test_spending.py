"""Many short runs with random budgets, latencies and faults: the cap holds, and no reply is lost or requested twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dsrl.errors import BudgetReached, RowRefused, TeacherError, TransientError
from dsrl.plugins.binding import Plugin, load
from dsrl.plugins.specs import hookimpl
from dsrl.teaching.ledger import CallPolicy, Ledger
from dsrl.teaching.reply_store import read_spending
from dsrl.testing.fault_server import Fault, FaultServer
from dsrl.types import Completion, Message, PluginRef, Price, Rate, Reply, Request, Usage

PRICE = Price(3.0, 15.0, cached=0.3, cache_write=3.75)


class FakeProvider:
    """Records what it bills, and fails in every way that a provider does."""

    def __init__(self, seed: int = 0, faulty: float = 0.0, book: str = "") -> None:
        self.random, self.faulty, self.book = random.Random(seed), faulty, book
        self.billed = 0.0
        self.secret = 0.0  # the part that it did not report
        self.served: Counter[tuple[str, int]] = Counter()

    def bill(self, usage: Usage, request: Request, answered: bool) -> None:
        self.billed += PRICE.cost(usage)
        if answered:
            numbers = range(request.first, request.first + request.n)
            self.served.update((request.messages[0].content, number) for number in numbers)
        if self.book:
            with open(self.book, "a", encoding="utf-8") as file:
                file.write(json.dumps([PRICE.cost(usage), request.messages[0].content, request.first, answered]) + "\n")

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        rng = self.random
        await asyncio.sleep(rng.random() * 0.004)
        prompt = rng.randint(1, len(request.messages[0].content))
        usage = Usage(prompt * request.n, rng.randint(1, request.max_tokens) * request.n, 0, rng.randint(0, prompt))
        lot = rng.random()
        if lot < self.faulty:
            fault = rng.choice([
                TransientError("429", 0.001, Rate(0, None, 0.001), limited=True),
                TransientError("500"),
                TransientError("half an answer", usage=usage),
                TransientError("cut", unknown=True),
                TransientError("cut after the work was done", unknown=True),
                RowRefused("content_filter"),
                RowRefused("content_filter", usage=usage),
            ])  # fmt: skip
            if getattr(fault, "usage", None) or "done" in str(fault):
                self.bill(usage, request, answered=False)
            if "done" in str(fault):
                self.secret += PRICE.cost(usage)
            raise fault
        self.bill(usage, request, answered=True)
        await asyncio.sleep(rng.random() * 0.002)
        return Completion(tuple(Reply(f"r{i}") for i in range(request.n)), usage)

    @hookimpl
    def price(self, model: str) -> Price:
        return PRICE

    @hookimpl
    def max_n(self, model: str) -> int:
        return 3


def request(number: int, n: int = 1) -> Request:
    return Request("solve", "m", (Message("user", f"question {number} " + "x" * (number % 50)),), 0.7, 200, n=n)


async def ask_all(
    plugin: Plugin[Any], path: Path, budget: float | None, requests: list[Request], at_once: int
) -> list[Any]:
    ledger = Ledger(plugin, path, "run", CallPolicy(at_once, budget=budget))
    try:
        return await asyncio.gather(*map(ledger.complete, requests), return_exceptions=True)
    finally:
        await ledger.close()


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsrl.teaching.patience.LONGEST_PAUSE", 0.001)


@pytest.mark.parametrize("seed", [*range(20), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(20, 100))])
def test_the_cap_is_never_passed_and_nothing_is_lost_or_asked_twice(
    bound: Any, tmp_path: Path, no_pause: None, seed: int
) -> None:
    rng = random.Random(seed)
    teacher = FakeProvider(seed, rng.choice([0.0, 0.1, 0.3]))
    plugin = bound("teacher", teacher)
    requests = [request(number, rng.randint(1, 5)) for number in range(rng.randint(5, 40))]
    path = tmp_path / "calls.db"
    budget = rng.random() * 0.05
    for _ in range(3):  # three sessions, each with more money
        outcomes = asyncio.run(ask_all(plugin, path, budget, requests, rng.choice([1, 4, 64])))
        spent = read_spending(path, "run")
        assert teacher.billed <= budget + 1e-9
        assert spent.cost_usd == pytest.approx(teacher.billed - teacher.secret), "what was billed is booked"
        assert spent.uncertain_usd >= teacher.secret - 1e-9
        assert spent.uncertain_usd == 0 or teacher.faulty
        assert all(count == 1 for count in teacher.served.values())
        database = sqlite3.connect(path)
        (stored,) = database.execute("SELECT count(*) FROM replies").fetchone()
        database.close()
        assert stored == len(teacher.served), "what was answered is stored"
        for outcome in outcomes:
            assert isinstance(outcome, (Completion, BudgetReached, RowRefused, TeacherError)), outcome
        budget *= 3


def lost(how: str) -> Fault:
    """Return an answer that the provider bills and that does not arrive whole."""
    return {"cut": Fault(how="cut"), "half": Fault(how="half"), "text": Fault(body="{")}[how]


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 20))])
def test_the_cap_holds_over_a_real_connection(tmp_path: Path, no_pause: None, seed: int) -> None:
    """The calls use the official SDK. The provider bills all its answers, also those that do not arrive."""
    rng = random.Random(seed)
    price, path = Price(3.0, 15.0), tmp_path / "calls.db"
    cost = price.cost(Usage(100, 10))
    texts = [f"question {number} " + "x" * 100 for number in range(40)]
    requests = [Request("solve", "gpt-4o", (Message("user", text),), 0.7, 20) for text in texts]
    order = [
        rng.choice(
            [Fault(429, headers={"Retry-After": "0.01"}), Fault(429), Fault(500), *map(lost, ("cut", "half", "text"))]
        )
        if rng.random() < 0.3
        else Fault()
        for _ in range(400)
    ]
    budget = 0.0
    with FaultServer() as server:
        server.faults.extend(order)
        for _ in range(3):
            budget += rng.random() * 40 * cost
            policy = CallPolicy(rng.choice([1, 4, 64]), budget=budget, prices={"gpt-4o": price})

            async def sitting(policy: CallPolicy = policy) -> None:
                teacher = load(PluginRef("teacher", "openai", {"base_url": server.url}), "teacher")
                ledger = Ledger(teacher, path, "run", policy)
                try:
                    await asyncio.gather(*map(ledger.complete, requests), return_exceptions=True)
                finally:
                    await ledger.close()

            asyncio.run(sitting())
            answered = [fault for fault in order[: len(server.requests)] if fault.status == 200]
            spent = read_spending(path, "run")
            assert len(answered) * cost <= budget + 1e-9
            assert spent.cost_usd == pytest.approx(cost * answered.count(Fault()))
            assert spent.cost_usd + spent.uncertain_usd >= len(answered) * cost - 1e-9
        met = zip(server.bodies, order[: len(server.requests)], strict=True)
        good = [body["messages"][0]["content"] for body, fault in met if fault == Fault()]
        assert len(good) == len(set(good)), "none is asked twice"


def test_a_tight_budget_is_used_up(bound: Any, tmp_path: Path, no_pause: None) -> None:
    """Calls wait for what other calls leave of their holds, so less than one worst case of the budget is left over."""
    teacher = FakeProvider()
    plugin = bound("teacher", teacher)
    outcomes = asyncio.run(ask_all(plugin, tmp_path / "calls.db", 0.02, [request(n) for n in range(100)], 64))
    worst = 0.0035
    assert 0.02 - worst < teacher.billed <= 0.02
    assert any(isinstance(outcome, BudgetReached) for outcome in outcomes)


CHILD = """
import asyncio, sys
from pathlib import Path
from teaching.test_spending import FakeProvider, ask_all, request
from dsrl.plugins.binding import Plugin, _bind
from dsrl.plugins.discovery import PluginInfo
from dsrl.types import PluginRef

book, path, seed = sys.argv[1:]
ref = PluginRef("teacher", "fake")
plugin = _bind(ref, PluginInfo("teacher", "fake", "", "fake", "1"), FakeProvider(int(seed), 0.1, book))
import dsrl.teaching.patience
dsrl.teaching.patience.LONGEST_PAUSE = 0.001
print("ready", flush=True)
asyncio.run(ask_all(plugin, Path(path), float(0.15), [request(n, 2) for n in range(200)], 16))
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_kill_9_at_any_moment(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    book, path = tmp_path / "book", tmp_path / "calls.db"
    book.touch()
    command = [sys.executable, "-c", CHILD, str(book), str(path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    for sitting in range(4):
        with subprocess.Popen(
            [*command, str(seed * 10 + sitting)], env=environment, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            if sitting < 3:
                time.sleep(rng.random() * 0.4)
                child.send_signal(signal.SIGKILL)
            child.wait(60)
        rows = [json.loads(line) for line in book.read_text().splitlines()]
        billed = sum(cost for cost, *_ in rows)
        spent = read_spending(path, "run")
        assert billed <= 0.15 + 1e-9, "the provider's own book"
        assert billed <= spent.cost_usd + spent.uncertain_usd + 1e-9
    database = sqlite3.connect(path)
    numbers = Counter(key for (key,) in database.execute("SELECT key FROM replies"))
    database.close()
    answered = Counter((text, first) for _, text, first, good in rows if good)
    # Replies that were stored before a kill are not requested again; only calls that the kill cut off are.
    again = sum(count - 1 for count in answered.values())
    assert again <= 3 * 16
    assert set(numbers.values()) <= {1, 2, 3}
