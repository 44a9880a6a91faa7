"""The checks of a bound task, each a function that returns a result.

``dsrl tasks check`` runs them in a child process (:mod:`dsrl.plugins.task_checks.run`), and the contract class of tasks
(:class:`dsrl.testing.TaskContract`) runs them in its tests.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from dsrl.plugins.checks import call_cheap_hooks
from dsrl.plugins.task_checks.gold import HOOK_ERRORS, Answers, CheckedTask, Gold, GoldItem, LabelledItem
from dsrl.plugins.task_checks.probes import (
    LONGEST,
    SMALL_GARBAGE,
    Shortcut,
    find_best_constant,
    find_empty_answer,
    list_garbage,
    list_shortcuts,
)
from dsrl.plugins.task_checks.records import (
    CheckResult,
    Findings,
    Score,
    Triple,
    count,
    describe_score,
    excerpt,
    skip,
    spread,
)
from dsrl.types import UNREADABLE

#: Items with which shortcuts and wrong answers are tried, and those with which the reward is asked again.
SHORTCUT_ITEMS = 100
REPEATED_ITEMS = 25
#: Items with which garbage is tried.
GARBAGE_ITEMS = 2
#: A shortcut may earn this share of a right answer more than chance, and for answers that can be right by chance, two
#: standard errors more.
TOLERANCE = 0.05
#: Rewards for the measurement of the speed, seconds after which it ends, and rewards per second below which it warns.
TIMED_REWARDS = 10_000
TIMED_SECONDS = 20.0
SLOW = 1_000.0
#: Seconds for reading, grading and rewarding one output, above which a warning is given.
SLOW_SECONDS = 3.0
#: The checks of a reward by rules, which a judged task does not use.
REWARD_CHECKS = ("right-over-wrong", "shortcuts", "repeatability", "speed")
_JUDGED = "a teacher judges the answers by a rubric, and no reward by rules is used; --judgements measures the judge"
_NO_ITEMS = "the task has no gold output whose label can be read; give a test set with --dataset-path"


@dataclass
class TaskChecks:
    """What the checks of one task share.

    Attributes:
        task: the task.
        gold: its gold outputs.
        longest: number of characters of the longest outputs that are tried.
        is_judged: whether a teacher judges the answers by a rubric; a task with a rubric of its own is always judged.
        scores: rewards that were computed, for a comparison with another process.
    """

    task: CheckedTask
    gold: Gold
    longest: int = LONGEST
    is_judged: bool = False
    scores: list[tuple[Triple, Score]] = field(default_factory=list)

    @cached_property
    def answers(self) -> Answers:
        """Writes outputs in the form of the task."""
        return Answers(self.task, self.gold)

    @cached_property
    def items(self) -> list[LabelledItem]:
        """At most :data:`SHORTCUT_ITEMS` items with a label, from everywhere in the gold items."""
        return spread(self.answers.items, SHORTCUT_ITEMS)

    def run(self, name: str) -> CheckResult:
        """Run a check.

        Args:
            name: one of :data:`CHECKS`.
        """
        start = time.perf_counter()
        try:
            is_judged = self.is_judged or bool(self.task.plugin.hook.rubric())
            is_skipped = is_judged and name in REWARD_CHECKS
            result = skip(name, _JUDGED) if is_skipped else CHECKS[name](self)
        except HOOK_ERRORS as error:  # outside of a probe: the check cannot go on
            findings = Findings(name)
            findings.add(str(error))
            result = findings.conclude("")
        return replace(result, seconds=round(time.perf_counter() - start, 3))


def check_hooks(checks: TaskChecks) -> CheckResult:
    """Call every hook that costs nothing with usual and with unusual texts."""
    findings, failed, calls = Findings("hooks"), set[str](), 0
    for call, function in call_cheap_hooks(checks.task.plugin):
        hook = call.partition(" ")[0]
        if hook in failed:
            continue  # one fault per hook is enough
        calls += 1
        checks.task.report(call, 0.0)
        try:
            function()
        except HOOK_ERRORS as error:
            failed.add(hook)
            findings.add(str(error))
    return findings.conclude(f"{calls} calls were answered")


def check_instructions(checks: TaskChecks) -> CheckResult:
    """Check that the task describes itself."""
    findings, hook = Findings("instructions"), checks.task.plugin.hook
    for name in ("description", "output_instruction"):
        if not getattr(hook, name)().strip():
            findings.add(f"its hook {name} returned an empty text")
    has_form = bool(hook.input_instruction().strip())
    return findings.conclude(
        "description and output instruction are there",
        "" if has_form else "there is no input instruction, so the teacher writes inputs of any form",
    )


def check_demonstrations(checks: TaskChecks) -> CheckResult:
    """Check that the task reads its own demonstrations."""
    demos, findings = checks.gold.demos, Findings("demonstrations")
    for demo in demos:
        if not demo.input.strip() or not demo.output.strip():
            findings.add("its input or its output is empty", demo.place)
        elif checks.task.read_label(demo.output, demo.input) is UNREADABLE:
            findings.add("process_label reads no label in its output", demo.place, demo.output)
    if not demos:
        return skip("demonstrations", "the task has none")
    return findings.conclude(f"{count(len(demos), 'demonstration')} read")


def check_test_set(checks: TaskChecks) -> CheckResult:
    """Check that the test set can be loaded."""
    gold, findings = checks.gold, Findings("test-set")
    if gold.no_test_set:
        return skip("test-set", gold.no_test_set)
    for fault in gold.faults:
        findings.add(fault.message, fault.place)
    for item in gold.test_items:
        if not item.input.strip() and not findings.is_full:
            findings.add("its input is empty", item.place)
    return findings.conclude(f"{count(len(gold.test_items), 'item')} loaded")


def check_labels(checks: TaskChecks) -> CheckResult:
    """Check that every gold output has a label, and that the task holds this label to be the right answer to it."""
    findings, items = Findings("labels"), checks.gold.items
    for item in items:
        if findings.is_full:
            break
        try:
            _check_label(checks, item, findings)
        except HOOK_ERRORS as error:
            findings.add(str(error), item.place, item.output)
    if not items:
        return skip("labels", "the task has no gold output; give a test set with --dataset-path")
    return findings.conclude(f"the labels of {count(len(items), 'gold output')} were read and are right answers")


def _check_label(checks: TaskChecks, item: GoldItem, findings: Findings) -> None:
    task = checks.task
    label = item.label if item.label is not None else task.read_label(item.output, item.input)
    if label is UNREADABLE:
        return findings.add("process_label reads no label in the gold output", item.place, item.output)
    label = str(label)
    if not label.strip():
        return findings.add("process_label returned an empty label", item.place, item.output)
    if not task.is_equal(label, label, item.input):
        return findings.add(f"eval says that the label {label!r} is not the right answer to itself", item.place)
    again = task.read_label(label, item.input)
    # A task may need more than the bare label to read it. To read another label in it is a fault.
    if again is not UNREADABLE and again != label and not task.is_equal(str(again), label, item.input):
        return findings.add(f"process_label makes {again!r} of its own label {label!r}", item.place)
    right = checks.answers.find_right(item, label)
    if right is None:
        output = checks.answers.write(label)
        return findings.add(
            f"process_prediction and eval find the label {label!r} neither in the gold output nor in the label written in "
            "the form of an answer",
            item.place,
            output,
        )
    return None


def check_order(checks: TaskChecks) -> CheckResult:
    """Check that a right answer earns more than every wrong one."""
    findings, task, tried = Findings("right-over-wrong"), checks.task, 0
    for item in checks.items:
        if findings.is_full:
            break
        try:
            right = task.compute_reward(item.right, item.label, item.input)
            for answer in checks.answers.list_wrong(item):
                tried += 1
                output = checks.answers.write(answer)
                wrong = task.compute_reward(output, item.label, item.input)
                if not right > wrong:
                    findings.add(
                        f"the right answer {item.label!r} earns {right:g}, and the wrong answer {answer!r} earns {wrong:g}",
                        item.place,
                        output,
                    )
                    break
        except HOOK_ERRORS as error:
            findings.add(str(error), item.place, item.right)
    if not checks.items:
        return skip("right-over-wrong", _NO_ITEMS)
    if not tried and not findings.is_full:
        return skip("right-over-wrong", "all items have the same label, so no wrong answer is known")
    return findings.conclude(f"{count(tried, 'wrong answer')} earned less than the right one")


def check_garbage(checks: TaskChecks) -> CheckResult:
    """Check that an output without an answer never raises and never earns as much as a right answer."""
    findings, tried, slowest = Findings("garbage"), 0, (0.0, "")
    items = spread(checks.items, GARBAGE_ITEMS) or [LabelledItem("", "", "1", "")]
    for item in items:
        try:
            best = checks.task.compute_reward(item.right, item.label, item.input) if item.right else math.inf
        except HOOK_ERRORS as error:
            findings.add(str(error), item.place, item.right)
            continue
        longest = checks.longest if item is items[0] else min(checks.longest, 10_000)
        for output in list_garbage(checks.answers, longest):
            if findings.is_full:
                break
            tried += 1
            start = time.perf_counter()
            try:
                _check_garbage(checks, item, output, best, findings)
            except HOOK_ERRORS as error:
                findings.add(str(error), item.place, output)
            slowest = max(slowest, (time.perf_counter() - start, excerpt(output)))
    seconds, output = slowest
    slow = f"the slowest output took {seconds:.1f} s, and a run does nothing else meanwhile: {output}"
    return findings.conclude(
        f"{count(tried, 'output')} of up to {checks.longest:,} characters earned no right answer",
        slow if seconds > SLOW_SECONDS else "",
        slowest_seconds=round(seconds, 3),
    )


def _check_garbage(checks: TaskChecks, item: LabelledItem, output: str, best: float, findings: Findings) -> None:
    if find_empty_answer(checks.task, output, item.input):
        findings.add("process_prediction returned an empty answer; return dsrl.UNREADABLE", item.place, output)
    if checks.task.is_right(output, item.label, item.input):
        findings.add(f"it counts as the right answer {item.label!r}", item.place, output)
    reward = checks.task.compute_reward(output, item.label, item.input)
    if not reward < best:
        findings.add(f"it earns {reward:g}, and the right answer earns {best:g}", item.place, output)


def check_shortcuts(checks: TaskChecks) -> CheckResult:
    """Check that answers which need no thought earn no more than the best guess.

    What chance can do is the share ``p`` of the items for which the best constant label is right. A shortcut may be right
    for ``p`` plus :data:`TOLERANCE` of the items, and two standard errors more if its answers vary with the input. Its mean
    reward is compared in the same way, as a share of the way from a wrong to a right answer.
    """
    findings, items = Findings("shortcuts"), checks.items
    if not items:
        return skip("shortcuts", _NO_ITEMS)
    best, chance = find_best_constant(items, checks.task)
    if chance == 1:
        return skip("shortcuts", "all items have the same label, so a constant answer is right")
    right, wrong = _measure_rewards(checks)
    if not right > wrong:
        return skip("shortcuts", "a right answer earns no more than a wrong one")
    error = math.sqrt(chance * (1 - chance) / len(items))
    tried = 0
    for shortcut in list_shortcuts(checks.task, checks.answers, items):
        limit = chance + TOLERANCE + (2 * error if shortcut.varies else 0.0)
        try:
            tried += _check_shortcut(checks, shortcut, (wrong, right), limit, findings)
        except HOOK_ERRORS as fault:
            findings.add(str(fault), shortcut.name)
    message = (
        f"{tried} ways to answer without solving were right for at most {chance:.0%} of the items (the share of the label "
        f"{best!r}) plus {TOLERANCE:.0%}"
    )
    return findings.conclude(message, chance=chance, items=float(len(items)))


def _measure_rewards(checks: TaskChecks) -> tuple[float, float]:
    """Return the mean reward of right answers and that of wrong answers."""
    task, answers, right, wrong = checks.task, checks.answers, list[float](), list[float]()
    for item in checks.items:
        others = answers.list_wrong(item)
        if others:
            right.append(task.compute_reward(item.right, item.label, item.input))
            wrong.append(task.compute_reward(answers.write(others[0]), item.label, item.input))
    return sum(right) / len(right), sum(wrong) / len(wrong)


def _check_shortcut(
    checks: TaskChecks, shortcut: Shortcut, rewards: tuple[float, float], limit: float, findings: Findings
) -> bool:
    """Try a shortcut; return whether it is possible for at least one item."""
    task = checks.task
    outputs = [(item, output) for item in checks.items if (output := shortcut.make(item)) is not None]
    if not outputs:
        return False
    solved = [task.is_right(output, item.label, item.input) for item, output in outputs]
    earned = [task.compute_reward(output, item.label, item.input) for item, output in outputs]
    wrong, right = rewards
    accuracy, reward = sum(solved) / len(outputs), sum(earned) / len(outputs)
    shown, output = next((pair for pair, is_right in zip(outputs, solved, strict=True) if is_right), outputs[0])
    example = f"; here the label is {shown.label!r}"
    if accuracy > limit:
        findings.add(
            f"{shortcut.name}: {accuracy:.0%} right, where at most {limit:.0%} are allowed{example}",
            shown.place,
            output,
        )
    elif (reward - wrong) / (right - wrong) > limit:
        allowed = wrong + (right - wrong) * limit
        findings.add(
            f"{shortcut.name}: earns {reward:.3g} on average, where at most {allowed:.3g} is allowed{example}",
            shown.place,
            output,
        )
    return True


def check_repeatability(checks: TaskChecks) -> CheckResult:
    """Check that the same output earns the same when it is asked again, also in another order."""
    findings, task = Findings("repeatability"), checks.task
    if not checks.items:
        return skip("repeatability", _NO_ITEMS)
    triples = list(dict.fromkeys(_list_triples(checks)))
    first = [task.score(triple) for triple in triples]
    second = [task.score(triple) for triple in triples]
    backwards = [task.score(triple) for triple in reversed(triples)][::-1]
    for other, when in ((second, "when it was asked again"), (backwards, "when it was asked in another order")):
        for triple, before, after in zip(triples, first, other, strict=True):
            if before != after and not findings.is_full:
                findings.add(
                    f"its reward was {describe_score(before)}, and {describe_score(after)} {when}", "", triple[0]
                )
    checks.scores = list(zip(triples, first, strict=True))
    parts = sorted({name for _, named in first for name in named})
    names = f"; parts: {', '.join(parts)}" if parts else ""
    return findings.conclude(f"{count(len(triples), 'output')} earned the same three times{names}")


def _list_triples(checks: TaskChecks) -> Iterator[Triple]:
    items = spread(checks.items, REPEATED_ITEMS)
    shortcuts = list_shortcuts(checks.task, checks.answers, items)
    for item in items:
        wrong = [checks.answers.write(answer) for answer in checks.answers.list_wrong(item)]
        copied = [output for shortcut in shortcuts if (output := shortcut.make(item)) is not None]
        for output in (item.right, *wrong, *copied):
            yield output, item.label, item.input
    for output in SMALL_GARBAGE:
        yield output, items[0].label, items[0].input


def check_speed(checks: TaskChecks) -> CheckResult:
    """Measure how many rewards the task computes in a second. Slowness is a warning, never a fault."""
    if not checks.items:
        return skip("speed", _NO_ITEMS)
    hook = checks.task.plugin.hook
    triples = [
        (output, item.label, item.input)
        for item in spread(checks.items, REPEATED_ITEMS)
        for output in (item.right, "I do not know.", *map(checks.answers.write, checks.answers.list_wrong(item)[:1]))
    ]
    done, start = 0, time.perf_counter()
    while done < TIMED_REWARDS and (done == 0 or time.perf_counter() - start < TIMED_SECONDS):
        checks.task.report("reward of many outputs", 0.0)
        for output, label, text in triples:
            hook.reward(output=output, label=label, input=text)
        done += len(triples)
    rate = done / max(time.perf_counter() - start, 1e-9)
    message = f"{rate:,.0f} rewards per second"
    slow = f"{message}: a step of training with 1,024 answers spends {1024 / rate:,.1f} s on rewards"
    return Findings("speed").conclude(message, slow if rate < SLOW else "", rewards_per_second=round(rate, 1))


#: Name -> check, in the order in which they are run.
CHECKS: Mapping[str, Callable[[TaskChecks], CheckResult]] = {
    "hooks": check_hooks,
    "instructions": check_instructions,
    "demonstrations": check_demonstrations,
    "test-set": check_test_set,
    "labels": check_labels,
    "right-over-wrong": check_order,
    "garbage": check_garbage,
    "shortcuts": check_shortcuts,
    "repeatability": check_repeatability,
    "speed": check_speed,
}
