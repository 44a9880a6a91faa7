"""A draft of a task from examples: which columns are input and output, and what form the answers have.

Everything here is a guess from names and texts. The user sees it, and can replace each part.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from dsrl.answers import FORMS, AnswerFormat, Form
from dsrl.datasets import read_dataset
from dsrl.errors import DataError, SettingsError
from dsrl.types import UNREADABLE, Example

#: Names of columns, the likeliest first.
INPUT_NAMES = ("input", "question", "problem", "text", "prompt", "query", "sentence", "message", "document", "passage")
OUTPUT_NAMES = (
    "output",
    "answer",
    "label",
    "target",
    "gold",
    "class",
    "category",
    "solution",
    "response",
    "completion",
)
#: More different outputs than these are not choices.
MOST_CHOICES = 20
#: A longer text, in characters, is not the name of a choice.
LONGEST_CHOICE = 40
#: With fewer rows, the guess of choices is worth a warning.
FEW_ROWS = 20
_NUMBER = re.compile(r"[-+]?[$€£]?[-+]?(\d[\d,]*(\.\d+)?|\.\d+)%?")
_USUAL_CHOICES = frozenset({"yes", "no", "true", "false"})


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user says about the data. Everything empty is guessed.

    Attributes:
        input_columns: the columns that make the input together.
        output_column: the column of the right answer.
        answer: ``FORM`` or ``FORM:CHOICE,CHOICE``; see :func:`parse_answer`.
        demonstrations: most demonstrations to keep.
    """

    input_columns: tuple[str, ...] = ()
    output_column: str = ""
    answer: str = ""
    demonstrations: int = 4


@dataclass(frozen=True, slots=True)
class Draft:
    """What was guessed.

    Attributes:
        source: the name of the data.
        rows: the number of rows.
        input_columns: the columns that make the input together.
        output_column: the column of the right answer.
        form: the form of an answer, see :class:`dsrl.answers.AnswerFormat`.
        choices: the possible answers; empty for any text or number.
        has_marks: whether the outputs of the data are already in this form. If not, they are bare answers.
        counts: answer -> number of rows, if there are choices.
        demonstrations: rows that show the task, at most one of each answer before the second of any.
        doubts: sentences about what the user should look at.
    """

    source: str
    rows: int
    input_columns: tuple[str, ...]
    output_column: str
    form: Form
    choices: tuple[str, ...]
    has_marks: bool
    counts: Mapping[str, int]
    demonstrations: tuple[Example, ...]
    doubts: tuple[str, ...] = ()


@dataclass
class _Columns:
    """Reads input and output of a row. The columns are chosen when the first row is seen."""

    wishes: Wishes
    inputs: tuple[str, ...] = ()
    output: str = ""
    doubts: list[str] = field(default_factory=list)

    def convert(self, row: Mapping[str, Any]) -> Example:
        if not self.output:
            self.choose([str(name) for name in row])
        parts = [_read_cell(row, column) for column in self.inputs]
        if len(parts) > 1:
            parts = [f"{name_part(column)}: {part}" for column, part in zip(self.inputs, parts, strict=True)]
        return Example("\n".join(parts), _read_cell(row, self.output))

    def choose(self, columns: Sequence[str]) -> None:
        """Choose the columns.

        Raises:
            ValueError: a column that the user named is not there, or the columns cannot be guessed.
        """
        wishes = self.wishes
        output = _find_column(wishes.output_column, columns, "--output-column") if wishes.output_column else ""
        inputs = tuple(_find_column(name, columns, "--input-column") for name in wishes.input_columns)
        rest = [name for name in columns if name not in (*inputs, output)]
        output = output or _guess(OUTPUT_NAMES, rest) or ""
        rest = [name for name in rest if name != output]
        if not inputs and (guessed := _guess(INPUT_NAMES, rest)):
            inputs, rest = (guessed,), [name for name in rest if name != guessed]
        if not inputs and len(rest) == 1 and output:
            inputs, rest = (rest[0],), []
        elif inputs and not output and len(rest) == 1:
            output, rest = rest[0], []
        elif not inputs and not output and len(rest) == 2:
            inputs, output, rest = (rest[0],), rest[1], []
            self.doubts.append(
                "The names of the columns say nothing; the first was taken as input, the second as output."
            )
        if not inputs or not output:
            missing = "input" if not inputs else "output"
            raise ValueError(
                f"which column is the {missing}? The columns are {_join(columns)}; name them with --input-column NAME "
                "(several times if several make the input) and --output-column NAME"
            )
        if output in inputs:
            raise ValueError(f"the column {output!r} cannot be both input and output")
        if rest:
            self.doubts.append(f"Not used: {_join(rest)}. --input-column can be given several times.")
        self.inputs, self.output = inputs, output


