"""Gold items of a task, the task with its calls reported, and outputs with a right or a wrong answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

from dsrl.answers import AnswerFormat
from dsrl.errors import DataError, DsrlError, RowRefused, TransientError
from dsrl.plugins.binding import Plugin
from dsrl.plugins.scoring import compute_reward, grade
from dsrl.plugins.specs import TaskSpec
from dsrl.plugins.task_checks.records import Finding, Score, Triple, excerpt, safe
from dsrl.types import UNREADABLE, Answer, Example, Reward

#: Everything that a hook of a bound task can raise.
HOOK_ERRORS = (DsrlError, TransientError, RowRefused)
#: Seconds that the data set may take to load.
LOADING_LIMIT = 120.0
#: Procedural samples that are made, and their levels.
PROCEDURAL_SAMPLES = 30
LEVELS = (1, 2, 3)
#: The answers of a task are classes if there are at most this many different labels.
MOST_CHOICES = 20
#: Different wrong answers that are tried for an item.
WRONG_ANSWERS = 4

#: Form of an answer format -> what stands before and after the answer.
_FORMS: Mapping[str, tuple[str, str]] = {
    "tag": ("<think> </think> <answer> ", " </answer>"),
    "boxed": ("\\boxed{", "}"),
    "hashes": ("#### ", ""),
    "choice": ("", ""),
}
#: Other forms that tasks with a parser of their own often have.
_OTHER_FORMS = (("<result>", "</result>"), ("```sql\n", "\n```"), ("```\n", "\n```"), ("The answer is ", "."))

Report = Callable[[str, float], None]


def ignore_call(words: str, time_limit: float = 0.0) -> None:
    """Do not report a call."""


@dataclass(frozen=True, slots=True)
class GoldItem:
    """An input with a gold output.

    Attributes:
        place: where the item comes from, for the user.
        input: the input.
        output: the gold output.
        label: the label, if somebody has given it; None: the task reads it in the gold output.
    """

    place: str
    input: str
    output: str
    label: str | None = None


@dataclass(slots=True)
class Gold:
    """All gold outputs that a task has.

    Attributes:
        demos: the demonstrations of all domains.
        test_items: items of the test split.
        samples: procedural samples.
        extra: other items, e.g. examples in the tests of a task, or the choices of an answer format.
        faults: faults of the test set.
        no_test_set: why there are no items of the test split; empty if there are.
    """

    demos: list[GoldItem] = field(default_factory=list)
    test_items: list[GoldItem] = field(default_factory=list)
    samples: list[GoldItem] = field(default_factory=list)
    extra: list[GoldItem] = field(default_factory=list)
    faults: list[Finding] = field(default_factory=list)
    no_test_set: str = ""

    @property
    def items(self) -> list[GoldItem]:
        """All of them."""
        return [*self.demos, *self.test_items, *self.samples, *self.extra]


class CheckedTask:
    """A bound task, each call of which is reported before it is made, so that a call that never returns is known.

    Args:
        task: the bound task.
        report: is called with a description of the call, and with the seconds that it may take (0: the usual time).
    """

    def __init__(self, task: Plugin[TaskSpec], report: Report = ignore_call) -> None:
        self.plugin, self.report = task, report

    def read_label(self, output: str, input: str) -> Answer:
        """Return the label in a gold output."""
        self.report(f"process_label on {excerpt(output)}", 0.0)
        return self.plugin.hook.process_label(output=output, input=input)

    def read_answer(self, output: str, input: str) -> Answer:
        """Return the answer in an output."""
        self.report(f"process_prediction on {excerpt(output)}", 0.0)
        return self.plugin.hook.process_prediction(output=output, input=input)

    def is_equal(self, prediction: str, label: str, input: str) -> bool:
        """Return whether an answer is right."""
        self.report(f"eval on {excerpt(prediction)} and {excerpt(label)}", 0.0)
        return bool(self.plugin.hook.eval(prediction=prediction, label=label, input=input))

    def is_right(self, output: str, label: str, input: str) -> bool:
        """Return whether the answer in an output is right, as the evaluation does."""
        self.report(f"process_prediction and eval on {excerpt(output)}", 0.0)
        return grade(self.plugin, output, label, input)[1]

    def compute_reward(self, output: str, label: str, input: str) -> float:
        """Return the reward of an output, as the trainer gets it."""
        self.report(f"reward on {excerpt(output)}", 0.0)
        return compute_reward(self.plugin, output, label, input)

    def score(self, triple: Triple) -> Score:
        """Return the reward of an output, and its parts."""
        reward = self.compute_reward(*triple)
        return float(reward), {k: float(v) for k, v in reward.parts.items()} if isinstance(reward, Reward) else {}


def collect_gold(task: CheckedTask, dataset_path: str | None, size: int) -> Gold:
    """Collect the gold outputs of a task. Faults of the hooks are recorded or left to the checks of these hooks.

    Args:
        task: the task.
        dataset_path: the value of ``--dataset-path``; empty for the task's own test set; None for no test set.
        size: the number of test items to read.
    """
    gold = Gold()
    gold.demos = list(_collect_demos(task))
    if dataset_path is None:
        gold.no_test_set = "no test set is read"
    else:
        _collect_test_items(task, gold, dataset_path, size)
    gold.samples = list(_collect_samples(task))
    if not gold.items:
        gold.extra = [GoldItem(f"choice {choice!r}", "", choice) for choice in list_choices(task)]
    return gold


def list_choices(task: CheckedTask) -> tuple[str, ...]:
    """Return the choices of the task's answer format; empty if it has none."""
    answer_format = get_answer_format(task)
    return answer_format.choices if answer_format else ()


