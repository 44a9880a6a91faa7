"""A task in a file works with every command that takes the name of a task."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dsrl.testing.fault_server import FaultServer

TASK = """
description = "Say whether the number is even."

[answer]
form = "tag"
choices = ["yes", "no"]

[data]
test = "numbers.csv"
input_columns = ["number"]
output_column = "even"

[[demos]]
input = "4"
output = "<answer> yes </answer>"
"""


@pytest.fixture
def task_file(dsrl: Any) -> str:
    Path("even.toml").write_text(TASK)
    Path("numbers.csv").write_text("number,even\n" + "".join(f"{n},{'no' if n % 2 else 'yes'}\n" for n in range(40)))
    return "./even.toml"


def test_show_and_check(dsrl: Any, task_file: str) -> None:
    definition = json.loads(dsrl("tasks", "show", task_file, "--json").out)
    assert (definition["answer_format"], definition["choices"], definition["demonstrations"]) == (
        "tag",
        ["yes", "no"],
        1,
    )
    outcome = dsrl("tasks", "check", task_file, "--time-limit", "60", "--json")
    assert outcome.code == 0, outcome.out + outcome.err


def test_a_misspelt_key_ends_every_command_in_a_sentence(dsrl: Any, task_file: str) -> None:
    Path("even.toml").write_text(TASK.replace("choices", "choises"))
    for command in (["tasks", "show", task_file], ["run", "--task", task_file], ["plan", "--task", task_file]):
        outcome = dsrl(*command)
        assert outcome.code == 2, outcome.err
        assert "even.toml:6: [answer] has no key 'choises'; did you mean 'choices'?" in " ".join(outcome.err.split())


def test_its_columns_are_those_of_other_demonstrations_too(dsrl: Any, task_file: str) -> None:
    Path("examples.csv").write_text("number,even\n6,yes\n7,no\n9,no\n")
    command = "run --name other --task even.toml --demos examples.csv --samples 2 --stop-after keywords --force"
    outcome = dsrl(*command.split(), "--teacher", "procedural")
    assert "a demonstration has the columns" not in outcome.err
    Path("examples.csv").write_text("number,even\n6,maybe\n")
    outcome = dsrl(*command.split(), "--teacher", "procedural")
    assert "the choices of the task are yes, no" in outcome.err


def test_it_cannot_be_exported(dsrl: Any, task_file: str) -> None:
    outcome = dsrl("tasks", "export", task_file, "--to", "verifiers")
    assert outcome.code != 0
    assert "is a file, which a package cannot name" in " ".join(outcome.err.split())


def test_a_run_and_an_edited_file(dsrl: Any, server: FaultServer, command: Sequence[str], task_file: str) -> None:
    pytest.importorskip("openai")
    flags = [task_file if flag == "mednli" else flag for flag in command]
    outcome = dsrl(*flags, "--stop-after", "keywords")
    assert outcome.code == 0, outcome.err
    assert any("Say whether the number is even." in json.dumps(request) for request in map(str, server.requests))
    Path("even.toml").write_text(TASK.replace("even.", "odd."))
    outcome = dsrl(*flags, "--stop-after", "keywords")
    assert outcome.code != 0
    assert "the task's description has changed" in " ".join(outcome.err.split())
