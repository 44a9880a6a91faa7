from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from dsrl.pipeline.progress import SilentProgress
from dsrl.pipeline.runtime import OpenRun
from dsrl.pipeline.slot_progress import finish_bars, start_bars
from dsrl.storage.attempts import Attempt
from dsrl.types import Sample, Score

STAGES = ("initial", "verified", "attempted", "adapted", "scored")


class Bars(SilentProgress):
    """Keeps the bars that the user is shown."""

    def __init__(self) -> None:
        self.started: dict[str, tuple[int | None, int]] = {}
        self.finished: dict[str, str] = {}

    def start(self, stage: str, total: int | None, done: int = 0) -> None:
        self.started[stage] = (total, done)

    def finish(self, stage: str, outcome: str = "") -> None:
        self.finished[stage] = outcome


@pytest.fixture
def bars() -> Bars:
    return Bars()


@pytest.fixture
def run(make_run: Callable[..., OpenRun], bars: Bars) -> OpenRun:
    """A run of four slots, two of which are written: one is dropped, the other is solved, rewritten and scored."""
    run = replace(make_run(samples=4, select=4), progress=bars)
    store = run.store
    store.add_samples(
        [Sample("1-0", 1, 0, "initial", "q", "o"), Sample("1-1", 1, 1, "initial", "", "", None, "not_json")]
    )
    store.add_verdicts([(Sample("1-0", 1, 0, "initial", "q", "o", "a"), ["a"])])
    store.add_greedy_attempts([Attempt("1-0", "o", "a", True)])
    store.add_samples([Sample("1-0h", 1, 0, "harder", "q", "o", parent="1-0")])
    store.add_scores([(Score("1-0", 4, 1, 0.25), {"a": (1, True)})])
    return run


def test_the_bars_start_with_what_is_stored(run: OpenRun, bars: Bars) -> None:
    start_bars(run, 1, STAGES)
    assert bars.started == {
        "initial": (4, 2),
        "verified": (8, 2),
        "attempted": (4, 1),
        "adapted": (4, 1),
        "scored": (8, 1),
    }


def test_without_rewriting_each_slot_is_verified_and_scored_once(run: OpenRun, bars: Bars) -> None:
    start_bars(run, 2, ("initial", "verified", "scored"))
    assert bars.started == {"initial": (4, 0), "verified": (4, 0), "scored": (4, 0)}


def test_the_results_are_a_few_words(run: OpenRun, bars: Bars) -> None:
    finish_bars(run, 1, STAGES)
    assert bars.finished == {
        "initial": "2 written",
        "verified": "1 verified; dropped: 1 not json",
        "attempted": "1 solved, 0 unsolved",
        "adapted": "0 harder, 0 easier",
        "scored": "1 samples, 4 attempts (6% of 64 each)",
    }
    finish_bars(run, 2, ("verified",))
    assert bars.finished["verified"] == "0 verified; dropped: none"
