"""How the settings of a run come about before it is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dsrl.errors import DataError
from dsrl.pipeline.setup import resolve_settings

TASK = """
from dsrl import AnswerFormat, hookimpl

@hookimpl
def description():
    return "Say yes or no."

@hookimpl
def answer_format():
    return AnswerFormat("tag", ("yes", "no"))
"""
BASE_MODEL = """
@hookimpl
def base_model():
    return {name!r}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return the folder of a model whose recipe sets a learning rate."""
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "dsrl.toml").write_text("[train]\nlearning_rate = 0.5\n")
    return folder


def test_a_task_may_name_the_base_model_that_it_is_meant_for(install: Any, model: Path, tmp_path: Path) -> None:
    install("task", "meant", TASK + BASE_MODEL.format(name=str(model)))
    settings = resolve_settings(None, {"task": "meant"})
    assert (settings.base_model, settings.learning_rate) == (str(model), 0.5), "with the recipe of that model"
    assert resolve_settings(None, {"task": "meant", "base_model": "tiny"}).base_model == "tiny"
    file = tmp_path / "settings.toml"
    file.write_text('[task]\ntask = "meant"\n[score]\nbase_model = "tiny"\n')
    assert resolve_settings(file, {}).base_model == "tiny"


def test_a_task_that_names_no_base_model_gets_the_default(install: Any) -> None:
    install("task", "plain", TASK)
    assert resolve_settings(None, {"task": "plain"}).base_model == "tiny"


def test_a_task_that_names_an_unknown_base_model_is_refused(install: Any) -> None:
    install("task", "lost", TASK + BASE_MODEL.format(name="no such model"))
    with pytest.raises(DataError, match="base model 'no such model' is neither an installed model"):
        resolve_settings(None, {"task": "lost"})
