from __future__ import annotations

from typing import Any

import pytest

from dsrl.pipeline.report.data import (
    compare_forecast,
    count_agreement,
    count_confusion,
    count_pass_rates,
    describe_verdict,
    list_doubtful,
)
from dsrl.storage.listing import ItemRow, SampleRow


def make_sample(**values: Any) -> SampleRow:
    fields = dict.fromkeys(SampleRow.__slots__) | {"id": "1-0", "iteration": 1, "kind": "initial", "label": "yes"}
    return SampleRow(**(fields | values))


def make_item(label: str, base: str | None, trained: str | None) -> ItemRow:
    return ItemRow(0, "", "", "q", label, "o", base, base == label, "o", trained, trained == label)


@pytest.mark.parametrize(
    ("base", "trained", "interval", "words"),
    [
        (0.5, 0.75, [0.1, 0.4], "better: 75 of 100 test questions are answered correctly, 50 before the training"),
        (0.5, 0.25, [-0.4, -0.1], "worse: 25 of 100"),
        (0.5, 0.51, [-0.1, 0.1], "That can be chance"),
        (None, None, None, "The run is not finished"),
    ],
)
def test_the_verdict(base: Any, trained: Any, interval: Any, words: str) -> None:
    result = {"base_accuracy": base, "trained_accuracy": trained, "gain_ci95": interval, "model_path": None}
    assert words in describe_verdict(result)
    assert "was not evaluated" in describe_verdict({**result, "trained_accuracy": None, "model_path": "m"})


def test_pass_rates_are_counted_by_group() -> None:
    rows = [
        make_sample(passed=0, attempts=10),
        make_sample(passed=10, attempts=10, place=1),
        make_sample(passed=5, attempts=10, parent="1-0"),
        make_sample(),
    ]
    assert "trained" not in count_pass_rates(rows, {})
    counts = count_pass_rates(rows, {"1-0": 0.95, "1-1": -0.5, "1-2": 1.5})
    assert counts["trained"] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert counts["initial"] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert counts["rewritten"] == [0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    assert counts["selected"] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]


def test_answers_are_counted_by_label() -> None:
    items = [make_item("yes", "yes", "yes"), make_item("no", "yes", None), make_item("no", "maybe", "no")]
    base, trained = count_confusion(items, "base"), count_confusion(items, "trained")
    assert base["table"] == {"yes": {"yes": 1}, "no": {"yes": 1, "another answer": 1}}
    assert (trained["table"], trained["unreadable"]) == ({"yes": {"yes": 1}, "no": {"unreadable": 1, "no": 1}}, 1)
    assert count_confusion([make_item(str(n), "x", "y") for n in range(20)], "base")["table"] == {}


def test_labels_that_few_votes_agree_with_are_listed() -> None:
    rows = [make_sample(id=str(n), agreement=share, input="x" * 500) for n, share in enumerate((1.0, 0.6, 0.4, None))]
    doubtful = list_doubtful(rows)
    assert [(row["id"], row["agreement"]) for row in doubtful] == [("2", 0.4), ("1", 0.6)]
    assert len(doubtful[0]["input"]) == 200
    assert len(list_doubtful([make_sample(agreement=0.5, input="x")] * 50)) == 20


def test_agreement_is_counted_in_ten_classes() -> None:
    rows = [make_sample(agreement=share) for share in (1.0, 0.95, 0.5, 0.0)]
    assert count_agreement([*rows, make_sample(), make_sample(label=None, agreement=1.0)]) == [
        *(1, 0, 0, 0, 0),
        *(1, 0, 0, 0, 2),
    ]


def test_the_forecast_stands_beside_what_was_spent() -> None:
    calls = {"low": 5, "expected": 10, "high": 20}
    stages = [
        {"purpose": "solve", "calls": calls, "dollars": {"low": 0.1, "expected": 0.2, "high": 0.4}},
        {"purpose": "solve", "calls": calls, "dollars": {"low": 0.1, "expected": 0.2, "high": 0.4}},
        {"purpose": "write", "calls": calls, "dollars": None},
    ]
    spending = [
        {"purpose": "solve", "calls": 12, "cost_usd": 0.25},
        {"purpose": "solve", "calls": 3, "cost_usd": 0.05},
        {"purpose": "write", "calls": 7, "cost_usd": None},
    ]
    solve, write = compare_forecast(stages, spending)
    assert solve["calls"] == {"low": 10, "expected": 20, "high": 40}
    assert solve["dollars"] == pytest.approx({"low": 0.2, "expected": 0.4, "high": 0.8})
    assert (solve["actual_calls"], solve["actual_dollars"]) == (15, pytest.approx(0.3))
    assert (write["dollars"], write["actual_calls"], write["actual_dollars"]) == (None, 7, None)
    assert compare_forecast([], spending) == []
