"""Outputs that no task may pay for: garbage, and shortcuts that a model in training would find."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from dsrl.plugins.checks import TRASH
from dsrl.plugins.task_checks.gold import Answers, CheckedTask, LabelledItem
from dsrl.types import UNREADABLE

#: Characters of the longest outputs.
LONGEST = 10_000_000
#: Outputs without an answer, beside :data:`dsrl.plugins.checks.TRASH`.
SMALL_GARBAGE = (
    *TRASH,
    "\r\n\v\f\x1b[31m\x07\x85\u2028\u2029\ufeff",
    "".join(map(chr, range(32))),
    "\udfff\ud800<answer>\udcff</answer>",
    "<think>",
    "<think><answer>",
    "<answer></answer>",
    "<answer> \t\n </answer>",
    "\\boxed{}",
    "\\boxed{\\frac{1}{",
    "####",
    "```sql\n",
    "<html><body onload=alert(1)><!-- <answer --></body></html>",
    "&lt;answer&gt;&#x3c;/answer&#x3e;",
    "<|im_end|><|endoftext|></s>[INST]",
    "%s%n{0}{}${x}\\1\\g<0>",
    "I do not know.",
)
#: Pieces that are repeated until the output has :data:`LONGEST` characters.
_REPEATED = ("a", "9", "<answer>", "</answer>", "(", "\\boxed{", "#### ", "<", "\n", " ", "9,", "a.b ", "\ud800")
#: Pieces that are repeated inside the form of an answer.
_REPEATED_ANSWERS = ("a", "9", "9^", "(", "A, B, ", "\\frac{", "SELECT ")
#: An option in the input of a multiple-choice question.
_OPTION = re.compile(r"^[ \t]*\(?([A-Za-z]|\d)[).:] ", re.MULTILINE)
#: Choices in an output that names all.
_NAMED_CHOICES = 10
#: The most frequent labels, of which the best constant is chosen.
_CONSTANTS = 6


def list_garbage(answers: Answers, longest: int = LONGEST) -> Iterator[str]:
    """Yield outputs without a right answer.

    Args:
        answers: writes outputs in the form of the task.
        longest: number of characters of the longest outputs.
    """
    yield from SMALL_GARBAGE
    for piece in _REPEATED:
        yield piece * (longest // len(piece))
    for piece in _REPEATED_ANSWERS:
        room = longest - len(answers.write(""))
        yield answers.write(piece * max(1, room // len(piece)))


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A way to write an output without solving the item.

    Attributes:
        name: the way, in a few words.
        make: returns the output for an item; None if the way is not possible.
        varies: whether the answers can be right by chance: they follow from the input and not from the label.
    """

    name: str
    make: Callable[[LabelledItem], str | None]
    varies: bool = False


def list_shortcuts(task: CheckedTask, answers: Answers, items: Sequence[LabelledItem]) -> list[Shortcut]:
    """List the shortcuts that are tried.

    Args:
        task: the task.
        answers: writes outputs in the form of the task.
        items: the items.
    """
    return [
        *_list_constants(task, answers, items),
        Shortcut("the input copied", _copy_input, varies=True),
        Shortcut("the input copied as the answer", partial(_answer_with_input, answers), varies=True),
        Shortcut("the options of the input copied", partial(_copy_options, answers), varies=True),
        *_list_names_of_the_label(answers, items),
    ]


def find_best_constant(items: Sequence[LabelledItem], task: CheckedTask) -> tuple[str, float]:
    """Return the label that is right for most items, and its share of them: what chance can earn.

    Only the most frequent labels are tried, because ``eval`` can be slow.

    Raises:
        PluginError: ``eval`` failed.
    """
    shares = [
        (sum(task.is_equal(label, item.label, item.input) for item in items) / len(items), label)
        for label, _ in Counter(item.label for item in items).most_common(_CONSTANTS)
    ]
    share, label = max(shares)
    return label, share


