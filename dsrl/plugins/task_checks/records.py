"""What the checks of a task report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar

from dsrl.text import printable, replace_surrogates

T = TypeVar("T")
#: Output, label, input.
Triple = tuple[str, str, str]
#: A reward and its parts.
Score = tuple[float, dict[str, float]]
Verdict = Literal["passed", "failed", "skipped"]
#: A check stops after this many findings.
MOST_FINDINGS = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, with the evidence.

    Attributes:
        message: what is wrong.
        place: the item that shows it, e.g. ``test.jsonl, item 7`` or ``demonstration 2``; empty if it concerns no item.
        output: the output that was tried, shortened; empty if there is none.
    """

    message: str
    place: str = ""
    output: str = ""

    def __str__(self) -> str:
        return "".join(
            [f"{self.place}: " if self.place else "", self.message, f"; output: {self.output}" if self.output else ""]
        )


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check.

    Attributes:
        name: the name of the check.
        verdict: ``passed``, ``failed`` or ``skipped``.
        message: in one sentence, what was checked, what is wrong, or why the check was skipped.
        findings: the faults, at most :data:`MOST_FINDINGS`.
        warning: something that the user should know and that is no fault; empty if there is nothing.
        figures: name -> number that was measured.
        seconds: time that the check took.
    """

    name: str
    verdict: Verdict
    message: str
    findings: tuple[Finding, ...] = ()
    warning: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class TaskReport:
    """The results of all checks of a task.

    Attributes:
        task: the name of the task.
        distribution: the distribution that it comes from.
        version: the version of that distribution.
        results: the results in the order of the checks.
    """

    task: str
    distribution: str
    version: str
    results: tuple[CheckResult, ...]

    @property
    def has_passed(self) -> bool:
        """Whether no check has failed."""
        return all(result.verdict != "failed" for result in self.results)

    def to_json(self) -> dict[str, Any]:
        """Return the report as a value for JSON."""
        return {
            "task": self.task,
            "distribution": self.distribution,
            "version": self.version,
            "passed": self.has_passed,
            "checks": [asdict(result) for result in self.results],
        }


class Findings:
    """Collects the faults that a check finds.

    Args:
        name: the name of the check.
    """

    def __init__(self, name: str) -> None:
        self._name, self._findings = name, list[Finding]()

    @property
    def is_full(self) -> bool:
        """Whether there are so many faults that the check can stop."""
        return len(self._findings) >= MOST_FINDINGS

    def add(self, message: str, place: str = "", output: str = "") -> None:
        """Add a fault."""
        self._findings.append(Finding(safe(message), place, excerpt(output) if output else ""))

    def conclude(self, passed: str, warning: str = "", **figures: float) -> CheckResult:
        """Return the result of the check.

        Args:
            passed: the sentence if no fault was found.
            warning: something that is no fault.
            figures: what was measured.
        """
        found = tuple(self._findings)
        if not found:
            return CheckResult(self._name, "passed", passed, warning=warning, figures=figures)
        count = f"{MOST_FINDINGS} or more faults" if self.is_full else f"{len(self._findings)} faults"
        message = "1 fault" if len(self._findings) == 1 else count
        return CheckResult(self._name, "failed", f"{message}: {found[0].message}", found, warning, figures)


def skip(name: str, reason: str) -> CheckResult:
    """Return the result of a check that was skipped."""
    return CheckResult(name, "skipped", reason)


def safe(text: str, longest: int = 2000) -> str:
    """Return a text that can be shown: without control characters and lone surrogates, and not too long."""
    return printable(replace_surrogates(text[:longest])) + ("..." if len(text) > longest else "")


def excerpt(text: str) -> str:
    """Return the beginning and the end of a text as a literal, with its length if it was cut."""
    if len(text) <= 160:
        return ascii(text) if not text.isprintable() else repr(text)
    return f"{text[:80]!a}...{text[-40:]!a} ({len(text):,} characters)"


def describe_score(score: Score) -> str:
    """Return a reward with its parts as text."""
    value, parts = score
    return f"{value!r}" + (f" ({', '.join(f'{name}={part!r}' for name, part in parts.items())})" if parts else "")


def spread(items: Sequence[T], most: int) -> list[T]:
    """Return at most so many items, from everywhere in the sequence."""
    step = max(1.0, len(items) / most)
    return [items[int(step * number)] for number in range(min(most, len(items)))]


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural if it must be."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
