"""``dsrl tasks`` and ``dsrl tasks show``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from task_sources import YES_NO

from dsrl.plugins.specs import API_VERSION

GOOD = YES_NO + '\n@hookimpl\ndef base_model():\n    return "tiny"\n'


def test_the_list_names_every_task_and_imports_none(dsrl: Any, install: Any) -> None:
    install("task", "loud", "raise SystemExit('imported')", distribution="loud-task")
    tasks = json.loads(dsrl("tasks", "--json").out)
    assert {"name": "loud", "distribution": "loud-task", "version": "1.0"} in tasks
    table = dsrl("tasks").out
    assert all(task["name"] in table for task in tasks)


def test_an_empty_list_says_where_tasks_come_from(dsrl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsrl.plugins.discovery.list_plugins", lambda kind: [])
    outcome = dsrl("tasks")
    assert (outcome.code, outcome.out) == (0, "")
    assert "No task is installed" in outcome.err
    assert json.loads(dsrl("tasks", "--json").out) == []


def test_a_task_shows_its_answer_format_and_what_it_leaves_out(dsrl: Any, install: Any) -> None:
    install("task", "good", GOOD)
    definition = json.loads(dsrl("tasks", "show", "good", "--json").out)
    assert (definition["answer_format"], definition["choices"]) == ("tag", ["yes", "no"])
    assert (definition["domains"], definition["demonstrations"], definition["procedural"]) == ([], 0, False)
    text = dsrl("tasks", "show", "good").out
    assert "choices: yes, no\n" in text
    assert "domains: none\n" in text


def test_tasks_show_names_the_base_model(dsrl: Any, install: Any) -> None:
    install("task", "good", GOOD)
    assert json.loads(dsrl("tasks", "show", "good", "--json").out)["base_model"] == "tiny"
    assert "base model: tiny\n" in dsrl("tasks", "show", "good").out
    assert json.loads(dsrl("tasks", "show", "gsm8k", "--json").out)["base_model"] is None
    assert "base model: none\n" in dsrl("tasks", "show", "gsm8k").out


@pytest.mark.parametrize("args", [["tasks", "show"], ["run", "--task"]])
def test_a_task_for_a_newer_hook_api_is_refused_with_both_versions(dsrl: Any, install: Any, args: list[str]) -> None:
    install("task", "newer", f"dsrl_api = {API_VERSION + 1}\n{GOOD}", distribution="newer-task")
    outcome = dsrl(*args, "newer")
    assert (outcome.code, outcome.out) == (1, "")
    assert "task 'newer' of newer-task 1.0 needs version 2 of the hook API, and this dsrl has version 1;" in outcome.err
