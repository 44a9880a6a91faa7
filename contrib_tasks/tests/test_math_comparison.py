from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from dsrl_tasks.math import comparison
from dsrl_tasks.math.comparison import are_equal

from dsrl import Worker, WorkerError

EXPRESSIONS = "dsrl_tasks.math.expressions:are_equal"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """Record what the worker is asked."""
    recorded: list[tuple[str, str]] = []

    class RecordingWorker:
        def call(self, prediction: str, label: str) -> bool:
            recorded.append((prediction, label))
            return False

    monkeypatch.setattr(comparison, "_worker", RecordingWorker())
    comparison._ask_worker.cache_clear()
    yield recorded
    comparison._ask_worker.cache_clear()


@pytest.mark.parametrize(
    ("prediction", "label"),
    [
        (r"\frac12", "0.5"),
        ("72", "71"),
        ("17*23", "391"),
        ("9^{9^{9^9}}", "1"),
        (r"\sqrt{2}", r"\sqrt2"),
        ("(1,2)", "(1,3)"),
        ("3,4", "3"),
        (r"\text{red}", r"\text{blue}"),
        ("9" * 2000, "1"),
    ],
)
def test_most_answers_need_no_worker(calls: list[tuple[str, str]], prediction: str, label: str) -> None:
    are_equal(prediction, label)
    assert calls == []


def test_the_worker_is_asked_once_for_a_pair(calls: list[tuple[str, str]]) -> None:
    for _ in range(3):
        assert not are_equal("x+1", "x+2")
    assert calls == [("x+1", "x+2")]


@pytest.mark.parametrize("expression", ["9^{9^{9^9}}", "99999999!"])
def test_a_poisonous_expression_costs_its_limit(expression: str) -> None:
    worker: Worker[[str, str], bool] = Worker(EXPRESSIONS, seconds=0.4, memory_mb=256)
    assert worker.call("x+1", "1+x")
    start = time.monotonic()
    try:
        assert worker.call(expression, "x+1") is False
    except WorkerError as error:
        assert error.reason in ("time", "memory")  # noqa: PT017 - some versions of sympy know the answer
    assert time.monotonic() - start < 20
    assert worker.call("x+1", "1+x")


def test_what_reaches_the_limit_is_not_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_worker", Worker(EXPRESSIONS, seconds=0.4, memory_mb=256))
    assert not are_equal("x^{9^{9^{9^9}}}", "x")
    assert are_equal("2x", "x+x")


def test_deep_nesting_is_refused(calls: list[tuple[str, str]]) -> None:
    assert not are_equal("(" * 900 + "x" + ")" * 900, "y")
    assert not are_equal(r"\sqrt{" * 200 + "2" + "}" * 200, "y")
    assert calls == []