def get_answer_format(task: CheckedTask) -> AnswerFormat | None:
    """Return the task's answer format; None if it has none."""
    try:
        return task.plugin.hook.answer_format() if task.plugin.implements("answer_format") else None
    except HOOK_ERRORS:
        return None  # the check of the hooks reports it


def _collect_demos(task: CheckedTask) -> Iterator[GoldItem]:
    hook = task.plugin.hook
    task.report("demos", 0.0)
    try:
        for domain in ("", *hook.domains()):
            for number, demo in enumerate(hook.demos(domain=domain), 1):
                where = f" of the domain {safe(domain, 40)}" if domain else ""
                yield GoldItem(f"demonstration {number}{where}", demo.input, demo.output)
    except HOOK_ERRORS:
        return  # the check of the hooks reports it


def _collect_test_items(task: CheckedTask, gold: Gold, path: str, size: int) -> None:
    task.report(f"load_dataset of {path or 'its own test set'}", LOADING_LIMIT)
    name = path or "test set"
    try:
        examples: Iterable[Example] | None = task.plugin.hook.load_dataset(path=path, split="test")
        if examples is None:
            gold.no_test_set = "the task has no test set of its own; give one with --dataset-path"
            return
        lines = _find_lines(path, examples)
        for number, example in enumerate(islice(examples, size), 1):
            place = f"{path}:{lines[number - 1]}" if lines else f"{name}, item {number}"
            gold.test_items.append(GoldItem(place, example.input, example.output))
        if not gold.test_items:
            gold.faults.append(Finding(f"the test set {path or 'of the task'} is empty"))
    except DataError as error:
        if path:
            gold.faults.append(Finding(safe(str(error))))
        else:
            gold.no_test_set = (
                f"its own test set cannot be read ({safe(str(error), 300)}); give one with --dataset-path"
            )
    except HOOK_ERRORS as error:
        gold.faults.append(Finding(safe(str(error))))


def _find_lines(path: str, examples: Iterable[Example]) -> list[int]:
    """Return the line of each item in a JSONL file; an empty list if the lines of the file are not the items."""
    if not path.endswith(".jsonl") or not isinstance(examples, (list, tuple)):
        return []
    try:
        with open(path, encoding="utf-8-sig", errors="replace", newline="\n") as file:
            lines = [number for number, line in enumerate(file, 1) if line.strip()]
    except OSError:
        return []
    return lines if len(lines) == len(examples) else []


def _collect_samples(task: CheckedTask) -> Iterator[GoldItem]:
    if not task.plugin.implements("procedural_sample"):
        return
    for seed in range(PROCEDURAL_SAMPLES):
        level = LEVELS[seed % len(LEVELS)]
        task.report(f"procedural_sample with seed {seed} and difficulty {level}", 0.0)
        try:
            sample = task.plugin.hook.procedural_sample(domain="", seed=seed, difficulty=level, passage="")
        except HOOK_ERRORS:
            return  # the check of the hooks reports it
        if sample is not None:
            place = f"procedural sample with seed {seed} and difficulty {level}"
            yield GoldItem(place, sample.input, sample.output)


