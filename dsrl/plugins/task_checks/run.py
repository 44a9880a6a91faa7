"""Runs the checks of a task in child processes: a task can hang, end its process or use up the memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsrl.errors import DsrlError, PluginError, SettingsError
from dsrl.plugins.binding import Plugin, check_contract, load
from dsrl.plugins.discovery import PluginInfo, find_plugin
from dsrl.plugins.specs import KINDS, TaskSpec
from dsrl.plugins.task_checks.checks import CHECKS, TaskChecks
from dsrl.plugins.task_checks.child import ChildStopped, Send, stream_from_child
from dsrl.plugins.task_checks.gold import CheckedTask, collect_gold
from dsrl.plugins.task_checks.probes import LONGEST
from dsrl.plugins.task_checks.records import (
    CheckResult,
    Finding,
    Findings,
    Score,
    TaskReport,
    Triple,
    describe_score,
    safe,
    skip,
)
from dsrl.types import PluginRef

#: The check that compares rewards in another process; it comes last.
WORKER = "worker"
#: The names of all checks, in their order.
CHECK_NAMES = (*CHECKS, WORKER)
#: The import of a task may take this many times the time limit of a call.
IMPORT_LIMIT = 6
#: After so many calls that never returned, the other checks are skipped.
_MOST_HANGS = 2
_IMPORT = "its import"
_FRAME = re.compile(r'^\s*File "(.+)", line (\d+)', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """How a task is checked.

    Attributes:
        dataset_path: the value of ``--dataset-path``; empty for the task's own test set.
        items: the number of test items to read.
        time_limit: seconds that one call of a hook may take.
        longest: number of characters of the longest outputs that are tried.
        is_judged: whether a teacher judges the answers by the user's rubric.
    """

    dataset_path: str = ""
    items: int = 200
    time_limit: float = 10.0
    longest: int = LONGEST
    is_judged: bool = False


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that begins: what is called, and the seconds that it may take (0: the usual time)."""

    words: str
    seconds: float


@dataclass(frozen=True, slots=True)
class _Bound:
    """The task is bound; these are the files of its hooks."""

    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _BindingFault:
    """The task cannot be bound."""

    message: str
    is_setting: bool


_Scores = list[tuple[Triple, Score]]


def check_task(ref: PluginRef, settings: CheckSettings, on_check: Callable[[str], None] | None = None) -> TaskReport:
    """Check a task. It is imported only in child processes.

    Args:
        ref: names the task, its options and its overrides.
        settings: how it is checked.
        on_check: is called with the name of each check that begins.

    Raises:
        PluginError: there is no such task.
        SettingsError: the task does not take an option, or an override file is missing.
    """
    info = find_plugin(ref.kind, ref.name)[1]
    session = _Session(ref, info, settings, on_check or (lambda name: None))
    results = session.run_all()
    return TaskReport(ref.name, info.distribution, info.version, tuple(results))


