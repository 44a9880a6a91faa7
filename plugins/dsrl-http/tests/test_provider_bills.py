"""Whatever a provider says about its bill, and wherever it says so: what it really bills stays within the budget."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dsrl.errors import RowRefused, TransientError
from dsrl.plugins.binding import load
from dsrl.teaching.ledger import CallPolicy, Ledger
from dsrl.teaching.reply_store import read_spending
from dsrl.testing.fault_server import Fault, FaultServer, anthropic_error, completion, message, openai_error
from dsrl.types import Message, PluginRef, Price, Request, Usage

pytest.importorskip("openai")
pytest.importorskip("anthropic")

PRICE = Price(3.0, 15.0, cached=0.3, cache_write=3.75)
MODELS = {"openai": "gpt-4o", "anthropic": "claude-haiku-4-5"}
#: What the provider's book has for each call.
BILL = (40, 20)
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
NAN = float("nan")


def make_usage(plugin: str) -> dict[str, Any]:
    names = ("prompt_tokens", "completion_tokens") if plugin == "openai" else ("input_tokens", "output_tokens")
    return dict(zip(names, BILL, strict=True))


def make_answer(plugin: str, **members: Any) -> Any:
    good = completion(["4"]) if plugin == "openai" else message("4")
    return {name: value for name, value in {**good, **members}.items() if value != "left out"}


def make_error(plugin: str, text: str = "boom") -> Any:
    return openai_error(text) if plugin == "openai" else anthropic_error(text)


def make_bodies(plugin: str) -> dict[str, tuple[int, Any]]:
    """Return statuses and bodies by what is odd in them; in the provider's book, each costs ``BILL``."""
    used = make_usage(plugin)
    first, second = used
    cache = (
        {"prompt_tokens_details": {"cached_tokens": "x"}} if plugin == "openai" else {"cache_read_input_tokens": "x"}
    )
    bodies: dict[str, tuple[int, Any]] = {
        f"{status} with usage": (status, {**make_error(plugin), "usage": used})
        for status in (200, 400, 403, 409, 429, 500, 504)
    }
    bodies |= {
        "500 with usage in the error": (500, {"error": {"message": "boom", "usage": used}}),
        "200 with an error, without usage": (200, {"error": {"message": "boom"}}),
        "500 with half a usage": (500, {**make_error(plugin), "usage": {first: 40}}),
        "filter with usage": (400, {**make_error(plugin, "flagged by the content filter"), "usage": used}),
        "no usage": (200, make_answer(plugin, usage="left out")),
        "usage is null": (200, make_answer(plugin, usage=None)),
        "usage is a list": (200, make_answer(plugin, usage=[used])),
        "all zeros": (200, make_answer(plugin, usage={first: 0, second: 0})),
        "an unreadable cache": (200, make_answer(plugin, usage={**used, **cache})),
        "numbers are texts": (200, make_answer(plugin, usage={first: "40", second: "20"})),
        "no answer": (
            200,
            make_answer(plugin, **{"choices" if plugin == "openai" else "content": []}, usage={first: 40}),
        ),
    }
    for name in used:
        for bad in (None, -20, NAN, "many", [20], True):
            bodies[f"{name} is {bad}"] = (200, make_answer(plugin, usage={**used, name: bad}))
    if plugin == "openai":
        bodies["only the total has the reasoning"] = (
            200,
            make_answer(plugin, usage={first: 40, second: 1, "total_tokens": 60}),
        )
        details = {"prompt_tokens_details": {"cached_tokens": 5000}}
        bodies["more is cached than there is"] = (200, make_answer(plugin, usage={**used, **details}))
        bodies["a refusal without usage"] = (200, {**completion([""], refusal="no"), "usage": None})
    return bodies


CASES = [(plugin, name) for plugin in MODELS for name in make_bodies(plugin)]


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsrl.teaching.patience.LONGEST_PAUSE", 0.001)


def make_request(plugin: str, number: int, **settings: Any) -> Request:
    return Request("solve", MODELS[plugin], (Message("user", f"question {number} " + "x" * 80),), 0.7, 20, **settings)


