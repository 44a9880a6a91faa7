"""``dsrl tasks`` and ``dsrl tasks show``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from task_sources import YES_NO

GOOD = YES_NO + '\n@hookimpl\ndef base_model():\n    return "tiny"\n'

WITH_DATA = (
    GOOD
    + """
from dsrl import DatasetInfo

@hookimpl
def dataset_info():
    sizes = {"train": 7473, "test": 1319}
    return DatasetInfo("who/what", "MIT", "Some Body 2021, A Data Set", "https://example.org/what", sizes, config="main")
"""
)


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


def test_tasks_show_tells_where_the_data_comes_from_and_its_licence(dsrl: Any, install: Any) -> None:
    install("task", "good", WITH_DATA)
    text = dsrl("tasks", "show", "good").out
    for line in (
        "data set: who/what, configuration main",
        "data set license: MIT",
        "data set citation: Some Body 2021, A Data Set",
        "data set page: https://example.org/what",
        "data set size: train 7,473, test 1,319",
        "data set loader: not run on the real data",
    ):
        assert f"{line}\n" in text
    assert json.loads(dsrl("tasks", "show", "good", "--json").out)["dataset"] == {
        "id": "who/what",
        "license": "MIT",
        "citation": "Some Body 2021, A Data Set",
        "url": "https://example.org/what",
        "sizes": {"train": 7473, "test": 1319},
        "config": "main",
        "revision": "",
        "is_read": False,
    }
    install("task", "bare", YES_NO, distribution="bare")
    assert "data set: none\n" in dsrl("tasks", "show", "bare").out
    assert json.loads(dsrl("tasks", "show", "bare", "--json").out)["dataset"] is None
