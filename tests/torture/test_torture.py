"""The real command against a hostile provider: money, replies, memory and time, judged from outside."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from torture.hostile_bodies import BODIES, MORE_MEMORY, Endured, endure_body, endure_nothing
from torture.hostile_texts import MORE_CPU, SILENCE, TEXTS, Outlived, outlive_text
from torture.random_runs import Outcome, run_seed, sentence_of

# Also slow, so that who leaves out the slow tests leaves these out.
pytestmark = [pytest.mark.torture, pytest.mark.slow]

#: Random runs, and the seed of the first.
RUNS, SEED = int(os.environ.get("TORTURE_RUNS", "40")), int(os.environ.get("TORTURE_SEED", "0"))


def work(function: Callable[..., Any]) -> Callable[[Any], Any]:
    """Say what is done for each case of a test; ``came_of_it`` is its result."""

    def marked(test: Any) -> Any:
        test.torture_work = function
        return test

    return marked


@pytest.mark.parametrize("case", range(SEED, SEED + RUNS))
@work(run_seed)
def test_a_random_run_keeps_its_cap_and_loses_nothing(case: int, came_of_it: Outcome) -> None:
    again = f"python -m tests.torture --only {case}"
    assert not came_of_it.failures, "\n".join([*came_of_it.failures, again])


@pytest.fixture(scope="session")
def quiet(torture_index: Path) -> Endured:
    """What a small run takes that meets nothing hostile."""
    quiet = endure_nothing(torture_index)
    assert quiet.code == 0, quiet.stderr
    return quiet


@pytest.mark.parametrize("case", BODIES)
@work(endure_body)
def test_a_hostile_body_costs_bounded_memory_and_time(case: str, came_of_it: Endured, quiet: Endured) -> None:
    assert not came_of_it.stopped, f"the process {came_of_it.stopped}"
    assert "Traceback" not in came_of_it.stderr, came_of_it.stderr
    assert came_of_it.requests, "the body was met"
    assert came_of_it.code == 0 or sentence_of(came_of_it.stderr), came_of_it.stderr
    assert "MemoryError" not in came_of_it.stderr, came_of_it.stderr
    more = came_of_it.peak - quiet.peak
    assert more < MORE_MEMORY, f"{more / 2**20:.0f} MB more than a quiet run"


@pytest.mark.parametrize("case", TEXTS)
@work(outlive_text)
def test_a_hostile_text_drops_rows_and_the_run_goes_on(case: str, came_of_it: Outlived, quiet: Endured) -> None:
    assert came_of_it.stopped == ("", "")
    assert "Traceback" not in "".join(came_of_it.stderrs), came_of_it.stderrs
    assert came_of_it.codes == (0, 0), came_of_it.stderrs
    assert came_of_it.samples == 8
    assert came_of_it.silence < SILENCE, "the command stood still"
    assert max(came_of_it.cpu) - quiet.cpu < MORE_CPU, "it took too long to read"
