"""The package of a task that was drafted from examples."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import PurePath

from dsrl.answers import AnswerFormat
from dsrl.scaffold.draft import Draft, name_part, read_answer
from dsrl.scaffold.names import Names
from dsrl.scaffold.package import Files, add_common_files, copy_example
from dsrl.text import printable, replace_surrogates
from dsrl.types import Example

_MODULE = '''"""The task ``$NAME``. `dsrl new` drafted it from $SOURCE."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from dsrl import AnswerFormat, Example, hookimpl
from dsrl.datasets import Row, read_dataset, read_demos

#: TODO: write the description and the input instruction in your own words. Then set this to False.
IS_DRAFT = True
DESCRIPTION = """
$DESCRIPTION
"""
INPUT_INSTRUCTION = """
$INPUT_INSTRUCTION
"""
#: The possible answers; empty if any is possible.
CHOICES: tuple[str, ...] = $CHOICES
#: The columns of the data that make an input, and the column of the right answer.
INPUT_COLUMNS = $INPUT_COLUMNS
OUTPUT_COLUMN = $OUTPUT_COLUMN


@hookimpl
def description() -> str:
    if IS_DRAFT:
        text = "the task $NAME has a description that is a draft: correct it in %s, then set IS_DRAFT to False"
        logging.getLogger(__name__).warning(text, __file__)
    return " ".join(DESCRIPTION.split())


@hookimpl
def input_instruction() -> str:
    return " ".join(INPUT_INSTRUCTION.split())


@hookimpl
def answer_format() -> AnswerFormat:
    return AnswerFormat("$FORM", CHOICES)


@hookimpl
def demos() -> Sequence[Example]:
    return read_demos(Path(__file__).with_name("demos.jsonl"))


@hookimpl
def load_dataset(path: str, split: str) -> Sequence[Example]:
    return read_dataset(path, split, _make_item)


def _make_item(row: Row) -> Example:
    output = str(row[OUTPUT_COLUMN]).strip()
    label = $LABEL
    if CHOICES and label.casefold() not in {choice.casefold() for choice in CHOICES}:
        raise ValueError(f"the label {output[:60]!r} is not one of the choices {', '.join(CHOICES)}")
    text = $INPUT
    return Example(text, $OUTPUT)
