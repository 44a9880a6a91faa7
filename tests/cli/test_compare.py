from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
from evaluated_runs import add_repeat, make_run


def test_three_runs_are_compared(dsrl: Any) -> None:
    make_run("one", (True,) * 4 + (False,) * 16)
    make_run("two", (True,) * 14 + (False,) * 6)
    make_run("three", (True,) * 13 + (False,) * 7)
    comparison = json.loads(dsrl("compare", "one", "two", "three", "--json").out)
    assert comparison["n_test"] == 20
    assert [run["trained_accuracy"] for run in comparison["runs"]] == [0.2, 0.7, 0.65]
    pairs = {(each["first"], each["second"]): each for each in comparison["differences"]}
    assert list(pairs) == [("one", "two"), ("one", "three"), ("two", "three")]
    assert pairs["one", "two"]["difference"] == 0.5
    assert pairs["one", "two"]["interval"][0] > 0
    assert pairs["one", "two"]["adjusted_p"] == 3 * 2 / 2**10
    assert pairs["two", "three"]["adjusted_p"] == 1
    text = dsrl("compare", "one", "two").out
    assert "+50.0%" in text
    assert "20 test items" in text


def test_runs_that_cannot_be_compared(dsrl: Any) -> None:
    make_run("one", (True,) * 4)
    make_run("other", (True,) * 4, label="no")
    outcome = dsrl("compare", "one", "other")
    assert outcome.code == 1
    assert "the first that differs, in its label, is item 0" in outcome.err
    outcome = dsrl("compare", "one", "one")
    assert outcome.code == 2
    assert "needs two different runs" in outcome.err
    assert "there is no run 'nothing'" in dsrl("compare", "one", "nothing").err


def test_repeated_trainings_stand_for_a_run(dsrl: Any) -> None:
    make_run("one", (True,) * 4 + (False,) * 16)
    make_run("two", (True,) * 14 + (False,) * 6)
    once = json.loads(dsrl("compare", "one", "two", "--json").out)
    assert [(run["seeds"], run["mean_accuracy"]) for run in once["runs"]] == [(1, None), (1, None)]
    add_repeat("two", 1, (True,) * 12 + (False,) * 8)
    add_repeat("two", 2, (True,) * 16 + (False,) * 4)
    add_repeat("two", 3, (False,) * 20, origin="of other samples")
    several = json.loads(dsrl("compare", "one", "two", "--json").out)
    two = several["runs"][1]
    assert (two["seeds"], two["trained_accuracy"]) == (3, 0.7)
    assert (two["mean_accuracy"], two["spread"]) == pytest.approx((0.7, 0.1))
    (before,), (after,) = once["differences"], several["differences"]
    assert after["difference"] == pytest.approx(0.5)
    low, high = after["interval"]
    assert high - low > before["interval"][1] - before["interval"][0]  # other seeds would give other models
    assert 0 < after["p"] < 0.01
    assert "70.0% ± 10.0%" in dsrl("compare", "one", "two").out
    shutil.rmtree("runs/two/ablations")
    assert json.loads(dsrl("compare", "one", "two", "--json").out) == once
