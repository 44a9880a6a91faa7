"""``dsrl doctor``: what it prints, and its exit codes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dsrl.plugins.diagnosis import Diagnosis
from dsrl.types import Finding

WORKS = Finding("ok", "torch works on the CPU")
LACKS = Finding("warning", "the package vllm is not installed", "pip install 'dsrl-vllm[gpu]'")
BROKEN = Finding("problem", "it cannot be imported")
NOTE = Finding("note", "not installed: Trains with verl.", "pip install ./plugins/dsrl-verl")


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a function that sets what the plugins answer."""

    def set_answer(**findings: Finding) -> None:
        answers = [
            Diagnosis(
                name.partition("_")[0], name.partition("_")[2], "dsrl-it", "" if finding is NOTE else "1.0", (finding,)
            )
            for name, finding in findings.items()
        ]
        monkeypatch.setattr("dsrl.plugins.diagnosis.diagnose_plugins", lambda options: answers)

    return set_answer


@pytest.mark.parametrize(
    ("answers", "code", "words"),
    [
        ({"sampler_a": WORKS, "trainer_b": WORKS, "trainer_c": NOTE}, 0, "A run can work here."),
        ({"sampler_a": WORKS, "trainer_b": WORKS, "sampler_c": LACKS}, 3, "pip install 'dsrl-vllm[gpu]'"),
        ({"sampler_a": WORKS, "trainer_b": WORKS, "sampler_c": BROKEN}, 1, "problem: sampler c: it cannot be imported"),
        ({"sampler_a": WORKS, "trainer_b": BROKEN}, 1, "problem: no trainer can work here"),
        ({"sampler_a": WORKS, "trainer_c": NOTE}, 1, "problem: no trainer can work here"),
    ],
)
def test_the_exit_code_follows_from_the_worst(dsrl: Any, found: Any, answers: Any, code: int, words: str) -> None:
    found(**answers)
    outcome = dsrl("doctor")
    assert outcome.code == code
    assert words in outcome.out
    assert "CPUs" in outcome.out
    as_json = json.loads(dsrl("doctor", "--json").out)
    assert as_json["exit_code"] == code
    assert len(as_json["plugins"]) == len(answers)
    assert as_json["machine"]["memory"] > as_json["machine"]["free_memory"] > 0


def test_a_plugin_that_is_not_installed_is_named_with_its_command(dsrl: Any, found: Any) -> None:
    found(sampler_a=WORKS, trainer_b=WORKS, trainer_verl=NOTE)
    out = dsrl("doctor").out
    assert "trainer verl (dsrl-it): not installed" in out
    assert "pip install ./plugins/dsrl-verl" in out


@pytest.mark.slow
def test_the_installed_plugins_answer(dsrl: Any) -> None:
    outcome = dsrl("doctor", "--base-model", "tiny", "--json")
    answer = json.loads(outcome.out)
    levels = {(one["kind"], one["name"]): one["level"] for one in answer["plugins"]}
    assert levels["sampler", "transformers"] == levels["trainer", "grpo"] == "ok", outcome.out
    texts = " ".join(finding["text"] for one in answer["plugins"] for finding in one["findings"])
    assert "billion weights" in texts
    assert "can be read" in texts or "and fits" in texts
