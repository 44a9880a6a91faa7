"""``dsrl plan``: the forecast, and how it is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dsrl.cli.plan import _format_count, _format_dollars, _format_time


def test_plan_asks_nothing_and_writes_nothing(dsrl: Any, small: Any) -> None:
    outcome = dsrl("plan", *small[1:], "--json")
    assert outcome.code == 0, outcome.err
    plan = json.loads(outcome.out)
    stages = [stage["stage"] for stage in plan["stages"]]
    assert stages == ["keywords", "initial", "verified", "adapted", "verified again"]
    for stage in plan["stages"]:
        for name in ("calls", "prompt_tokens", "completion_tokens", "dollars", "seconds"):
            assert stage[name]["low"] <= stage[name]["expected"] <= stage[name]["high"]
    assert not Path("runs").exists()
    assert not Path(".dsrl").exists()


def paid(*flags: str) -> tuple[str, ...]:
    """A plan sends no request to its teacher, so no server is needed."""
    teacher = "plan --task mednli --teacher openai:m --teacher-option base_url=http://127.0.0.1:9/v1".split()
    return (*teacher, *flags)


def test_a_plan_is_readable_on_a_narrow_terminal(dsrl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    flags = paid("--price", "m=2.5,10", "--samples", "100000", "--concurrency", "32")
    plan, text = json.loads(dsrl(*flags, "--json").out), dsrl(*flags).out
    assert all(len(line) <= 80 for line in text.splitlines()), text
    (row,) = (line for line in text.splitlines() if line.startswith("initial "))
    below = text.splitlines()[text.splitlines().index(row) + 1]
    assert row.split() == ["initial", "100k", "117M", "30M", "592", "16k", "guess"]
    assert below.split()[-2:] == ["293-2514", "3125-94k"], "no figure is broken over lines"
    low, expected, high = (f"{plan['total']['dollars'][end]:.0f}" for end in ("low", "expected", "high"))
    assert f"dollars  ${expected} ({low}-{high})" in text


def test_a_plan_says_what_its_time_is(dsrl: Any) -> None:
    def total(*flags: str) -> tuple[float, dict[str, float]]:
        plan = json.loads(dsrl(*paid(*flags), "--json").out)
        return plan["total"]["seconds"]["expected"], {s["stage"]: s["seconds"]["expected"] for s in plan["stages"]}

    seconds, stages = total()
    assert seconds == pytest.approx(sum(stages.values())), "one provider: its stages share the calls under way"
    another = ("--solve-teacher", "openai:m", "--solve-teacher-option", "base_url=http://127.0.0.1:99/v1")
    seconds, stages = total(*another)
    votes = stages["verified"] + stages["verified again"]
    assert seconds == pytest.approx(stages["keywords"] + votes), "two providers work side by side"
    assert total("--concurrency", "1024")[0] < seconds
    assert total("--requests-per-minute", "6")[0] > 10 * 2000, "a limit is a limit"
    assert "at least" in dsrl(*paid()).out


def test_a_plan_of_batches_knows_no_time_and_one_without_price_no_dollars(dsrl: Any) -> None:
    plan = json.loads(dsrl(*paid("--batch"), "--json").out)
    assert plan["total"]["seconds"] is None
    assert plan["total"]["dollars"] is None
    assert [stage["seconds"] is None for stage in plan["stages"]] == [False, True, True, True, True]
    text = dsrl(*paid("--batch")).out
    assert "time     unknown: a batch is answered within a day" in text
    assert "dollars  unknown: no price for openai:m; give --price" in text


def test_a_probe_is_paid_once_and_makes_the_plan_surer(dsrl: Any, small: Any) -> None:
    guess = json.loads(dsrl("plan", *small[1:], "--json").out)
    probed = json.loads(dsrl("plan", *small[1:], "--probe", "6", "--json").out)
    spread = [plan["total"]["completion_tokens"] for plan in (guess, probed)]
    assert spread[1]["high"] - spread[1]["low"] < spread[0]["high"] - spread[0]["low"]
    assert probed["stages"][1]["basis"] == "6 replies"
    run = json.loads(dsrl(*small, "--json").out)
    written = next(line for line in run["spending"] if line["purpose"] == "write")
    assert written["replies"] == 24
    low, high = (probed["total"]["calls"][end] for end in ("low", "high"))
    assert low <= run["teacher_calls"] <= high


def test_a_budget_that_may_not_be_enough_is_named(dsrl: Any) -> None:
    flags = paid("--price", "m=2.5,10", "--samples", "1000")
    dollars = json.loads(dsrl(*flags, "--json").out)["total"]["dollars"]
    between = (dollars["expected"] + dollars["high"]) / 2
    assert "which may not be enough" in dsrl(*flags, "--budget", f"{between:.2f}").out
    assert "which is probably not enough" in dsrl(*flags, "--budget", f"{dollars['expected'] / 2:.2f}").out
    assert "enough" not in dsrl(*flags, "--budget", f"{2 * dollars['high']:.2f}").out


def test_numbers_are_short_and_small_ones_are_not_zero() -> None:
    counts = (0, 9_999, 10_000, 1e6, 9.94e6, 9.95e6)
    assert [_format_count(number) for number in counts] == ["0", "9999", "10k", "1.0M", "9.9M", "10M"]
    assert [_format_dollars(usd) for usd in (0, 0.001, 1.5, 250.4)] == ["0.00", "<0.01", "1.50", "250"]
    assert [_format_time(seconds) for seconds in (90, 119, 120, 7199, 7200)] == [
        "90 s",
        "119 s",
        "2 min",
        "120 min",
        "2 h",
    ]
