"""The package of a drafted task works, whatever the data holds."""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from dsrl.errors import DataError
from dsrl.plugins.binding import Plugin
from dsrl.scaffold.draft import Draft, Wishes, draft_task
from dsrl.scaffold.drafted_task import describe_guess, make_drafted_package
from dsrl.scaffold.names import LONGEST_NAME, Names
from dsrl.scaffold.package import write_package
from dsrl.types import UNREADABLE, Example

CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "choices": ([{"text": "The soup is cold.", "label": "bad"}, {"text": "Nice.", "label": "good"}] * 2, {}),
    "numbers": ([{"question": "How many?", "answer": "1,200"}, {"question": "And?", "answer": 7.5}], {}),
    "hashes": ([{"question": "How many?", "answer": "It is so.\n#### 1,200"}], {}),
    "boxed": ([{"problem": "1/2?", "solution": "1/2"}, {"problem": "2?", "solution": "2"}], {"answer": "boxed"}),
    "marked": ([{"text": str(n), "label": f"<answer> {w} </answer>"} for n, w in enumerate(("up", "down") * 2)], {}),
    "free": ([{"prompt": 'Say "x"', "completion": 'a "word"'}, {"prompt": "Go", "completion": "left\nor \\right"}], {}),
    "parts": (
        [
            {"premise": "A dog.", "a_claim": "It\nbarks.", "label": "yes"},
            {"premise": "B", "a_claim": "C", "label": "no"},
        ],
        {"input_columns": ("premise", "a_claim")},
    ),
    "odd": (
        [
            {'"""\\n$NAME': "$MODULE {x}", "label": w}
            for w in ('it\'s "odd"', "$FORM", "\u202e\x1b[31m", 'it\'s "odd"') * 2
        ],
        {},
    ),
    "choice": ([{"text": "a", "label": "yes"}, {"text": "b", "label": "NO"}], {"answer": "choice:yes,no"}),
}


def make(folder: Path, case: str) -> tuple[Draft, Path]:
    rows, wishes = CASES[case]
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    draft = draft_task(str(data), Wishes(**wishes))
    package = folder / "package"
    write_package(
        make_drafted_package(Names("task", f"drafted_{case}".ljust(LONGEST_NAME, "x")), draft, "MIT"), package
    )
    return draft, package


@pytest.fixture(params=CASES)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Draft, Path]:
    return make(tmp_path, request.param)


def load_module(package: Path) -> Any:
    (file,) = package.glob("dsrl_*/__init__.py")
    spec = importlib.util.spec_from_file_location(file.parent.name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def task(made: tuple[Draft, Path], bound: Any) -> Plugin[Any]:
    plugin: Plugin[Any] = bound("task", load_module(made[1]))
    return plugin


def test_the_task_reads_its_own_data_and_demonstrations(made: tuple[Draft, Path], task: Plugin[Any]) -> None:
    draft, package = made
    items = list(task.hook.load_dataset(path=draft.source, split="test"))
    assert len(items) == draft.rows
    for item in (*items, *task.hook.demos(domain="")):
        label = task.hook.process_label(output=item.output, input=item.input)
        assert label is not UNREADABLE
        assert task.hook.process_prediction(output=item.output, input=item.input) == label
        assert task.hook.reward(output=item.output, label=label, input=item.input) == 1.0
    assert len(task.hook.demos(domain="")) == min(draft.rows, 4)
    assert set(task.hook.load_dataset(path=str(package / "tests/items.jsonl"), split="test")) <= set(items)


def test_its_own_test_class_passes(made: tuple[Draft, Path], task: Plugin[Any]) -> None:
    _, package = made
    source = next(package.glob("tests/test_*.py"))
    namespace: dict[str, Any] = {"__file__": str(source)}
    exec(compile(source.read_text("utf-8"), str(source), "exec"), namespace)
    (contract,) = (value for name, value in namespace.items() if name.startswith("Test"))
    instance = contract()
    instance.test_examples(task)
    instance.test_a_label_is_its_own_right_answer(task)
    instance.test_a_right_output_earns_more_than_a_wrong_one(task)
    instance.test_a_dataset_can_be_loaded(task, package)


def test_the_files_are_clean(tmp_path: Path) -> None:
    for case in CASES:
        (tmp_path / case).mkdir()
        _, package = make(tmp_path / case, case)
        tomllib.loads((package / "pyproject.toml").read_text("utf-8"))
    for command in (["check"], ["format", "--check"]):
        ended = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_description_says_that_it_is_a_draft_until_somebody_corrects_it(
    tmp_path: Path, bound: Any, caplog: pytest.LogCaptureFixture
) -> None:
    module = load_module(make(tmp_path, "choices")[1])
    hook = bound("task", module).hook
    with caplog.at_level(logging.WARNING):
        assert hook.description() == "You are given the text. Find the right label. It is one of these: bad, good."
    assert "is a draft" in caplog.text
    caplog.clear()
    module.IS_DRAFT = False
    hook.description()
    assert caplog.text == ""


def test_a_label_outside_the_choices_is_refused_later_too(tmp_path: Path, bound: Any) -> None:
    hook = bound("task", load_module(make(tmp_path, "choices")[1])).hook
    path = tmp_path / "test.csv"
    path.write_text("text,label\nfine,good\nwell,so so\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"test\.csv:3: .*the label 'so so' is not one of the choices bad, good"):
        hook.load_dataset(path=str(path), split="test")
    path.write_text("words,label\nfine,good\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column 'text'; the columns are words, label"):
        hook.load_dataset(path=str(path), split="test")


def test_bare_answers_are_put_into_the_form(tmp_path: Path, bound: Any) -> None:
    hook = bound("task", load_module(make(tmp_path, "numbers")[1])).hook
    assert hook.demos(domain="")[0] == Example("How many?", "#### 1,200")


def test_the_guess_is_printable(tmp_path: Path) -> None:
    draft, package = make(tmp_path, "odd")
    assert all(line.isprintable() for line in describe_guess(draft))
    assert all(f"- {line}" in (package / "README.md").read_text("utf-8") for line in describe_guess(draft))
