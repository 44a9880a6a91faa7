"""CFA (Xie et al. 2023): questions of exams for chartered financial analysts, with three options.

The task has the meaning of the paper's definition (one of its Figures 10 to 17), in words of our own. A row of the data
set has the columns ``text`` (the question and its options in one line), ``query`` (the same after an instruction),
``answer`` (a letter) and ``gold`` (its index).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from dsrl import AnswerFormat, DatasetInfo, Example, hookimpl

CHOICES = ("A", "B", "C")
_OPTIONS = re.compile(r"\s*A:(.*?),\s?B:(.*?),\s?C:(.*)", re.DOTALL)


@hookimpl
def description() -> str:
    """Return what the task is and what it takes."""
    return (
        "This is a multiple-choice task about finance. You get a question as in the exams for chartered financial "
        "analysts (CFA) and three possible answers, of which one is right. The questions are about ethics of the "
        "profession, economics, statistics, accounting, company finance, shares, bonds, derivatives and portfolios. They "
        "take knowledge of the terms and rules of the field, and often a short calculation."
    )


@hookimpl
def input_instruction() -> str:
    """Return what an input looks like."""
    return (
        "An input is a question about finance, with all figures that it needs, and then three answers to choose from. "
        "Each answer has a line of its own, which begins with its letter and a colon: A: to C:."
    )


@hookimpl
def output_instruction() -> str:
    """Return how to write an answer."""
    return (
        "Reason and calculate between <think> and </think>. After that, write the letter of the right answer, A, B or C, "
        "and nothing else between <answer> and </answer>."
    )


@hookimpl
def answer_format() -> AnswerFormat:
    """Return the form of an answer: a letter in a tag."""
    return AnswerFormat("tag", CHOICES)


@hookimpl
def dataset_info() -> DatasetInfo:
    """Return what the data set of CFA questions is."""
    return DatasetInfo(
        id="TheFinAI/flare-cfa",
        license="not stated",
        citation=(
            "Xie et al. 2023, PIXIU: A Large Language Model, Instruction Data and Evaluation Benchmark for Finance, "
            "arXiv:2306.05443"
        ),
        url="https://huggingface.co/datasets/TheFinAI/flare-cfa",
        sizes={"test": 1032},
    )


@hookimpl
def load_dataset(path: str, split: Literal["train", "test"]) -> Iterable[Example]:
    """Read the questions from the hub or from a file."""
    from dsrl_tasks.choices import read_items

    return read_items(path, split, _read_row, dataset_info(), {"test": ("test", "")})


@hookimpl
def process_label(output: str) -> str | None:
    """Read an index as a letter; everything else is read by the default."""
    from dsrl_tasks.choices import find_letter

    return find_letter(output, len(CHOICES))


def _read_row(row: Mapping[str, Any]) -> Example:
    from dsrl_tasks.choices import read_letter, write_input

    text = row["text"] if "text" in row else row["query"]
    question, options = _split(text[max(text.find("Q:"), 0) :])
    letter = read_letter(row["answer"] if "answer" in row else row["gold"], len(CHOICES))
    return Example(write_input(question, options), letter)


def _split(text: str) -> tuple[str, list[str]]:
    """Split ``Q:...,CHOICES: A: ...,B: ...,C: ...`` into the question and its options.

    A text of another form is returned whole, without options: it holds them in its own way.
    """
    question, mark, rest = text.removeprefix("Q:").rpartition("CHOICES:")
    options = _OPTIONS.fullmatch(rest) if mark else None
    if options is None:
        return text.removeprefix("Q:"), []
    return question.rstrip(" ,"), [option.strip() for option in options.groups()]
