"""``dsrl new``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dsrl.scaffold.package import SCAFFOLD_KINDS

ROWS = "text,label\nlate parcel,delivery\nwet box,delivery\ncharged twice,billing\n"


@pytest.mark.parametrize("kind", SCAFFOLD_KINDS)
def test_a_package_is_written_and_the_next_commands_are_shown(dsrl: Any, kind: str) -> None:
    outcome = dsrl("new", kind, "mine")
    assert outcome.code == 0
    assert Path("dsrl-mine/dsrl_mine/__init__.py").is_file()
    assert "pip install -e ./dsrl-mine" in outcome.out
    assert [path.name for path in Path().iterdir()] == ["dsrl-mine"]


def test_json_has_everything_that_a_script_needs(dsrl: Any) -> None:
    result = json.loads(dsrl("new", "task", "my_task", "--folder", "here/there", "--json").out)
    assert (result["distribution"], result["module"], result["folder"]) == (
        "dsrl-my-task",
        "dsrl_my_task",
        "here/there",
    )
    assert result["guess"] is None
    assert all((Path("here/there") / name).is_file() for name in result["files"])


def test_a_draft_shows_its_guess(dsrl: Any) -> None:
    Path("data.csv").write_text(ROWS, encoding="utf-8")
    outcome = dsrl("new", "task", "mine", "--from-data", "data.csv", "--json")
    assert "choices: delivery (2 rows), billing (1 rows)" in outcome.err
    guess = json.loads(outcome.out)["guess"]
    assert (guess["answer_format"], guess["choices"], guess["rows"]) == ("tag", ["delivery", "billing"], 3)
    assert guess["counts"] == {"delivery": 2, "billing": 1}
    assert "choices: delivery (2 rows), billing (1 rows)" in Path("dsrl-mine/README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["task", "My-Task"], 2, "for example 'my_task'"),
        (["task", "mednli"], 1, "already has a task 'mednli'"),
        (["task", "mine", "--folder", "full"], 2, "the folder full exists and is not empty"),
        (["model", "mine"], 2, "'model' is not one of"),
        (["teacher", "mine", "--from-data", "data.csv"], 2, "--from-data drafts a task"),
        (["task", "mine", "--answer", "tag"], 2, "--answer has no effect without --from-data"),
        (["task", "mine", "--input-column", "a"], 2, "--input-column has no effect without --from-data"),
        (
            ["task", "mine", "--from-data", "data.csv", "--output-column", "x"],
            1,
            "there is no such column; the columns are",
        ),
        (
            ["task", "mine", "--from-data", "data.csv", "--answer", "tag:a,b"],
            1,
            "data.csv:2: cannot be read as an",
        ),
        (["task", "mine", "--from-data", "nowhere.csv"], 1, "data set nowhere.csv"),
    ],
)
def test_bad_input_is_a_sentence_and_leaves_nothing(dsrl: Any, args: list[str], code: int, words: str) -> None:
    Path("data.csv").write_text(ROWS, encoding="utf-8")
    Path("full").mkdir()
    Path("full/file").touch()
    outcome = dsrl("new", *args)
    assert (outcome.code, outcome.out) == (code, "")
    assert words in " ".join(outcome.err.split())
    assert sorted(path.name for path in Path().iterdir()) == ["data.csv", "full"]
