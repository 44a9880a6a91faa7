"""``dsrl tasks``, ``dsrl tasks show`` and ``dsrl tasks check``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from task_sources import STRICT, YES_NO

from dsrl.plugins.specs import API_VERSION

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


def test_a_good_task_passes_its_check(dsrl: Any, install: Any) -> None:
    install("task", "good", STRICT)
    outcome = dsrl("tasks", "check", "good", "--items", 5)
    assert outcome.code == 0
    assert "Task good (stranger 1.0)" in outcome.out
    assert "11 passed, 0 failed, 0 skipped\n" in outcome.out
    assert "warning: there is no input instruction" in outcome.out
    assert "check: worker" in outcome.err
    assert dsrl("-q", "tasks", "check", "good", "--items", 5).err == ""


def test_a_bad_task_fails_its_check_with_the_evidence(dsrl: Any, install: Any) -> None:
    install("task", "bad", f"{STRICT}\n@hookimpl\ndef reward(output, label):\n    return float(label in output)\n")
    outcome = dsrl("tasks", "check", "bad", "--json")
    report = json.loads(outcome.out)
    assert (outcome.code, report["task"], report["passed"]) == (1, "bad", False)
    verdicts = {check["name"]: check["verdict"] for check in report["checks"]}
    assert [name for name, verdict in verdicts.items() if verdict == "failed"] == ["garbage", "shortcuts"]
    (findings,) = [check["findings"] for check in report["checks"] if check["name"] == "shortcuts"]
    assert set(findings[0]) == {"message", "place", "output"}
    text = dsrl("tasks", "check", "bad")
    assert text.code == 1
    assert "shortcuts: demonstration 1: always the most frequent label: earns" not in text.out
    assert "shortcuts: demonstration 1: the input copied: earns 1 on average" in text.out
    assert f"shortcuts: and {len(findings) - 3} more; --json shows them" in text.out


def test_wrong_usage_of_the_check_is_told(dsrl: Any, install: Any) -> None:
    install("task", "good", STRICT)
    assert dsrl("tasks", "check").code == 2
    assert dsrl("tasks", "check", "good", "--items", "0").code == 2
    assert dsrl("tasks", "check", "good", "--task-option", "size").code == 2
    outcome = dsrl("tasks", "check", "good", "--task-option", "size=1")
    assert (outcome.code, "takes no options; remove size" in outcome.err) == (2, True)
    outcome = dsrl("tasks", "check", "goof")
    assert (outcome.code, "did you mean good?" in outcome.err) == (1, True)
    outcome = dsrl("tasks", "check", "good", "--dataset-path", "missing.jsonl")
    assert outcome.code == 0, "this task does not look at the path"


def test_tasks_export_writes_a_package_and_overwrites_nothing(dsrl: Any, tmp_path: Any) -> None:
    outcome = dsrl("tasks", "export", "mednli", "--to", "verifiers")
    assert (outcome.code, outcome.err) == (0, "")
    assert "task 'mednli' for verifiers in dsrl-mednli-env:\n" in outcome.out
    assert (tmp_path / "dsrl-mednli-env/dsrl_mednli_env/taskset.py").is_file()
    again = dsrl("tasks", "export", "mednli", "--to", "verifiers")
    assert (again.code, "exists and is not an empty folder" in again.err) == (2, True)
    told = json.loads(dsrl("tasks", "export", "mednli", "--to", "verifiers", "--out", "other", "--json").out)
    assert (told["distribution"], told["folder"], "README.md" in told["files"]) == ("dsrl-mednli-env", "other", True)


def test_tasks_export_refuses_what_it_cannot_write(dsrl: Any, install: Any, tmp_path: Any) -> None:
    before = set(tmp_path.iterdir())
    outcome = dsrl("tasks", "export", "mednli", "--to", "openenv")
    assert (outcome.code, "a task can be exported to verifiers" in outcome.err) == (2, True)
    assert "did you mean mednli" in dsrl("tasks", "export", "mednil", "--to", "verifiers").err
    assert "takes no options" in dsrl("tasks", "export", "mednli", "--to", "verifiers", "--task-option", "a=1").err
    assert set(tmp_path.iterdir()) == before
    install("task", "good", GOOD)
    outcome = dsrl("tasks", "export", "good", "--to", "verifiers", "--out", "good")
    assert (outcome.code, "has no data set of its own" in outcome.err) == (0, True)


@pytest.mark.parametrize("args", [["tasks", "show"], ["run", "--task"]])
def test_a_task_for_a_newer_hook_api_is_refused_with_both_versions(dsrl: Any, install: Any, args: list[str]) -> None:
    install("task", "newer", f"dsrl_api = {API_VERSION + 1}\n{GOOD}", distribution="newer-task")
    outcome = dsrl(*args, "newer")
    assert (outcome.code, outcome.out) == (1, "")
    assert "task 'newer' of newer-task 1.0 needs version 2 of the hook API, and this dsrl has version 1;" in outcome.err