'''

_TEST = """from pathlib import Path

from dsrl import UNREADABLE
from dsrl.testing import TaskContract


class Test$CAMEL(TaskContract):
    plugin = "$NAME"
    dataset = Path(__file__).with_name("items.jsonl")
    examples = (
$EXAMPLES
        ("", UNREADABLE),
    )
"""

_README = """# A task: `$NAME`

`dsrl new` drafted this task from $SOURCE. This is what it guessed:

$GUESS

Correct the description in `$MODULE/__init__.py`, and whatever else is wrong there. Then set `IS_DRAFT` to `False`; until
then every run says that the description is a draft.

    pip install -e .             # after dsrl itself
    dsrl plugins check $NAME
    pip install -e ".[test]" && pytest
    dsrl plan --task $NAME --teacher openai:gpt-4o-mini --dataset-path FILE
    dsrl run --task $NAME --teacher openai:gpt-4o-mini --dataset-path FILE --base-model MODEL

`FILE` holds items that are kept for the test, in the columns above. Do not test on the demonstrations, which are in
`$MODULE/demos.jsonl`: a copy of $DEMONSTRATIONS rows of your data is in this package.
"""


def make_drafted_package(names: Names, draft: Draft, licence: str = "") -> Files:
    """Return the files of the package of a drafted task.

    Args:
        names: the names of the task.
        draft: what was guessed.
        licence: one of :data:`dsrl.scaffold.package.LICENCES`; empty for none.
    """
    values = {
        "$NAME": names.plugin,
        "$CAMEL": names.camel,
        "$MODULE": names.module,
        "$SOURCE": _quote_source(draft),
        "$DESCRIPTION": _escape_block(describe_task(draft)),
        "$INPUT_INSTRUCTION": _escape_block(_describe_input(draft)),
        "$FORM": draft.form,
        "$CHOICES": _format_tuple(draft.choices),
        "$INPUT_COLUMNS": _format_tuple(draft.input_columns),
        "$OUTPUT_COLUMN": _format_text(draft.output_column),
        "$INPUT": _format_input(draft),
        "$OUTPUT": _format_output(draft),
        "$LABEL": f'str(AnswerFormat("{draft.form}").extract(output))' if draft.has_marks else "output",
        "$EXAMPLES": _format_examples(draft),
        "$GUESS": "\n".join(f"- {line}" for line in describe_guess(draft)),
        "$DEMONSTRATIONS": str(len(draft.demonstrations)),
    }
    lines = [
        f'description = "A task for dsrl: {names.plugin}"' if line.startswith("description = ") else line
        for line in copy_example(names)["pyproject.toml"].splitlines()
    ]
    demos = [{"input": demo.input, "output": wrap_answer(draft, demo.output)} for demo in draft.demonstrations]
    files = {
        "pyproject.toml": "\n".join(lines) + "\n",
        "README.md": _fill(_README, values),
        f"{names.module}/__init__.py": _fill(_MODULE, values),
        f"{names.module}/py.typed": "",
        f"{names.module}/demos.jsonl": _to_jsonl(demos),
        f"tests/test_{names.plugin}.py": _fill(_TEST, values),
        "tests/items.jsonl": _to_jsonl([_make_row(draft, demo) for demo in draft.demonstrations]),
    }
    return add_common_files(files, names, licence)


def describe_task(draft: Draft) -> str:
    """Return a description of the task in a sentence or two, from the names of its columns and its answers."""
    parts = [name_part(column).lower() for column in draft.input_columns]
    given = "an input" if parts == ["input"] else f"the {' and the '.join(parts)}"
    wanted = name_part(draft.output_column).lower()
    goal = "Give the right answer." if wanted in ("output", "answer", "target") else f"Find the right {wanted}."
    if draft.choices:
        goal += f" It is one of these: {', '.join(draft.choices)}."
    elif draft.form == "hashes":
        goal += " It is a number."
    return f"You are given {given}. {goal}"


def describe_guess(draft: Draft) -> list[str]:
    """Return what was guessed, one line for each part. The texts come from the data and are made printable."""
    choices = ", ".join(f"{choice} ({draft.counts.get(choice, 0)} rows)" for choice in draft.choices)
    marks = "the outputs already have it" if draft.has_marks else "the outputs are bare answers, which are put into it"
    lines = [
        f"rows: {draft.rows}",
        f"input: {' and '.join(draft.input_columns)}",
        f"output: {draft.output_column}",
        f"form of an answer: {draft.form} ({marks})",
        f"choices: {choices or 'none; any answer is possible'}",
        f"demonstrations: {len(draft.demonstrations)}",
        f"description: {describe_task(draft)}",
        *(f"look at this: {doubt}" for doubt in draft.doubts),
    ]
    return [" ".join(printable(line).split()) for line in lines]


def wrap_answer(draft: Draft, output: str) -> str:
    """Return an output of the data in the form of an answer."""
    if draft.has_marks:
        return output
    if draft.choices:
        output = read_answer(AnswerFormat(draft.form, draft.choices), output, has_marks=False)
    forms = {"tag": f"<answer> {output} </answer>", "hashes": f"#### {output}", "boxed": f"\\boxed{{{output}}}"}
    return forms.get(draft.form, output)


def _describe_input(draft: Draft) -> str:
    if len(draft.input_columns) > 1:
        parts = ", ".join(f"'{name_part(column)}:'" for column in draft.input_columns)
        return f"An input has {len(draft.input_columns)} parts, which begin with {parts}."
    words = sorted(len(demo.input.split()) for demo in draft.demonstrations)
    return f"An input has about {words[len(words) // 2]} words." if words else "An input is a text."


def _make_row(draft: Draft, demo: Example) -> dict[str, str]:
    """Return a row of the data with the input and output of a demonstration."""
    if len(draft.input_columns) == 1:
        return {draft.input_columns[0]: demo.input, draft.output_column: demo.output}
    row, text = {}, demo.input
    for column, later in zip(draft.input_columns, [*draft.input_columns[1:], ""], strict=True):
        text = text.removeprefix(f"{name_part(column)}: ")
        part, _, text = text.partition(f"\n{name_part(later)}: ") if later else (text, "", "")
        row[column] = part
    return {**row, draft.output_column: demo.output}


# --- texts of other people in source code ------------------------------------------------------------------------------


def _fill(template: str, values: dict[str, str]) -> str:
    """Replace the marks of a template in one pass, so that a text of the data that looks like a mark stays as it is."""
    marks = sorted(values, key=len, reverse=True)
    text = re.sub("|".join(map(re.escape, marks)), lambda match: values[match.group()], template)
    return replace_surrogates(text)


def _format_text(text: str) -> str:
    """Return a literal of Python, quoted as ruff quotes it."""
    literal = repr(replace_surrogates(text))
    if literal.startswith("'") and '"' not in text:
        return f'"{literal[1:-1]}"'.replace("\\'", "'")
    return literal


def _format_tuple(texts: tuple[str, ...]) -> str:
    if not texts:
        return "()"
    if len(texts) == 1:
        return f"({_format_text(texts[0])},)"
    return "(\n" + "".join(f"    {_format_text(text)},\n" for text in texts) + ")"


def _escape_block(text: str) -> str:
    """Return a text that can stand between three quotes."""
    text = " ".join(printable(replace_surrogates(text)).split())
    text = "\n".join(textwrap.wrap(text, 110, break_long_words=False, break_on_hyphens=False))
    return text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')


def _quote_source(draft: Draft) -> str:
    return _escape_block(PurePath(draft.source).name[:60]).replace('"', "'").replace("`", "'")


def _format_input(draft: Draft) -> str:
    if len(draft.input_columns) == 1:
        return "str(row[INPUT_COLUMNS[0]]).strip()"
    part = "f\"{name.replace('_', ' ').capitalize()}: {str(row[name]).strip()}\""
    return f'"\\n".join({part} for name in INPUT_COLUMNS)'


def _format_output(draft: Draft) -> str:
    if draft.has_marks or draft.form == "choice":
        return "output"
    return {"tag": 'f"<answer> {output} </answer>"', "hashes": 'f"#### {output}"'}.get(
        draft.form, '"\\\\boxed{" + output + "}"'
    )


def _format_examples(draft: Draft) -> str:
    """Return the lines of outputs and answers in the test of the task."""
    samples: tuple[str, ...] = draft.choices[:3]
    if not samples:
        samples = ("12", "7") if draft.form in ("hashes", "boxed") else ("a first text", "a second text")
    before = {
        "tag": "<think> A thought. </think> <answer> ",
        "hashes": "A thought. #### ",
        "boxed": "So it is \\boxed{",
    }
    after = {"tag": " </answer>", "boxed": "}"}
    lines = []
    for sample in samples:
        output = f"{before.get(draft.form, '')}{sample}{after.get(draft.form, '')}"
        lines.append(f"        ({_format_text(output)}, {_format_text(sample)}),")
    return "\n".join(lines)


def _to_jsonl(rows: list[dict[str, str]]) -> str:
    return "".join(
        json.dumps({key: replace_surrogates(value) for key, value in row.items()}, ensure_ascii=False) + "\n"
        for row in rows
    )
