"""What a run shows while it works."""

from __future__ import annotations

import time

import pytest
from rich.console import Console

from dsrl.pipeline.budget import describe_spending
from dsrl.pipeline.progress import LineProgress, LiveProgress, draw_curve
from dsrl.teaching.reply_store import Spending
from dsrl.types import TrainStep


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


def test_the_last_accuracy_on_the_development_items_stays_in_sight(capsys: pytest.CaptureFixture[str]) -> None:
    lines, live = LineProgress(), LiveProgress()
    lines.every = 0.0
    for number, metrics in enumerate([{"reward": 0.1}, {"reward": 0.2, "dev_accuracy": 0.5}, {"reward": 0.3}], 1):
        for display in (lines, live):
            if number == 1:
                display.start("trained", 3)
            display.train_step(TrainStep(number, 3, 0.0, metrics, {}))
        lines.advance("trained")
    last = "reward 0.300, accuracy 50.0% on development items"
    assert capsys.readouterr().err.splitlines() == [
        "trained 1/3  reward 0.100",
        "trained 2/3  reward 0.200, accuracy 50.0% on development items",
        f"trained 3/3  {last}",
    ]
    assert live._bars.tasks[0].fields["outcome"] == "reward ▁▅█ 0.300, accuracy 50.0% on development items"


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


def test_a_curve_has_one_mark_for_each_value() -> None:
    assert draw_curve([0.0, 0.5, 1.0]) == "▁▅█"
    assert draw_curve([0.3, 0.3]) == "▁▁", "no change is no rise"
    assert draw_curve([0.0, float("nan"), 1.0]) == "▁ █"
    assert draw_curve([float("nan")]) == " "


def test_the_live_display_names_the_iteration_and_what_it_waits_for() -> None:
    live = LiveProgress()
    live.start_iteration(1, 2)
    live.start("initial", 8)
    live.finish("initial", "8 written")
    live.start_iteration(2, 2)
    live.start("initial", 8)
    live.set_status("loading the model")
    *bars, last = render(live).splitlines()
    assert "initial (1 of 2)" in bars[0]
    assert "initial (2 of 2)" in bars[1]
    assert last == "loading the model"
    live.set_status("")
    assert "loading" not in render(live)


def test_lines_show_that_a_run_without_news_is_still_at_work(capsys: pytest.CaptureFixture[str]) -> None:
    lines = LineProgress()
    lines.patience = 0.05
    lines.start("verified", 8)
    lines.set_status("loading the model")
    with lines.beating():
        deadline = time.monotonic() + 10
        text = ""
        while text.count("\n") < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
            text += capsys.readouterr().err
    first = text.splitlines()[0]
    assert first.startswith("verified 0/8  loading the model  still at work: no news for ")
    capsys.readouterr()
    time.sleep(0.15)
    assert capsys.readouterr().err == "", "it ends with the block"