def spend(plugin: str, server: FaultServer, path: Path, budget: float, requests: list[Request]) -> list[Any]:
    async def work() -> list[Any]:
        url = server.url if plugin == "openai" else server.root
        teacher = load(PluginRef("teacher", plugin, {"base_url": url}), "teacher")
        ledger = Ledger(teacher, path, "run", CallPolicy(4, budget=budget, prices={MODELS[plugin]: PRICE}))
        try:
            async with asyncio.timeout(30):  # a ledger must not wait for money for ever
                return await asyncio.gather(*map(ledger.complete, requests), return_exceptions=True)
        finally:
            await ledger.close()

    return asyncio.run(work())


def sum_book(server: FaultServer) -> float:
    return sum(PRICE.cost(Usage(*bill)) for bill in server.book)


@pytest.mark.parametrize(("plugin", "name"), CASES)
def test_what_the_provider_bills_stays_within_the_budget(
    plugin: str, name: str, tmp_path: Path, no_pause: None
) -> None:
    status, body = make_bodies(plugin)[name]
    budget = 6 * PRICE.cost(Usage(*BILL))
    with FaultServer() as server:
        server.faults.extend([Fault(status, body, bill=BILL)] * 500)
        spend(plugin, server, tmp_path / "calls.db", budget, [make_request(plugin, number) for number in range(20)])
        assert server.book
        assert sum_book(server) <= budget + 1e-9
    spent = read_spending(tmp_path / "calls.db", "run")
    assert spent.cost_usd + spent.uncertain_usd >= sum_book(server) - 1e-9


@pytest.mark.parametrize("plugin", MODELS)
def test_a_billed_refusal_of_a_setting_is_booked_before_the_next_try(
    plugin: str, tmp_path: Path, no_pause: None
) -> None:
    with FaultServer() as server:
        text = "response_format: json_schema is not supported; no output_config, no tool"
        server.faults.append(Fault(400, {**make_error(plugin, text), "usage": make_usage(plugin)}, bill=BILL))
        (outcome,) = spend(plugin, server, tmp_path / "calls.db", 1.0, [make_request(plugin, 0, schema=SCHEMA)])
        assert not isinstance(outcome, Exception)
        assert len(server.requests) == 2
        assert server.bodies[0] != server.bodies[1], "what it does not take is left out"
    spent = read_spending(tmp_path / "calls.db", "run")
    good = Usage(100, 10, 40) if plugin == "openai" else Usage(100, 5, 60, 30)
    assert spent.cost_usd == pytest.approx(sum_book(server) + PRICE.cost(good))


@pytest.mark.parametrize("plugin", MODELS)
def test_lines_of_a_batch_are_read_as_calls_of_their_own_are(plugin: str) -> None:
    """Lines with the same message have different bills."""
    used = make_usage(plugin)
    first = next(iter(used))
    bills = [used, {**used, first: 7}, {first: 7}, None]
    with FaultServer() as server:
        for number, bill in enumerate(bills):
            failed: dict[str, Any] = {**make_error(plugin), "usage": bill}
            line = {"status_code": 500, "body": failed} if plugin == "openai" else {"type": "errored", "error": failed}
            server.batch_lines[str(number)] = line
        good = make_answer(plugin, usage={first: 7})
        server.batch_lines["4"] = (
            {"status_code": 200, "body": good} if plugin == "openai" else {"type": "succeeded", "message": good}
        )

        async def work() -> Any:
            url = server.url if plugin == "openai" else server.root
            teacher = load(PluginRef("teacher", plugin, {"base_url": url}), "teacher")
            requests = [make_request(plugin, number) for number in range(5)]
            batch = await teacher.hook.submit_batch(requests=requests, token="t")
            try:
                return await teacher.hook.poll_batch(batch=batch, model=MODELS[plugin])
            finally:
                await teacher.hook.aclose()

        results = asyncio.run(work()).results
    bills_read = [(results[number].usage, results[number].unknown) for number in range(4)]
    assert bills_read == [(Usage(40, 20), False), (Usage(7, 20), False), (None, True), (None, False)]
    assert all(isinstance(results[number], (TransientError, RowRefused)) for number in range(4))
    assert results[4].usage is None
