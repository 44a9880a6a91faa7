"""Every task of the distribution is declared, can be loaded, and says what its data set is."""

from __future__ import annotations

import importlib
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from dsrl import Example

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TASKS = PROJECT["project"]["entry-points"]["dsrl.tasks"]


def load_task(bound: Any, name: str) -> Any:
    module, _, attribute = TASKS[name].partition(":")
    target = importlib.import_module(module)
    return bound("task", getattr(target, attribute) if attribute else target)


def test_every_folder_is_a_task() -> None:
    assert set(TASKS) == {path.parent.name for path in (ROOT / "dsrl_tasks").glob("*/__init__.py")}
    assert all(target.partition(":")[0] == f"dsrl_tasks.{name}" for name, target in TASKS.items())


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_its_instructions(bound: Any, name: str) -> None:
    hook = load_task(bound, name).hook
    assert len(hook.description()) > 100
    assert hook.output_instruction()


@pytest.mark.parametrize("name", TASKS)
def test_every_task_says_what_its_data_set_is(bound: Any, name: str) -> None:
    info = load_task(bound, name).hook.dataset_info()
    assert info.url.startswith("https://")
    assert info.license
    assert "arXiv:" in info.citation
    assert info.sizes


@pytest.mark.parametrize("name", TASKS)
def test_every_task_reads_a_file_with_input_output_and_domain(bound: Any, name: str, tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps({"Input": "What?", "output": "A", "domain": "here"}), encoding="utf-8")
    items = load_task(bound, name).hook.load_dataset(path=str(path), split="test")
    assert list(items) == [Example("What?", "A", "here")]


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"math", "text2sql"}))
def test_an_instruction_that_is_copied_back_is_no_answer(bound: Any, name: str) -> None:
    hook = load_task(bound, name).hook
    for text in (hook.description(), hook.input_instruction(), hook.output_instruction()):
        assert hook.reward(output=text, label=(*hook.answer_format().choices, "0")[0], input="") == 0.0


@pytest.mark.parametrize("name", ["cfa", "cqa", "medqa"])
def test_a_folder_of_one_file_can_be_copied_under_another_name(bound: Any, name: str, tmp_path: Path) -> None:
    copied = bound("task", (ROOT / f"dsrl_tasks/{name}/__init__.py").read_text(encoding="utf-8")).hook
    own = load_task(bound, name).hook
    assert copied.output_instruction() == own.output_instruction()
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps({"input": "What?", "output": "A"}), encoding="utf-8")
    assert list(copied.load_dataset(path=str(path), split="test")) == [Example("What?", "A")]
