"""A task is checked in child processes: nothing that it does ends or delays the check for long."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from task_sources import STRICT

from dsrl.errors import PluginError, SettingsError
from dsrl.plugins.task_checks.records import CheckResult
from dsrl.plugins.task_checks.run import CHECK_NAMES, CheckSettings, check_task
from dsrl.types import PluginRef

REWARD = f"{STRICT}\n@hookimpl\ndef reward(output, label):\n"
QUICK = CheckSettings(items=8, time_limit=2.0, longest=2_000)


CHECKED = PluginRef("task", "checked")


def check(
    install: Any, source: str, ref: PluginRef = CHECKED, settings: CheckSettings = QUICK
) -> dict[str, CheckResult]:
    install("task", "checked", source)
    report = check_task(ref, settings)
    assert (report.task, report.distribution, report.version) == ("checked", "stranger", "1.0")
    assert tuple(result.name for result in report.results) == CHECK_NAMES
    assert report.has_passed == all(result.verdict != "failed" for result in report.results)
    return {result.name: result for result in report.results}


def test_a_good_task_passes_all_checks(install: Any) -> None:
    begun: list[str] = []
    install("task", "checked", STRICT)
    report = check_task(CHECKED, QUICK, begun.append)
    assert {result.verdict for result in report.results} == {"passed"}
    assert begun == list(CHECK_NAMES)
    assert report.has_passed


@pytest.mark.parametrize("task", ["mednli", "gsm8k"])
def test_the_installed_tasks_pass(task: str) -> None:
    report = check_task(PluginRef("task", task), CheckSettings(items=50, longest=100_000))
    assert [(result.name, result.findings) for result in report.results if result.verdict == "failed"] == []


def test_a_reward_that_never_returns_is_stopped_and_named_with_its_line(install: Any) -> None:
    source = f"{REWARD}    import re\n    re.match('(a+)+b', 'a' * 40)\n    return 1.0\n"
    start = time.monotonic()
    results = check(install, source)
    assert time.monotonic() - start < 30
    finding = results["hooks"].findings[0].message
    assert "task 'checked' of stranger 1.0: its hook reward on " in finding
    assert "did not return within 2 s (dsrl_stranger" in finding
    assert finding.endswith(f".py:{STRICT.count(chr(10)) + 5})")
    assert [results[name].verdict for name in ("instructions", "test-set", "labels")] == ["passed"] * 3
    assert results["right-over-wrong"].verdict == "failed"
    assert results["speed"].message == "reward has not returned before"
    assert results["worker"].verdict == "skipped"


def test_a_task_that_hangs_when_it_is_imported_is_stopped(install: Any) -> None:
    source = f"{STRICT}\nimport time\nwhile True:\n    time.sleep(1)\n"
    results = check(install, source, settings=replace(QUICK, time_limit=0.5))
    assert "its import did not return within 3 s" in results["hooks"].message
    assert results["labels"].message == "its import has not returned before"


def test_a_task_that_ends_its_process_is_named(install: Any) -> None:
    source = f"{REWARD}    if label == 'no': os._exit(3)\n    return float(label in output)\n"
    results = check(install, source)
    assert results["hooks"].verdict == "passed"
    assert "its hook reward on" in results["right-over-wrong"].message
    assert "ended its process with exit code 3" in results["right-over-wrong"].message


def test_rewards_that_depend_on_the_process_are_found(install: Any) -> None:
    source = f"{REWARD}    return (f'<answer> {{label}} </answer>' in output) + os.getpid() * 1e-9\n"
    results = check(install, source)
    assert results["repeatability"].verdict == "passed"
    assert "in another process" in results["worker"].message


def test_a_task_that_cannot_be_bound_fails_once(install: Any) -> None:
    results = check(install, "def description():\n    return 'd'\n")
    assert "has no hook" in results["hooks"].message
    assert {results[name].verdict for name in CHECK_NAMES[1:]} == {"skipped"}


def test_a_function_without_its_mark_is_a_fault(install: Any) -> None:
    results = check(install, f"{STRICT}\ndef reward(output, label):\n    return 5.0\n")
    assert "reward has the name of a hook but no mark" in results["hooks"].message


def test_options_and_overrides_are_used(install: Any, tmp_path: Path) -> None:
    override = tmp_path / "constant.py"
    override.write_text("from dsrl import hookimpl\n\n@hookimpl\ndef reward():\n    return 1.0\n")
    results = check(install, STRICT, PluginRef("task", "checked", {}, (str(override),)))
    assert results["right-over-wrong"].verdict == "failed"
    with pytest.raises(SettingsError, match="takes no options; remove size"):
        check_task(PluginRef("task", "checked", {"size": 1}), QUICK)
    with pytest.raises(SettingsError, match="does not exist"):
        check_task(PluginRef("task", "checked", {}, ("missing.py",)), QUICK)
    with pytest.raises(PluginError, match="did you mean"):
        check_task(PluginRef("task", "chekced"), QUICK)


def test_the_evidence_names_file_and_line(install: Any, tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text('{"input": "Is it?", "output": "yes"}\n\n{"input": "Is it?", "output": "perhaps"}\n')
    install("task", "checked", STRICT.replace("@hookimpl\ndef load_dataset", "def make_items"))
    report = check_task(CHECKED, CheckSettings(str(path), longest=2_000))
    (labels,) = [result for result in report.results if result.name == "labels"]
    assert labels.findings[0].place == f"{path}:3"
    assert labels.findings[0].output == "'perhaps'"
    path.write_text("no JSON\n")
    report = check_task(CHECKED, CheckSettings(str(path), longest=2_000))
    (test_set,) = [result for result in report.results if result.name == "test-set"]
    assert f"{path}:1: not JSON" in test_set.message
