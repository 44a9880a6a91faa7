"""From settings to the one record that a run works with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from dsrl.errors import DsrlError, PluginError
from dsrl.pipeline.context import resolve_run
from dsrl.pipeline.workspace import Workspace
from dsrl.settings import resolve
from dsrl.types import Purpose


def resolve_context(stop_after: str = "evaluated", **settings: Any) -> Any:
    return resolve_run(
        resolve({"task": "mednli", "name": "r", **settings}), Workspace(Path("w"), Path("c")), stop_after
    )


def test_everything_that_the_settings_name_is_resolved() -> None:
    context = resolve_context(domain=("fever",), budget=2.0, price=("procedural=1,2",))
    assert Path(context.base_model).is_dir(), "the name 'tiny' is a folder now"
    assert set(context.teachers) == set(get_args(Purpose))
    assert context.teachers["solve"].price.completion == 2
    (task,) = context.tasks.values()
    assert (task.domains, context.policy.budget) == (("fever",), 2.0)
    assert task.definition.output_instruction
    assert (context.folder, context.workspace.reply_store) == (Path("w/r"), Path("c/calls.db"))
    names = [plugin.name for plugin in context.plugins]
    assert {"mednli", "procedural", "bm25", "grpo", "transformers"} <= set(names)


def test_a_command_includes_the_stages_up_to_its_last() -> None:
    context = resolve_context("verified")
    assert [context.includes(stage) for stage in ("keywords", "verified", "attempted")] == [True, True, False]


def test_an_iteration_starts_from_the_model_of_the_one_before() -> None:
    context = resolve_context(iterations=2, output_model="out")
    assert context.get_start_model(1) == context.base_model
    assert context.get_start_model(2) == str(context.get_output_folder(1)) == "w/r/rounds/1/model"
    assert context.get_output_folder(2) == Path("out")
    assert resolve_context().get_output_folder(1) == Path("w/r/model")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"trainer": "nothing"}, "nothing"),
        ({"sampler": "nothing"}, "nothing"),
        ({"corpus": ("missing.jsonl",)}, "missing.jsonl"),
        ({"demos": "missing.json"}, "missing.json"),
        ({"price": ("m",)}, "--price"),
    ],
)
def test_what_cannot_be_resolved_is_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(DsrlError, match=words):
        resolve_context(**settings)


def test_a_wrong_plugin_is_found_before_a_teacher_looks_for_its_key() -> None:
    with pytest.raises(PluginError, match="no retriever 'nothing'"):
        resolve_context(retriever="nothing", teacher="openai:m")
