"""The contract class of teachers with batches: it drives the plugin behind the ledger, against the fault server.

A subclass states how its provider writes the lines of results in which something went wrong.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dsrl.errors import BudgetReached, RowRefused, TeacherError, TransientError
from dsrl.plugins.binding import Plugin, load
from dsrl.teaching.batches import list_batches
from dsrl.teaching.ledger import CallPolicy, Ledger
from dsrl.teaching.reply_store import read_spending
from dsrl.testing.fault_server import Fault, FaultServer
from dsrl.types import Completion, Message, PluginRef, Price, Request

T = TypeVar("T")
#: Makes dollars easy to count: a token costs a tenth of a cent, and half of that in a batch.
PRICE = Price(1000.0, 1000.0, batch=0.5)

CHILD = """
import asyncio, sys
from pathlib import Path
from dsrl.testing.contracts.batches import complete_requests, run_session
from dsrl.teaching.batches import limits
limits.WINDOW, limits.POLL_PAUSES, limits.MAX_REQUESTS = 0.02, (0.01, 0.01), 3
plugin, address, model, path, run, count = sys.argv[1:]
__import__(plugin)  # the import takes longer than the rest
print("ready", flush=True)
outcome = asyncio.run(run_session(plugin, address, model, Path(path), complete_requests(model, int(count)), run=run))
print(*(each.replies[0].text for each in outcome), sep="|")
"""


def make_requests(model: str, count: int) -> list[Request]:
    """Return requests that all differ."""
    return [Request("write", model, (Message("user", f"Write {n}."),), 1.0, 100) for n in range(count)]


def complete_requests(model: str, count: int) -> Callable[[Ledger], Coroutine[Any, Any, list[Any]]]:
    """Return work that sends all requests at the same time. Its outcomes are completions or errors."""

    async def work(ledger: Ledger) -> list[Any]:
        return await asyncio.gather(*map(ledger.complete, make_requests(model, count)), return_exceptions=True)

    return work


async def run_session(
    plugin: str,
    address: str,
    model: str,
    path: Path,
    work: Callable[[Ledger], Awaitable[T]],
    run: str = "run",
    budget: float | None = 1000.0,
    batch: bool = True,
    notes: list[str] | None = None,
) -> T:
    """Open a ledger with the plugin, run ``work`` with it and close it."""
    teacher = load(PluginRef("teacher", plugin, {"base_url": address}), "teacher")
    policy = CallPolicy(8, budget=budget, prices={model: PRICE}, batch=batch)
    ledger = Ledger(teacher, path, run, policy, note=([] if notes is None else notes).append)
    try:
        return await work(ledger)
    finally:
        await ledger.close()


def get_texts(outcome: list[Any]) -> list[str]:
    """Return the texts of outcomes; all outcomes must be completions."""
    for each in outcome:
        assert isinstance(each, Completion), each
    return [each.replies[0].text for each in outcome]


@dataclass(frozen=True)
class BatchLines:
    """A provider's lines of results in which something went wrong, as ``FaultServer.batch_lines`` takes them.

    Attributes:
        refused: the model refused to answer; this is billed like a reply.
        filtered: a content filter stopped the request.
        bad: the request has a fault of its own.
        failed: the provider failed.
        expired: the batch expired before the request was answered.
        cancelled: the batch was cancelled before the request was answered.
        setting: the model does not accept a setting of the request.
    """

    refused: Any
    filtered: Any
    bad: Any
    failed: Any
    expired: Any
    cancelled: Any
    setting: Any


class BatchTeacherContract:
    """Tests of a teacher with the hooks ``submit_batch``, ``find_batch``, ``poll_batch`` and ``cancel_batch``.

    Attributes:
        plugin: the name of the installed teacher. Its option ``base_url`` is the address of the server.
        model: the model of the requests.
        tokens: the tokens that the fault server bills for a good reply.
        places: the places of the server where submitting can fail, see ``FaultServer.batch_faults``.
        lines: the lines of results in which something went wrong.
    """

    plugin: str
    model: str
    tokens: int
    places: tuple[str, ...]
    lines: BatchLines

    def has_setting(self, line: Any) -> bool:
        """Return whether a line of a batch has the setting that ``lines.setting`` refuses."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def shorten_pauses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dsrl.teaching.batches.limits.WINDOW", 0.02)
        monkeypatch.setattr("dsrl.teaching.batches.limits.POLL_PAUSES", (0.01, 0.01))

    @pytest.fixture
    def server(self) -> Iterator[FaultServer]:
        with FaultServer() as running:
            yield running

    def get_address(self, server: FaultServer) -> str:
        return server.url

    def complete_all(self, server: FaultServer, path: Path, count: int, **options: Any) -> list[Any]:
        return self.run_session(server, path, complete_requests(self.model, count), **options)

    def run_session(self, server: FaultServer, path: Path, work: Callable[[Ledger], Awaitable[T]], **options: Any) -> T:
        return asyncio.run(run_session(self.plugin, self.get_address(server), self.model, path, work, **options))

    def stop_session(self, server: FaultServer, path: Path, count: int, place: str) -> None:
        """Run a session that is stopped when it sends a request to ``place``."""

        async def work(ledger: Ledger) -> None:
            before = server.calls[place]
            working = asyncio.create_task(complete_requests(self.model, count)(ledger))
            while server.calls[place] == before:
                await asyncio.sleep(0.01)
            working.cancel()

        self.run_session(server, path, work)

    def compute_cost(self, replies: int, single: int = 0) -> Any:
        return pytest.approx(self.tokens * 0.001 * (replies / 2 + single))

    def count_lines(self, server: FaultServer) -> list[int]:
        return [len(lines) for lines in server.batches.values()]

    # --- how batches end ----------------------------------------------------------------------------------------------

    def test_only_what_is_not_stored_goes_into_the_batch(self, server: FaultServer, tmp_path: Path) -> None:
        path = tmp_path / "calls.db"
        before = get_texts(self.complete_all(server, path, 2, batch=False))
        outcome = get_texts(self.complete_all(server, path, 5))
        assert outcome[:2] == before
        assert len(set(outcome)) == 5
        assert self.count_lines(server) == [3]
        spent = read_spending(path, "run")
        assert (spent.calls, spent.cost_usd, spent.uncertain_usd) == (5, self.compute_cost(3, single=2), 0)
        assert get_texts(self.complete_all(server, path, 5)) == outcome
        assert self.count_lines(server) == [3], "stored"

    def test_lines_that_fail(self, server: FaultServer, tmp_path: Path) -> None:
        path = tmp_path / "calls.db"
        server.batch_lines = {"2": self.lines.refused, "3": self.lines.filtered, "4": self.lines.failed, "5": "<html>"}
        outcome = self.complete_all(server, path, 6)
        assert [type(each) for each in outcome] == [Completion] * 2 + [RowRefused] * 2 + [Completion] * 2
        assert self.count_lines(server) == [6, 2], "the requests that the provider failed with are sent again"
        spent = read_spending(path, "run")
        assert (spent.calls, spent.cost_usd, spent.uncertain_usd) == (5, self.compute_cost(5), 0), "a refusal is billed"

    def test_one_bad_request_among_good_ones_drops_its_row(self, server: FaultServer, tmp_path: Path) -> None:
        server.batch_lines = {"1": self.lines.bad}
        first, second = self.complete_all(server, tmp_path / "calls.db", 2)
        assert isinstance(first, Completion)
        assert isinstance(second, RowRefused)

        async def alone(ledger: Ledger) -> Any:
            (request,) = make_requests(self.model, 1)
            await ledger.complete(replace(request, purpose="keywords", first=1))  # a single call
            (outcome,) = await complete_requests(self.model, 1)(ledger)
            return outcome

        server.batch_lines = {"0": self.lines.bad}
        outcome = self.run_session(server, tmp_path / "other.db", alone)
        assert isinstance(outcome, TeacherError), "it may be the settings"
        assert self.count_lines(server) == [2, 1]

    def test_a_batch_that_expires_keeps_what_it_answered(self, server: FaultServer, tmp_path: Path) -> None:
        path = tmp_path / "calls.db"
        server.batch_statuses = ["expired"]
        server.batch_lines = {"2": self.lines.expired, "3": self.lines.expired}
        assert len(set(get_texts(self.complete_all(server, path, 4)))) == 4
        assert self.count_lines(server) == [4, 2]
        assert read_spending(path, "run").cost_usd == self.compute_cost(4)
        assert [(batch.status, batch.done, batch.requests) for batch in list_batches(path)] == [
            ("ended", 2, 2),
            ("expired", 2, 4),
        ]

    def test_a_batch_that_is_cancelled_keeps_what_it_answered(self, server: FaultServer, tmp_path: Path) -> None:
        path = tmp_path / "calls.db"
        server.batch_statuses = ["cancelled"]
        server.batch_lines = {"1": self.lines.cancelled, "2": self.lines.cancelled}
        outcome = self.complete_all(server, path, 3)
        assert "was cancelled" in " ".join(str(each) for each in outcome if isinstance(each, TeacherError))
        spent = read_spending(path, "run")
        assert (spent.calls, spent.uncertain_usd) == (1, 0)
        assert len(set(get_texts(self.complete_all(server, path, 3)))) == 3
        assert self.count_lines(server) == [3, 2]

    def test_the_cap_holds(self, server: FaultServer, tmp_path: Path) -> None:
        """A request may cost 0.5 * 0.001 * (8 + 32 + 100) = 0.07 dollars."""
        path = tmp_path / "calls.db"
        outcome = self.complete_all(server, path, 6, budget=0.15)
        good = sum(isinstance(each, Completion) for each in outcome)
        assert good == 2
        assert sum(isinstance(each, BudgetReached) for each in outcome) == 4
        spent = read_spending(path, "run")
        assert (spent.cost_usd, spent.uncertain_usd) == (self.compute_cost(2), 0)
        assert sum(self.count_lines(server)) == 2

    def test_a_setting_that_the_model_does_not_take_is_learnt(self, server: FaultServer, tmp_path: Path) -> None:
        """As in a run that is continued: the single calls that would show the setting (keywords, pattern) are stored."""
        server.batch_lines = {str(n): self.lines.setting for n in range(3)}
        path = tmp_path / "calls.db"
        schema = {"type": "object"}

        async def work(ledger: Ledger) -> list[Any]:
            requests = [replace(request, schema=schema) for request in make_requests(self.model, 3)]
            return await asyncio.gather(*map(ledger.complete, requests), return_exceptions=True)

        assert len(set(get_texts(self.run_session(server, path, work)))) == 3
        first, second = server.batches.values()
        assert [self.has_setting(line) for line in first] == [True] * 3
        assert [self.has_setting(line) for line in second] == [False] * 3

    # --- a provider that fails ----------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "fault",
        [
            Fault(429, {"error": {"message": "slow down"}}, {"retry-after": "0.05"}),
            Fault(500, "<html>"),
            Fault(how="cut"),
            Fault(200, "<html>a page of another server</html>"),
            Fault(200, "{}"),
        ],
        ids=["429", "500", "cut", "html", "empty"],
    )
    def test_a_place_that_fails_for_a_moment(self, server: FaultServer, tmp_path: Path, fault: Fault) -> None:
        for number, place in enumerate((*self.places, "poll", "results")):
            server.batch_faults[place].extend([fault] * 2)
            path = tmp_path / f"{number}.db"
            assert len(set(get_texts(self.complete_all(server, path, 2)))) == 2, place
            assert len(server.batches) == number + 1, place
            spent = read_spending(path, "run")
            assert (spent.calls, spent.cost_usd, spent.uncertain_usd) == (2, self.compute_cost(2), 0), place

    def test_a_connection_that_breaks_behind_the_request(self, server: FaultServer, tmp_path: Path) -> None:
        path = tmp_path / "calls.db"
        server.batch_faults["create"].append(Fault(how="lost"))
        assert len(set(get_texts(self.complete_all(server, path, 3)))) == 3
        assert self.count_lines(server) == [3], "the batch got through, and is not submitted again"
        spent = read_spending(path, "run")
        assert (spent.calls, spent.cost_usd, spent.uncertain_usd) == (3, self.compute_cost(3), 0)

    def test_what_cannot_be_known_now_is_found_by_the_next_sitting(self, server: FaultServer, tmp_path: Path) -> None:
        path = tmp_path / "calls.db"
        server.batch_faults["create"].append(Fault(how="lost"))
        server.batch_faults["list"].extend([Fault(503, "")] * 8)
        outcome = self.complete_all(server, path, 3)
        assert all("cannot find out whether" in str(each) for each in outcome if isinstance(each, TeacherError))
        assert read_spending(path, "run").uncertain_usd > 0, "its money stays on hold"
        assert len(set(get_texts(self.complete_all(server, path, 3)))) == 3
        assert self.count_lines(server) == [3]
        assert read_spending(path, "run").uncertain_usd == 0

    def test_a_server_that_goes_away_while_a_batch_is_out_may_come_back(self, server: FaultServer) -> None:
        async def work() -> None:
            teacher: Plugin[Any] = load(
                PluginRef("teacher", self.plugin, {"base_url": self.get_address(server)}), "teacher"
            )
            batch = await teacher.hook.submit_batch(requests=make_requests(self.model, 1), token="0123456789abcdef")
            server.stop()
            with pytest.raises(TransientError):
                await teacher.hook.poll_batch(batch=batch, model=self.model)
            await teacher.hook.aclose()

        asyncio.run(work())

    # --- runs that are stopped ----------------------------------------------------------------------------------------

    def test_a_batch_that_is_out_is_found_and_not_submitted_again(self, server: FaultServer, tmp_path: Path) -> None:
        path = tmp_path / "calls.db"
        server.batch_status = "in_progress"
        self.stop_session(server, path, 3, "poll")
        assert [batch.status for batch in list_batches(path)] == ["in_progress"]
        server.batch_status = "completed"
        assert len(set(get_texts(self.complete_all(server, path, 3)))) == 3
        assert self.count_lines(server) == [3]
        spent = read_spending(path, "run")
        assert (spent.calls, spent.cost_usd, spent.uncertain_usd) == (3, self.compute_cost(3), 0)

    def test_another_process_may_wait_for_the_same_batch(
        self, server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "dsrl.teaching.batches.limits.POLL_PAUSES", (2.0, 2.0)
        )  # so that the other process is quicker, and books the batch
        path = tmp_path / "calls.db"
        server.batch_status = "in_progress"

        async def work(ledger: Ledger) -> list[Any]:
            waiting = asyncio.create_task(complete_requests(self.model, 2)(ledger))
            while server.calls["poll"] == 0:
                await asyncio.sleep(0.01)
            child = self.start_child(server, path, "other", 2)
            while server.calls["poll"] < 3:
                await asyncio.sleep(0.01)
            server.batch_status = "completed"
            output, _ = await asyncio.to_thread(child.communicate, timeout=60)
            assert read_spending(path, "run").calls == 2, "the other process books it on the run that made the batch"
            outcome = await waiting
            assert output.split("\n")[1].split("|") == get_texts(outcome)
            assert ledger.get_spending().cost_usd == self.compute_cost(2)
            # The money held for it is free again.
            more = replace(make_requests(self.model, 1)[0], first=7)
            assert isinstance(await ledger.complete(more), Completion)
            return outcome

        self.run_session(server, path, work, budget=0.2)
        assert self.count_lines(server) == [2, 1]
        assert read_spending(path, "other").calls == 0

    @pytest.mark.parametrize("how", ["late", "hang"])
    def test_kill_9_while_a_batch_is_submitted(self, server: FaultServer, tmp_path: Path, how: Any) -> None:
        """``late``: the provider has the batch, and the child is not informed; ``hang``: the provider does not have it."""
        path = tmp_path / "calls.db"
        server.batch_faults["create"].append(Fault(how=how))
        with self.start_child(server, path, "run", 3) as child:
            until = time.monotonic() + 60
            while not server.calls["create"] or (how == "late" and not server.batches):
                assert time.monotonic() < until
                time.sleep(0.01)
            child.send_signal(signal.SIGKILL)
            child.wait(60)
        assert [batch.status for batch in list_batches(path)] == ["submitting"]
        assert read_spending(path, "run").uncertain_usd > 0
        notes: list[str] = []
        assert len(set(get_texts(self.complete_all(server, path, 3, notes=notes)))) == 3
        assert self.count_lines(server) == [3], "paid once"
        spent = read_spending(path, "run")
        assert (spent.calls, spent.cost_usd, spent.uncertain_usd) == (3, self.compute_cost(3), 0)
        assert [batch.status for batch in list_batches(path)] == (["ended"] if how == "late" else ["ended", "failed"])
        assert ("is found again" if how == "late" else "no such batch") in " ".join(notes)

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", range(4))
    def test_kill_9_at_any_moment(self, server: FaultServer, tmp_path: Path, seed: int) -> None:
        rng = random.Random(seed)
        path, count = tmp_path / "calls.db", 20
        server.batch_faults["create"].extend(Fault(how="lost") for _ in range(rng.randint(0, 2)))
        for _ in range(5):
            with self.start_child(server, path, "run", count) as child:
                assert child.stdout
                child.stdout.readline()
                time.sleep(rng.random() * 0.4)
                child.send_signal(signal.SIGKILL)
                child.wait(60)
        assert len(set(get_texts(self.complete_all(server, path, count)))) == count
        assert sum(self.count_lines(server)) == count, "nothing is submitted twice"
        spent = read_spending(path, "run")
        assert (spent.calls, spent.cost_usd, spent.uncertain_usd) == (count, self.compute_cost(count), 0)

    def start_child(self, server: FaultServer, path: Path, run: str, count: int) -> subprocess.Popen[str]:
        arguments = [self.plugin, self.get_address(server), self.model, str(path), run, str(count)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, *arguments], env=environment, stdout=subprocess.PIPE, text=True
        )

    def test_the_right_one_of_many_batches_is_found(
        self, server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server.page = 2

        async def work() -> list[str | None]:
            teacher: Plugin[Any] = load(
                PluginRef("teacher", self.plugin, {"base_url": self.get_address(server)}), "teacher"
            )
            tokens = [f"{n:016x}" for n in range(7)]
            start = time.time()
            names = [
                await teacher.hook.submit_batch(requests=make_requests(self.model, 2), token=token) for token in tokens
            ]
            results = [
                await teacher.hook.find_batch(token=token, submitted=start, requests=2)
                for token in (tokens[0], tokens[6], "f" * 16)
            ]
            await teacher.hook.aclose()
            assert results == [names[0], names[6], None]
            return results

        asyncio.run(work())