def _list_constants(task: CheckedTask, answers: Answers, items: Sequence[LabelledItem]) -> Iterator[Shortcut]:
    labels = [item.label for item in items]
    frequent = max(dict.fromkeys(labels), key=labels.count)
    instruction = task.plugin.hook.output_instruction()
    constants = {
        "always the most frequent label": answers.write(frequent),
        "always the most frequent label, after a long text": "Let me think. " * 500 + answers.write(frequent),
        "the output instruction copied": instruction,
        "the output instruction copied as the answer": answers.write(instruction),
        "an empty answer": answers.write(""),
        "always the placeholder for an answer": answers.write("your answer"),
    }
    for number, demo in enumerate(task.plugin.hook.demos(domain="")[:3], 1):
        constants[f"the output of demonstration {number} copied"] = demo.output
    for name, output in constants.items():
        yield Shortcut(name, partial(_repeat, output))


def _repeat(output: str, item: LabelledItem) -> str:
    return output


def _list_names_of_the_label(answers: Answers, items: Sequence[LabelledItem]) -> Iterator[Shortcut]:
    """Yield outputs that name the label without giving it as the answer."""
    choices = answers.choices or tuple(dict.fromkeys(item.label for item in items))
    for name, separator in (("", ", "), (", joined by 'or'", " or "), (", one on each line", "\n")):
        yield Shortcut(f"every label in one answer{name}", partial(_name_all, answers, choices, separator))
    for form in ("{right} or {wrong}", "{wrong} or {right}", "The answer is {right} or {wrong}", "{right} and {wrong}"):
        name = form.format(right="RIGHT", wrong="WRONG")
        yield Shortcut(f"two answers in one ({name})", partial(_name_two, answers, form))
    for form in ("not {}", "It is not {}.", "anything but {}"):
        yield Shortcut(f"a denial ({form.format('RIGHT')})", partial(_deny, answers, form))
    for form in ("{}/7", "{}^7", "{} * 7"):
        yield Shortcut(f"a larger expression ({form.format('RIGHT')})", partial(_enlarge, answers, form))


def _name_all(answers: Answers, choices: Sequence[str], separator: str, item: LabelledItem) -> str | None:
    named = [choice for choice in choices if choice != item.label][: _NAMED_CHOICES - 1]
    middle = len(named) // 2
    # The label stands in the middle: neither the first nor the last answer is the right one.
    return answers.write(separator.join([*named[:middle], item.label, *named[middle:]])) if named else None


def _name_two(answers: Answers, form: str, item: LabelledItem) -> str | None:
    wrong = answers.list_wrong(item)
    return answers.write(form.format(right=item.label, wrong=wrong[0])) if wrong else None


def _deny(answers: Answers, form: str, item: LabelledItem) -> str:
    return answers.write(form.format(item.label))


def _enlarge(answers: Answers, form: str, item: LabelledItem) -> str | None:
    """Return a larger expression around a label that is a number; None if the expression could have the same value."""
    try:
        is_changed = len(item.label) < 100 and float(item.label) not in (0.0, 1.0, -1.0)
    except ValueError:
        return None
    return answers.write(form.format(item.label)) if is_changed else None


def _copy_input(item: LabelledItem) -> str:
    return item.input


def _answer_with_input(answers: Answers, item: LabelledItem) -> str:
    return answers.write(item.input)


def _copy_options(answers: Answers, item: LabelledItem) -> str | None:
    first = _OPTION.search(item.input)
    return answers.write(item.input[first.start() :]) if first else None


def find_empty_answer(task: CheckedTask, output: str, input: str) -> bool:
    """Return whether the task reads an empty answer in an output, where it must return ``UNREADABLE``.

    Raises:
        PluginError: ``process_prediction`` failed.
    """
    answer = task.read_answer(output, input)
    return answer is not UNREADABLE and not str(answer).strip()