def parse_answer(text: str) -> tuple[Form | None, tuple[str, ...]]:
    """Read the value of ``--answer``: ``FORM`` or ``FORM:CHOICE,CHOICE``; an empty text gives (None, ()).

    Raises:
        SettingsError: there is no such form, or ``choice`` stands without choices.
    """
    if not text:
        return None, ()
    name, _, rest = text.partition(":")
    choices = tuple(dict.fromkeys(choice.strip() for choice in rest.split(",") if choice.strip()))
    for form in get_args(Form):
        if form == name.strip():
            if form == "choice" and not choices:
                raise SettingsError("--answer choice needs its choices, for example --answer choice:yes,no")
            if lost := _find_unreadable(form, choices):
                raise SettingsError(f"--answer {text[:100]!r}: the choice {lost!r} cannot be read as itself; rename it")
            return form, choices
    raise SettingsError(
        f"--answer {text[:100]!r}: the form of an answer is one of {', '.join(FORMS)}, for example tag:yes,no"
    )


def draft_task(path: str, wishes: Wishes) -> Draft:
    """Read examples and guess a task.

    Args:
        path: a file (CSV, TSV, JSONL, JSON, Parquet), a folder, or a hub id, as :func:`dsrl.datasets.read_dataset` takes it.
        wishes: what the user says about the data.

    Raises:
        DataError: the data cannot be read, has other columns, or has outputs that the answer's form does not allow. The text
            says where.
        SettingsError: ``wishes.answer`` has no such form.
    """
    form, choices = parse_answer(wishes.answer)
    columns = _Columns(wishes)
    fixed = AnswerFormat(form, choices) if form else None

    def convert(row: Mapping[str, Any]) -> Example:
        example = columns.convert(row)
        if fixed is not None and not _fits(fixed, example.output):
            raise ValueError(_describe_misfit(fixed, example.output))
        return example

    examples = read_dataset(path, "train", convert)
    outputs = [example.output for example in examples]
    doubts = columns.doubts
    if fixed is None:
        form, choices, has_marks = _guess_form(outputs, doubts)
    else:
        # A bare answer is already an output of the form `choice`.
        has_marks = fixed.form != "choice" and all(fixed.extract(output) is not UNREADABLE for output in outputs)
        form = fixed.form
    assert form is not None
    answers = [read_answer(AnswerFormat(form, choices), output, has_marks) for output in outputs]
    counts = Counter(answers) if choices else {}
    _doubt_choices(counts, len(examples), doubts, is_guess=fixed is None)
    return Draft(
        source=path,
        rows=len(examples),
        input_columns=columns.inputs,
        output_column=columns.output,
        form=form,
        choices=choices,
        has_marks=has_marks,
        counts=dict(counts),
        demonstrations=_choose_demonstrations(examples, answers, wishes.demonstrations),
        doubts=tuple(doubts),
    )


def name_part(column: str) -> str:
    """Return the words with which the part of an input from this column begins."""
    return column.replace("_", " ").capitalize()


def read_answer(answer_format: AnswerFormat, output: str, has_marks: bool) -> str:
    """Return the answer in an output of the data, as a choice is spelt; the stripped text if the form does not read it."""
    answer = answer_format.extract(output) if has_marks else answer_format.canonical(output)
    return output.strip() if answer is UNREADABLE else str(answer)


# --- columns ---------------------------------------------------------------------------------------------------------


def _find_column(name: str, columns: Sequence[str], flag: str) -> str:
    matches = [column for column in columns if column == name] or [c for c in columns if c.lower() == name.lower()]
    if not matches:
        raise ValueError(f"{flag} {name!r}: there is no such column; the columns are {_join(columns)}")
    return matches[0]


def _guess(names: Sequence[str], columns: Sequence[str]) -> str | None:
    lower = {column.strip().lower(): column for column in reversed(columns)}
    return next((lower[name] for name in names if name in lower), None)


def _join(columns: Sequence[str]) -> str:
    shown = [repr(column[:60]) for column in columns[:20]]
    return ", ".join([*shown, f"and {len(columns) - 20} more"] if len(columns) > 20 else shown) or "none"


def _read_cell(row: Mapping[str, Any], column: str) -> str:
    value = row[column]
    if not isinstance(value, (str, int, float)):
        raise ValueError(f"the column {column!r} holds {type(value).__name__}, not a text or a number")
    text = str(value).strip()
    if not text:
        raise ValueError(f"the column {column!r} is empty")
    return text


