"""The checks of a task: a good task passes every one, and each finds the faults that it is for."""

from __future__ import annotations

from typing import Any

import pytest
from task_sources import FAULTY_HOOKS, STRICT

from dsrl.plugins.task_checks import checks as module
from dsrl.plugins.task_checks.checks import CHECKS, TaskChecks
from dsrl.plugins.task_checks.gold import CheckedTask, collect_gold
from dsrl.plugins.task_checks.records import CheckResult


def run(task: Any, name: str) -> CheckResult:
    checked = CheckedTask(task)
    return TaskChecks(checked, collect_gold(checked, "", 50), longest=2_000).run(name)


@pytest.mark.parametrize("name", CHECKS)
def test_a_good_task_passes(bound: Any, name: str) -> None:
    result = run(bound("task", STRICT), name)
    assert (result.name, result.verdict, result.findings) == (name, "passed", ())


@pytest.mark.parametrize(
    ("name", "source", "words"), [(name, *fault) for name, faults in FAULTY_HOOKS.items() for fault in faults]
)
def test_a_faulty_task_fails(bound: Any, name: str, source: str, words: str) -> None:
    result = run(bound("task", f"{STRICT}\n@hookimpl\n{source}"), name)
    assert result.verdict == "failed"
    assert words in "\n".join(map(str, result.findings))


def test_the_finding_names_plugin_hook_and_line(bound: Any) -> None:
    (finding, *_) = run(
        bound("task", f"{STRICT}\n@hookimpl\ndef reward(output):\n    return 1 / 0\n"), "garbage"
    ).findings
    line = STRICT.count("\n") + 4
    assert "of stranger-task0 1.0: its hook reward failed with ZeroDivisionError" in finding.message
    assert finding.message.endswith(f":{line})")


@pytest.mark.parametrize("name", ["labels", "right-over-wrong", "shortcuts", "repeatability", "speed"])
def test_a_task_without_gold_outputs_is_not_judged(bound: Any, name: str) -> None:
    source = f"{STRICT}\n@hookimpl\ndef load_dataset():\n    return None\n\n@hookimpl\ndef demos():\n    return []\n"
    task = bound("task", source)
    result = run(task, name)
    assert result.verdict == "skipped"
    assert "--dataset-path" in result.message
    assert "--dataset-path" in run(task, "test-set").message
    assert run(task, "garbage").verdict == "passed"
    assert run(task, "demonstrations").verdict == "skipped"


@pytest.mark.parametrize("name", ["right-over-wrong", "shortcuts"])
def test_items_with_one_label_are_not_judged(bound: Any, name: str) -> None:
    source = f"{STRICT}\n@hookimpl\ndef load_dataset():\n    return [Example('Is it?', 'yes')] * 9\n"
    result = run(bound("task", source), name)
    assert (result.verdict, "same label" in result.message) == ("skipped", True)


def test_a_frequent_label_raises_what_chance_can_earn(bound: Any) -> None:
    items = "[Example(f'{n}?', 'yes' if n else 'no') for n in range(19)]"
    source = f"{STRICT}\n@hookimpl\ndef load_dataset():\n    return {items}\n"
    result = run(bound("task", source), "shortcuts")
    assert (result.verdict, result.figures["chance"], result.figures["items"]) == ("passed", 0.95, 20)


def test_a_slow_reward_is_a_warning(bound: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMED_SECONDS", 0.01)
    result = run(
        bound("task", f"{STRICT}\n@hookimpl\ndef reward():\n    import time; time.sleep(0.002); return 1.0\n"), "speed"
    )
    assert result.verdict == "passed"
    assert "a step of training with 1,024 answers" in result.warning
    assert 0 < result.figures["rewards_per_second"] < 1000


def test_a_slow_answer_is_a_warning(bound: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOW_SECONDS", 0.05)
    source = (
        f"{STRICT}\n@hookimpl\ndef reward(output):\n    if '[INST]' in output:\n        __import__('time').sleep(0.1)\n"
    )
    result = run(
        bound("task", f"{source}    return float(output == '<think> </think> <answer> yes </answer>')\n"), "garbage"
    )
    assert "the slowest output took 0.1 s" in result.warning
    assert "[INST]" in result.warning


def test_the_parts_of_a_reward_are_compared_and_named(bound: Any) -> None:
    source = f"""{STRICT}
@hookimpl
def reward(output, label):
    right = float(output == f"<think> </think> <answer> {{label}} </answer>")
    CALLS.append(1)
    return Reward(right, {{"result": right, "length": len(CALLS) * GROWTH}})
CALLS, GROWTH = [], """
    assert "parts: length, result" in run(bound("task", source + "0"), "repeatability").message
    (finding, *_) = run(bound("task", source + "1"), "repeatability").findings
    assert "length=" in finding.message


def test_the_checks_of_a_reward_are_skipped_for_a_judged_task(bound: Any) -> None:
    own = bound("task", f"{STRICT}\n@hookimpl\ndef rubric():\n    return 'It must rhyme.'\n")
    verdicts = {name: run(own, name).verdict for name in CHECKS}
    skipped = {"right-over-wrong", "shortcuts", "repeatability", "speed"}
    assert {name for name, verdict in verdicts.items() if verdict == "skipped"} == skipped
    assert {name for name, verdict in verdicts.items() if verdict == "failed"} == set()
    assert "--judgements measures the judge" in run(own, "shortcuts").message
    checked = CheckedTask(bound("task", STRICT))
    checks = TaskChecks(checked, collect_gold(checked, "", 50), 2_000, is_judged=True)
    assert checks.run("shortcuts").verdict == "skipped", "by the user's rubric"
