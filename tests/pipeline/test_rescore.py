from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dsrl.errors import DataError
from dsrl.pipeline.progress import SilentProgress
from dsrl.pipeline.rescore import rescore
from dsrl.storage.evaluations import EvalItem, Evaluation
from dsrl.storage.run_store import RunStore
from dsrl.types import UNREADABLE

TASK = """
from dsrl import UNREADABLE, hookimpl

@hookimpl
def description():
    return "Say yes or no."

@hookimpl
def output_instruction():
    return "Answer."

@hookimpl
def load_dataset():
    return []

@hookimpl
def process_prediction(output):
    return output.split()[-1] if output.split() else UNREADABLE
"""


@pytest.fixture
def store(tmp_path: Path) -> Any:
    (tmp_path / "yesno.py").write_text(TASK)
    store = RunStore(tmp_path / "one")
    store.keep_settings({"run": {"name": "one"}, "task": {"task": str(tmp_path / "yesno.py")}})
    store.replace_items([EvalItem("a", "yes"), EvalItem("b", "no")])
    yield store
    store.close()


def test_stored_answers_are_graded_again(store: RunStore) -> None:
    """The parser that made the stored grades read nothing; the present one reads the last word."""
    outputs = ["I say yes", ""]
    store.add_evaluations([Evaluation("base", n, text, UNREADABLE, False) for n, text in enumerate(outputs)])
    (result,) = rescore(store, SilentProgress())
    assert (result.model, result.before, result.now, result.changed) == ("base", 0.0, 0.5, 1)
    assert store.evaluations("base") == {0: True, 1: False}
    assert [each.answer for each in store.read_evaluations("base")] == ["yes", UNREADABLE]
    assert [each.output for each in store.read_evaluations("base")] == outputs
    assert any("0.0% before, 50.0% now" in text for _, _, text in store.events())
    # Nothing has changed since, so nothing is noted again.
    (again,) = rescore(store, SilentProgress())
    assert again.changed == 0
    assert json.dumps(again.reward)


def test_a_run_without_answers_is_refused(store: RunStore) -> None:
    with pytest.raises(DataError, match="no answers to test items"):
        rescore(store, SilentProgress())
