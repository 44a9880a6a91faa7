"""Results of checks: what is kept of a fault, whatever texts it holds."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from dsrl.plugins.task_checks.records import (
    MOST_FINDINGS,
    Findings,
    TaskReport,
    count,
    describe_score,
    excerpt,
    safe,
    skip,
    spread,
)


def test_no_finding_passes_and_one_fails() -> None:
    findings = Findings("labels")
    assert findings.conclude("3 read", items=3.0).figures == {"items": 3.0}
    assert (findings.conclude("3 read").verdict, findings.conclude("3 read").message) == ("passed", "3 read")
    findings.add("no label", "item 2", "perhaps")
    result = findings.conclude("3 read")
    assert (result.verdict, result.message) == ("failed", "1 fault: no label")
    assert str(result.findings[0]) == "item 2: no label; output: 'perhaps'"


def test_a_check_can_stop_after_many_faults() -> None:
    findings = Findings("labels")
    for number in range(MOST_FINDINGS):
        assert not findings.is_full
        findings.add(f"fault {number}")
    assert findings.is_full
    assert findings.conclude("").message == f"{MOST_FINDINGS} or more faults: fault 0"


def test_only_a_failed_check_fails_the_task() -> None:
    passed, skipped = Findings("a").conclude("ok"), skip("b", "no items")
    assert TaskReport("t", "d", "1", (passed, skipped)).has_passed
    failing = Findings("c")
    failing.add("wrong")
    report = TaskReport("t", "d", "1", (passed, failing.conclude("")))
    assert not report.has_passed
    record = json.loads(json.dumps(report.to_json()))
    assert (record["passed"], record["checks"][1]["findings"][0]["message"]) == (False, "wrong")


@given(st.text(max_size=3000))
def test_every_text_can_be_shown(text: str) -> None:
    for shown in (safe(text), excerpt(text)):
        shown.encode("utf-8")
        assert len(shown) < 2100 + 300
        assert all(character.isprintable() or character == "\n" for character in shown)


def test_a_long_output_is_shown_with_its_length() -> None:
    assert excerpt("a" * 10_000_000).endswith("(10,000,000 characters)")
    assert len(excerpt("\ud800" * 10_000_000)) < 1000


def test_a_spread_takes_from_everywhere() -> None:
    assert spread(range(10), 3) == [0, 3, 6]
    assert spread([1, 2], 3) == [1, 2]
    assert spread([], 3) == []


def test_words() -> None:
    assert (count(1, "item"), count(2000, "item")) == ("1 item", "2,000 items")
    assert describe_score((0.5, {})) == "0.5"
    assert describe_score((0.5, {"format": 0.25})) == "0.5 (format=0.25)"
