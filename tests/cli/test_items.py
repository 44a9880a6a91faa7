from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dsrl.storage.evaluations import EvalItem, Evaluation
from dsrl.storage.run_store import RunStore
from dsrl.types import UNREADABLE


def test_items_are_listed_with_the_answers_of_both_models(dsrl: Any) -> None:
    store = RunStore(Path("runs/trial"))
    store.replace_items([EvalItem(f"question {n}\x1b[2J", "yes") for n in range(4)])
    base, trained = (True, True, False, False), (True, False, True, False)
    for model, truths in (("base", base), ("trained", trained)):
        answers = ["yes" if truth else UNREADABLE for truth in truths]
        store.add_evaluations(
            [Evaluation(model, n, "text", answer, truths[n]) for n, answer in enumerate(answers)]  # type: ignore[arg-type]
        )
    store.close()
    assert [row["number"] for row in json.loads(dsrl("items", "trial", "--json").out)] == [0, 1, 2, 3]
    for flag, numbers in {"--fixed": [2], "--broken": [1], "--wrong": [1, 3]}.items():
        assert [row["number"] for row in json.loads(dsrl("items", "trial", flag, "--json").out)] == numbers
    text = dsrl("items", "trial", "--broken").out
    assert "wrong: unreadable" in text
    assert "right: yes" in text
    assert "\x1b" not in text
    assert "2 of 4 items; --limit 0 shows all." in dsrl("items", "trial", "--limit", "2").err
