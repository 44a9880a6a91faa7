"""The package of an exported task: what is in it, and how it is written. The real library: plugins/dsrl-verifiers/tests."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_sources import YES_NO

from dsrl import DataError, PluginRef, SettingsError, hookimpl, load
from dsrl.answers import AnswerFormat
from dsrl.export.package import describe_task, get_exporter, make_verifiers_package, write_package


class Described:
    """A task with any options, whose description is one of them."""

    def __init__(self, text: str = "A task.", **options: Any) -> None:
        self.text = text

    @hookimpl
    def description(self) -> str:
        return self.text

    @hookimpl
    def answer_format(self) -> AnswerFormat:
        return AnswerFormat("tag")


def read_literals(source: str) -> dict[str, Any]:
    """Return the constants of a module: name -> value."""
    literals = {}
    for node in ast.walk(ast.parse(source)):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            try:
                literals[getattr(target, "id", "")] = ast.literal_eval(node.value)  # type: ignore[attr-defined, union-attr]
            except (ValueError, TypeError):
                continue
    return literals


def test_the_package_names_the_task_its_options_and_what_it_needs(install: Any, tmp_path: Path) -> None:
    install("task", "described", Described, distribution="my-tasks")
    data = tmp_path / "items.jsonl"
    data.write_text("")
    task = load(PluginRef("task", "described", {"text": 'Say "yes".\n$HOME {x}', "n": [1, {"a": 0.5}]}), "task")
    files = make_verifiers_package(describe_task(task, str(data)))
    project = tomllib.loads(files["pyproject.toml"])
    assert project["project"]["name"] == "dsrl-described-env"
    assert project["project"]["dependencies"] == [
        "data-synthesis-rl>=0.1.0,<0.2",
        "my-tasks>=1.0",
        "verifiers>=0.4,<0.5",
    ]
    literals = read_literals(files["dsrl_described_env/taskset.py"])
    assert literals["TASK"] == "described"
    assert literals["OPTIONS"] == task.ref.options
    assert literals["dataset_path"] == str(data)
    assert '> Say "yes".\n> $HOME {x}\n' in files["README.md"]
    for name, text in files.items():
        if name.endswith(".py"):
            compile(text, name, "exec")


@settings(max_examples=100)
@given(st.text(min_size=1), st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.booleans())))
def test_any_text_gives_a_package_that_can_be_read(text: str, options: dict[str, Any]) -> None:
    """Names, options and descriptions come from strangers; none of them becomes code."""
    from dataclasses import replace

    task = BOUND["task"]
    odd = replace(task, ref=PluginRef("task", text, options))
    exported = describe_task(odd, "hub/id")
    assert exported.module.isidentifier()
    files = make_verifiers_package(exported)
    tomllib.loads(files["pyproject.toml"])
    literals = read_literals(files[f"{exported.module}/taskset.py"])
    assert (literals["TASK"], literals["OPTIONS"]) == (text, options)


BOUND: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def _bind_once(request: pytest.FixtureRequest, bound: Any) -> None:
    if request.node.name.startswith("test_any_text"):
        BOUND["task"] = bound("task", Described)


def test_what_cannot_be_written_is_refused(bound: Any, tmp_path: Path) -> None:
    import datetime

    for value in (datetime.date(2026, 1, 1), float("nan")):
        with pytest.raises(SettingsError, match="cannot be written into a package"):
            describe_task(bound("task", Described, day=value))
    override = tmp_path / "mine.py"
    override.write_text("from dsrl import hookimpl\n@hookimpl\ndef reward():\n    return 1.0\n")
    with pytest.raises(SettingsError, match="override files are not part of a package"):
        describe_task(bound("task", Described, overrides=(str(override),)))
    with pytest.raises(DataError, match=r"data set gone\.jsonl does not exist"):
        describe_task(bound("task", Described), "gone.jsonl")


def test_only_known_libraries_are_exported_to() -> None:
    assert get_exporter("verifiers") is make_verifiers_package
    with pytest.raises(SettingsError, match="--to openenv: a task can be exported to verifiers, and to nothing else"):
        get_exporter("openenv")


def test_a_task_without_data_says_so(bound: Any) -> None:
    exported = describe_task(bound("task", YES_NO))
    assert not exported.has_data
    assert "The task has no data set of its own" in make_verifiers_package(exported)["README.md"]
    assert describe_task(bound("task", YES_NO), "hub/id").has_data


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    files = {"a.txt": "a", "b/c.txt": "c"}
    folder = tmp_path / "deep" / "package"
    write_package(files, folder)
    assert (folder / "b/c.txt").read_text() == "c"
    with pytest.raises(SettingsError, match="exists and is not an empty folder"):
        write_package(files, folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    write_package(files, empty)
    assert (empty / "a.txt").is_file()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SettingsError):
        write_package(files, tmp_path / "file")
    with pytest.raises(SettingsError, match="cannot be written"):
        write_package(files, tmp_path / "file" / "inner")
    with pytest.raises(SettingsError, match="cannot be written"):
        write_package({"a": "a", "a/b": "a file cannot be a folder"}, tmp_path / "half")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "empty", "file"]


def test_a_judged_task_is_not_exported(bound: Any) -> None:
    class Judged(Described):
        @hookimpl
        def rubric(self) -> str:
            return "It must rhyme."

    with pytest.raises(SettingsError, match=r"is judged: its reward comes from a teacher .* so it is not exported"):
        describe_task(bound("task", Judged))
