from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dsrl.storage.evaluations import EvalItem, Evaluation
from dsrl.storage.run_store import RunStore


def make_run(name: str, truths: tuple[bool, ...], label: str = "yes") -> None:
    store = RunStore(Path("runs") / name)
    store.keep_settings({"run": {"name": name}, "task": {"task": "mednli"}})
    store.replace_items([EvalItem(f"question {n}", label) for n in range(len(truths))])
    for model, answers in (("base", [False] * len(truths)), ("trained", truths)):
        store.add_evaluations([Evaluation(model, n, "t", label, truth) for n, truth in enumerate(answers)])
    store.close()


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
