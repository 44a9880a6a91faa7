"""Every task of the distribution is declared, can be loaded, and says what its data set is."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path
from typing import Any

import pytest

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


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"math", "text2sql"}))
def test_an_instruction_that_is_copied_back_is_no_answer(bound: Any, name: str) -> None:
    hook = load_task(bound, name).hook
    for text in (hook.description(), hook.input_instruction(), hook.output_instruction()):
        assert hook.reward(output=text, label=(*hook.answer_format().choices, "0")[0], input="") == 0.0