class _Session:
    """The checks of one task, over several child processes."""

    def __init__(
        self, ref: PluginRef, info: PluginInfo, settings: CheckSettings, on_check: Callable[[str], None]
    ) -> None:
        self._ref, self._info, self._settings, self._on_check = ref, info, settings, on_check
        self._scores: _Scores = []
        self._files: tuple[str, ...] = ()
        self._last = _Call(_IMPORT, 0.0)

    def run_all(self) -> list[CheckResult]:
        results: list[CheckResult] = []
        hangs = 0
        while len(results) < len(CHECKS):
            missing = list(CHECKS)[len(results) :]
            if hangs == _MOST_HANGS or (hangs and self._last.words == _IMPORT):
                words = self._last.words if self._last.words == _IMPORT else self._last.words.partition(" ")[0]
                results += [skip(name, f"{words} has not returned before") for name in missing]
                break
            self._on_check(missing[0])
            try:
                for result in self._run(missing):
                    results.append(result)
                    if len(results) < len(CHECKS):
                        self._on_check(list(CHECKS)[len(results)])
            except ChildStopped as stop:
                hangs += 1
                results.append(self._describe_stop(list(CHECKS)[len(results)], stop))
            except PluginError as error:
                name = list(CHECKS)[len(results)]
                results.append(_fail(name, str(error)))
                results += [skip(name, "the task cannot be bound") for name in list(CHECKS)[len(results) :]]
        self._on_check(WORKER)
        return [*results, self._compare_processes()]

    def _run(self, names: Sequence[str]) -> Iterator[CheckResult]:
        self._last = _Call(_IMPORT, 0.0)
        for event in self._stream(_run_checks, (self._ref, self._settings, tuple(names))):
            if isinstance(event, CheckResult):
                yield event
            elif isinstance(event, list):
                self._scores = event

    def _stream(self, function: Callable[..., None], arguments: tuple[object, ...]) -> Iterator[Any]:
        for event in stream_from_child(function, arguments, self._get_limit):
            if isinstance(event, _Call):
                self._last = event
            elif isinstance(event, _Bound):
                self._files = event.files
            elif isinstance(event, _BindingFault):
                raise (SettingsError if event.is_setting else PluginError)(event.message)
            else:
                yield event

    def _get_limit(self, event: object) -> float:
        return (event.seconds if isinstance(event, _Call) else 0.0) or self._settings.time_limit

    def _describe_stop(self, name: str, stop: ChildStopped) -> CheckResult:
        call = self._last.words
        words = call if call.startswith("its ") else f"its hook {call}"
        return _fail(name, f"{self._info}: {words} {stop.reason}{_locate(stop.stack, self._files)}")

    def _compare_processes(self) -> CheckResult:
        """Compute rewards in a process of their own, in another order, and compare them."""
        if not self._scores:
            return skip(WORKER, "no rewards were computed that could be compared")
        triples = [triple for triple, _ in self._scores][::-1]
        findings, scores = Findings(WORKER), list[Score]()
        try:
            for event in self._stream(score_again, (self._ref, triples, self._settings.time_limit)):
                scores = event
        except ChildStopped as stop:
            return self._describe_stop(WORKER, stop)
        except DsrlError as error:
            return _fail(WORKER, f"in a second process: {error}")
        for (triple, before), after in zip(self._scores, reversed(scores), strict=True):
            if before != after and not findings.is_full:
                findings.add(
                    f"its reward is {describe_score(before)}, and {describe_score(after)} in another process",
                    "",
                    triple[0],
                )
        return findings.conclude(f"a second process bound the task and gave the same {len(scores):,} rewards")


def _fail(name: str, message: str) -> CheckResult:
    message = safe(message)
    return CheckResult(name, "failed", f"1 fault: {message}", (Finding(message),))


def _locate(stack: str, files: tuple[str, ...]) -> str:
    """Return `` (module.py:12)``: the innermost line of the task in a stack; otherwise, the innermost line of all."""
    frames = _FRAME.findall(stack)
    own = [(file, line) for file, line in frames if file in files]
    if not frames:
        return ""
    file, line = (own or frames)[0]
    return f" ({Path(file).name}:{line})"


# --- in the child process ---------------------------------------------------------------------------------------------


def _run_checks(send: Send, ref: PluginRef, settings: CheckSettings, names: tuple[str, ...]) -> None:
    plugin = _bind(send, ref, settings.time_limit, is_checked="hooks" in names)
    if plugin is None:
        return
    task = CheckedTask(plugin, lambda words, seconds: send(_Call(words, seconds)))
    gold = collect_gold(task, settings.dataset_path, settings.items)
    checks = TaskChecks(task, gold, settings.longest, settings.is_judged)
    for name in names:
        send(checks.run(name))
        if checks.scores:
            send(checks.scores)
            checks.scores = []


def score_again(send: Send, ref: PluginRef, triples: list[Triple], time_limit: float) -> None:
    """Bind a task and send the rewards of the outputs, as one list."""
    plugin = _bind(send, ref, time_limit, is_checked=False)
    if plugin is None:
        return
    task = CheckedTask(plugin, lambda words, seconds: send(_Call(words, seconds)))
    try:
        send([task.score(triple) for triple in triples])
    except DsrlError as error:
        send(_BindingFault(str(error), False))


def _bind(send: Send, ref: PluginRef, time_limit: float, is_checked: bool) -> Plugin[TaskSpec] | None:
    send(_Call(_IMPORT, IMPORT_LIMIT * time_limit))
    try:
        if is_checked:
            check_contract(find_plugin(ref.kind, ref.name)[1])
        plugin = load(ref, "task")
    except DsrlError as error:
        send(_BindingFault(str(error), isinstance(error, SettingsError)))
        return None
    hooks = KINDS["task"].hooks
    functions = (function for name in hooks for _, function in plugin.implementations(name))
    send(_Bound(tuple({function.__code__.co_filename for function in functions if hasattr(function, "__code__")})))
    return plugin
