"""What a run shows while it works."""

from __future__ import annotations

import pytest
from rich.console import Console

from dsrl.pipeline.budget import describe_spending
from dsrl.pipeline.progress import LineProgress, LiveProgress
from dsrl.teaching.reply_store import Spending


@pytest.mark.parametrize(
    ("spending", "budget", "text"),
    [
        (Spending(0, 0.0, True), 5.0, ""),
        (Spending(7, 0.0, True), None, ""),  # costs nothing
        (Spending(7, 0.42, True), None, "7 calls, $0.42"),
        (Spending(7, 0.42, True), 5.0, "7 calls, $0.42 of $5.00"),
        (Spending(7, 0.0042, True), 0.05, "7 calls, $0.0042 of $0.05"),
        (Spending(7, 0.0, False, unpriced=7), None, "7 calls, price unknown"),
        (Spending(7, 0.42, False, unpriced=1), 5.0, "7 calls, $0.42 of $5.00, and calls of unknown price"),
        (Spending(33, 0.0, False, unknown_bills=33), None, "33 calls, bill of 33 calls not known"),
        (Spending(7, 0.42, False, unknown_bills=1), 5.0, "7 calls, $0.42 of $5.00, bill of 1 call not known"),
    ],
)
def test_the_cost_is_described(spending: Spending, budget: float | None, text: str) -> None:
    assert describe_spending(spending, budget) == text


def test_a_line_shows_the_cost_at_the_time_when_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    booked = iter([Spending(1, 0.5, True), Spending(2, 1.0, True)])
    lines = LineProgress()
    lines.every = 0.0
    lines.start("initial", 8)
    lines.advance("initial")
    lines.watch(lambda: next(booked), 5.0)
    lines.advance("initial")
    lines.advance("initial")
    text = capsys.readouterr().err.splitlines()
    assert text == ["initial 1/8", "initial 2/8  1 call, $0.50 of $5.00", "initial 3/8  2 calls, $1.00 of $5.00"]


def render(live: LiveProgress) -> str:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(live._bars.get_renderable())
    return capture.get()


def test_the_live_display_shows_the_cost_below_the_bars() -> None:
    live = LiveProgress()
    live.start("initial", 500)
    assert "teacher" not in render(live)
    calls = 0
    live.watch(lambda: Spending(calls, calls * 0.125, True), 5.0)
    assert "teacher" not in render(live), "nothing is spent yet"
    calls = 3
    *_, last = render(live).splitlines()
    assert last == "teacher: 3 calls, $0.38 of $5.00"
    live.finish("initial", "500 written")
    assert "$0.38 of $5.00" in render(live)


def test_counts_and_words_fit_a_narrow_terminal() -> None:
    live = LiveProgress()
    live.start("attempted", 10_000, 9_998)
    live.advance("attempted")
    live.finish("keywords", "[/red] \x1b[2J medicine, " + "long " * 40)
    output = render(live)
    assert all(len(line) <= 80 for line in output.splitlines())
    assert "9999/10000" in output
    assert "[/red]  [2J medic" in output, "a model's words are neither markup nor control sequences"
