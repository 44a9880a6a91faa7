"""The task logiqa. The rows are made up."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from dsrl_tasks import logiqa

from dsrl.errors import DataError
from dsrl.testing import ProceduralTaskContract
from dsrl.types import UNREADABLE, Example

OPTIONS = ["All are wet.", "None is wet.", "Some are wet.", "It is dry."]
ROW = {"context": "Rain fell.", "query": "What follows?", "options": OPTIONS, "correct_option": 2}
INPUT = (
    "Context: Rain fell.\nQuestion: What follows?\nA: All are wet.\nB: None is wet.\nC: Some are wet.\nD: It is dry."
)
ITEM = Example(INPUT, "C")


class TestLogiQA(ProceduralTaskContract):
    levels = (1, 2, 3, 4, 5)
    examples = (
        ("<think> A is wrong. </think> <answer> C </answer>", "C"),
        ("<answer>A</answer>", "A"),
        ("<answer>E</answer>", UNREADABLE),
    )

    @pytest.fixture
    def plugin(self) -> ModuleType:
        return logiqa


def test_the_originals_label_is_an_index(bound: Any) -> None:
    hook = bound("task", logiqa).hook
    outputs = ("2", "C", "c", "<answer> B </answer>")
    assert [hook.process_label(output=output, input=INPUT) for output in outputs] == ["C", "C", "C", "B"]
    assert {hook.process_label(output=output, input=INPUT) for output in ("4", "E", "")} == {UNREADABLE}


def test_a_prediction_is_not_read_as_an_index(bound: Any) -> None:
    assert bound("task", logiqa).hook.process_prediction(output="<answer>2</answer>", input=INPUT) is UNREADABLE


def test_the_reward_is_that_of_the_paper(bound: Any) -> None:
    hook = bound("task", logiqa).hook
    outputs = ("<answer>C</answer>", "<answer>A</answer>", "C")
    assert [hook.reward(output=output, label="C", input=INPUT) for output in outputs] == [1.0, 0.1, 0.0]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".csv"])
@pytest.mark.parametrize("label", [2, "2", "C", "c"])
def test_each_form_of_the_data_set_is_read(bound: Any, write_rows: Any, suffix: str, label: Any) -> None:
    path = write_rows([{**ROW, "correct_option": label}], suffix)
    assert bound("task", logiqa).hook.load_dataset(path=path, split="test") == [ITEM]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"correct_option": 4}, "the label '4' is not one of A, B, C, D, and no index 0 to 3"),
        ({"options": OPTIONS[:3]}, "there are 3 options, not 4"),
    ],
)
def test_a_faulty_row_is_named(bound: Any, write_rows: Any, change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=rf"items\.jsonl:2: .*{words}"):
        bound("task", logiqa).hook.load_dataset(path=write_rows([ROW, {**ROW, **change}]), split="test")


def test_without_a_path_there_are_procedural_items(bound: Any) -> None:
    hook = bound("task", logiqa).hook
    test, dev = (hook.load_dataset(path="", split=split) for split in ("test", "train"))
    assert len(test) == len(dev) == logiqa.HELD_OUT_ITEMS
    assert not {item.input for item in test} & {item.input for item in dev}


def test_the_hubs_copy_as_parquet_is_read(monkeypatch: pytest.MonkeyPatch, bound: Any) -> None:
    calls: list[Any] = []

    def fake_load_dataset(*arguments: Any, **more: Any) -> dict[str, Any]:
        calls.append((*arguments, more))
        return {"test": [ROW]}

    monkeypatch.setattr("datasets.load_dataset", fake_load_dataset)
    assert bound("task", logiqa).hook.load_dataset(path="lucasmccabe/logiqa", split="test") == [ITEM]
    files = {"test": "default/test/*.parquet"}
    assert calls == [("lucasmccabe/logiqa", None, {"revision": "refs/convert/parquet", "data_files": files})]