# --- answers ---------------------------------------------------------------------------------------------------------


def _fits(answer_format: AnswerFormat, output: str) -> bool:
    """Return whether an output is in the form, or is a bare answer that could stand in it."""
    if answer_format.extract(output) is not UNREADABLE:
        return True
    if answer_format.choices:
        return output.casefold() in {choice.casefold() for choice in answer_format.choices}
    return answer_format.form != "hashes" or _NUMBER.fullmatch(output) is not None


def _describe_misfit(answer_format: AnswerFormat, output: str) -> str:
    shown = repr(output[:60]) + ("..." if len(output) > 60 else "")
    if answer_format.choices:
        return f"the label {shown} is not one of the choices {', '.join(answer_format.choices)}"
    return f"the output {shown} is not a number"


def _guess_form(outputs: Sequence[str], doubts: list[str]) -> tuple[Form, tuple[str, ...], bool]:
    """Return form, choices, and whether the outputs are in that form already."""
    marks: tuple[tuple[Form, str], ...] = (("hashes", "####"), ("boxed", "\\boxed{"), ("tag", "</answer>"))
    for form, mark in marks:
        if all(mark in output for output in outputs):
            answers = [AnswerFormat(form).extract(output) for output in outputs]
            if UNREADABLE in answers:
                continue
            choices = _guess_choices([str(answer) for answer in answers]) if form == "tag" else ()
            return form, choices, True
    if choices := _guess_choices(outputs):
        return "tag", choices, False
    if all(_NUMBER.fullmatch(output) for output in outputs):
        return "hashes", (), False
    longest = max(len(output) for output in outputs)
    doubts.append(
        "The outputs are free texts, so only an answer with exactly the right words is right. If other words can be right, "
        f"write the hook `eval`; if the right answer is one of a few, give --answer (longest output: {longest} characters)."
    )
    return "tag", (), False


def _guess_choices(answers: Sequence[str]) -> tuple[str, ...]:
    """Return the different answers, the most frequent first, if they are few and short; otherwise nothing."""
    spellings: dict[str, Counter[str]] = {}
    for answer in answers:
        spellings.setdefault(answer.casefold(), Counter())[answer] += 1
    usual = set(spellings) <= _USUAL_CHOICES and len(spellings) == 2
    if len(spellings) > MOST_CHOICES or any(len(a) > LONGEST_CHOICE or "\n" in a for a in spellings):
        return ()
    # Numbers that repeat by chance are still numbers; texts that repeat are labels.
    repeats = 5 if all(_NUMBER.fullmatch(answer) for answer in spellings) else 1
    if not usual and (len(spellings) < 2 or len(spellings) * repeats >= len(answers)):
        return ()
    order = sorted(spellings.items(), key=lambda item: (-item[1].total(), item[0]))
    choices = tuple(counts.most_common(1)[0][0] for _, counts in order)
    return () if _find_unreadable("tag", choices) else choices


def _find_unreadable(form: Form, choices: tuple[str, ...]) -> str:
    """Return a choice that the reader of answers does not find, for example a punctuation mark; empty if there is none."""
    answer_format = AnswerFormat(form, choices)
    return next((choice for choice in choices if answer_format.canonical(choice) != choice), "")


def _doubt_choices(counts: Mapping[str, int], rows: int, doubts: list[str], is_guess: bool) -> None:
    if not counts or not is_guess:
        return
    rare = [answer for answer, count in counts.items() if count == 1]
    if rare and rows >= FEW_ROWS:
        doubts.append(f"Only one row has the answer {_join(rare)}. A misspelt label? Then correct the data.")
    if rows < FEW_ROWS:
        doubts.append(f"The choices come from {rows} rows only. Are there others? Give all of them with --answer.")


def _choose_demonstrations(examples: Sequence[Example], answers: Sequence[str], most: int) -> tuple[Example, ...]:
    """Choose short rows with different answers; the first row of each answer comes before the second of any."""
    seen: Counter[str] = Counter()
    order = []
    for number, (example, answer) in enumerate(zip(examples, answers, strict=True)):
        order.append((seen[answer], number, example))
        seen[answer] += 1
    order.sort(key=lambda entry: entry[:2])
    return tuple(example for _, _, example in order[:most])


def explain_data_error(error: DataError) -> None:
    """Add what to do about columns to an error of the reader that knows nothing of the flags of ``dsrl new``."""
    if "column" in str(error) and "--input-column" not in str(error) and "--output-column" not in str(error):
        error.add_note("--input-column NAME and --output-column NAME choose the columns")
