"""Answers as models write them, and what each must earn: the tables in ``data/``, through the hooks of the tasks."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dsrl import UNREADABLE
from dsrl.plugins.binding import load
from dsrl.types import PluginRef

DATA = Path(__file__).parent / "data"
TABLES = {
    path.name: tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(DATA.glob("answer_variants*.toml"))
}
VARIANTS = [
    {"input": table.get("inputs", {}).get(variant["task"], ""), **variant}
    for table in TABLES.values()
    for variant in table["variant"]
]
TASKS = sorted({variant["task"] for variant in VARIANTS})
REWARDS = {"right": 1.0, "wrong": 0.1, "unreadable": 0.0}


def judge_by_task(hook: Any, variant: dict[str, Any]) -> str:
    output, label, input = variant["output"], variant["label"], variant["input"]
    prediction = hook.process_prediction(output=output, input=input)
    if prediction is UNREADABLE:
        verdict = "unreadable"
    else:
        verdict = "right" if hook.eval(prediction=prediction, label=label, input=input) else "wrong"
    # Training and evaluation must agree.
    assert float(hook.reward(output=output, label=label, input=input)) == REWARDS[verdict], variant
    return verdict


@pytest.mark.parametrize("task", TASKS)
def test_every_variant_has_the_expected_verdict(task: str) -> None:
    variants = [variant for variant in VARIANTS if variant["task"] == task]
    hook = load(PluginRef("task", task), "task").hook
    verdicts = [judge_by_task(hook, variant) for variant in variants]
    wrong = [
        (v["output"], v["label"], v["why"], got)
        for v, got in zip(variants, verdicts, strict=True)
        if got != v["verdict"]
    ]
    assert wrong == []


def test_the_table_is_large_and_has_no_row_twice() -> None:
    assert len(VARIANTS) >= 400
    assert {variant["verdict"] for variant in VARIANTS} == set(REWARDS)
    rows = Counter((v["task"], v["input"], v["output"], v["label"]) for v in VARIANTS)
    assert [row for row, n in rows.items() if n > 1] == []