@dataclass(frozen=True, slots=True)
class LabelledItem:
    """An item with its label and an output that the task holds to be right.

    Attributes:
        place: where the item comes from.
        input: the input.
        label: the canonical answer.
        right: an output with that answer.
    """

    place: str
    input: str
    label: str
    right: str


class Answers:
    """Writes outputs with right and wrong answers for the items of a task.

    Args:
        task: the task.
        gold: its gold items.
    """

    def __init__(self, task: CheckedTask, gold: Gold) -> None:
        self._task, self._gold = task, gold

    @cached_property
    def labels(self) -> list[tuple[GoldItem, str]]:
        """The items whose label can be read, with the label."""
        return [(item, label) for item in self._gold.items if (label := self.find_label(item)) is not None]

    def find_label(self, item: GoldItem) -> str | None:
        """Return the label of an item; None if it cannot be read."""
        if item.label is not None:
            return item.label
        try:
            label = self._task.read_label(item.output, item.input)
        except HOOK_ERRORS:
            return None
        return None if label is UNREADABLE else str(label)

    @cached_property
    def choices(self) -> tuple[str, ...]:
        """The possible answers; empty if there are too many different ones to be classes."""
        distinct = tuple(dict.fromkeys(label for _, label in self.labels))
        are_classes = len(distinct) <= MOST_CHOICES and len(self.labels) >= 3 * len(distinct)
        return list_choices(self._task) or (distinct if are_classes else ())

    @cached_property
    def template(self) -> tuple[str, str]:
        """What stands before and after an answer in an output of the task; empty texts if no form was found."""
        tried = self.labels[:5]
        counts = [
            (sum(self._is_right(_fill(form, label), label, item.input) for item, label in tried), -number, form)
            for number, form in enumerate(self._list_forms())
        ]
        best = max(counts, default=(0, 0, ("", "")))
        return best[2] if best[0] else ("", "")

    def write(self, answer: str) -> str:
        """Write an output with the answer."""
        return _fill(self.template, answer)

    @cached_property
    def items(self) -> list[LabelledItem]:
        """The items with a label and an output that holds it; an item that has none is left out."""
        items = []
        for item, label in self.labels:
            right = self.find_right(item, label)
            if right is not None:
                items.append(LabelledItem(item.place, item.input, label, right))
        return items

    def find_right(self, item: GoldItem, label: str) -> str | None:
        """Return an output that the task reads as the label; None if there is none."""
        outputs = (self.write(label), item.output, self._solve(item.input))
        return next((output for output in outputs if self._is_right(output, label, item.input)), None)

    def list_wrong(self, item: LabelledItem) -> list[str]:
        """Return answers to an item that the task itself holds to be wrong: other choices, and labels of other items.

        Raises:
            PluginError: ``eval`` failed.
        """
        others = list(dict.fromkeys((*self.choices, *(label for _, label in self.labels))))
        start = others.index(item.label) + 1 if item.label in others else 0
        wrong: list[str] = []
        for other in (others[start:] + others[:start])[:MOST_CHOICES]:
            if len(wrong) < WRONG_ANSWERS and not self._task.is_equal(other, item.label, item.input):
                wrong.append(other)
        return wrong

    def _is_right(self, output: str, label: str, input: str) -> bool:
        try:
            return bool(output) and self._task.is_right(output, label, input)
        except HOOK_ERRORS:
            return False

    def _solve(self, input: str) -> str:
        if not self._task.plugin.implements("procedural_solve"):
            return ""
        self._task.report(f"procedural_solve on {excerpt(input)}", 0.0)
        try:
            solution: Any = self._task.plugin.hook.procedural_solve(input=input)
        except HOOK_ERRORS:
            return ""
        return solution.output if solution is not None else ""

    def _list_forms(self) -> Iterator[tuple[str, str]]:
        """Yield the forms of an output in which an answer may stand: that of the answer format, then the usual ones."""
        answer_format = get_answer_format(self._task)
        if answer_format:
            yield _FORMS[answer_format.form]
        yield from _FORMS.values()
        yield from _OTHER_FORMS
        for item, label in self.labels[:5]:
            for output in (item.output, self._solve(item.input)):
                before, found, after = output.rpartition(label)
                if found:
                    yield (before, after)


def _fill(form: Sequence[str], answer: str) -> str:
    return f"{form[0]}{answer}{form[1]}"
