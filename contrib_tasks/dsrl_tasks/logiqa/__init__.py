"""LogiQA (Liu et al. 2020): what follows from a text? Questions of an exam for civil servants, with four options.

The task has the meaning of the paper's definition (one of its Figures 10 to 17), in words of our own. LogiQA has four
options, although the paper reads the letters A to E. Without ``--dataset-path`` the models are evaluated on a procedural
test set of our own (:mod:`dsrl_tasks.logiqa.procedural`). It is not LogiQA, and we never call it that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any, Literal

from dsrl import AnswerFormat, DatasetInfo, Example, Solved, hookimpl

CHOICES = ("A", "B", "C", "D")
#: Number of items of each procedural set.
HELD_OUT_ITEMS = 600
#: The branch of the hub with the Parquet copy: the repository itself is a loading script, which ``datasets`` 4 refuses.
HUB_FILES = {split: (split, f"default/{split}/*.parquet") for split in ("train", "test")}


@hookimpl
def description() -> str:
    """Return what the task is and what it takes."""
    return (
        "This is a multiple-choice task about logic. You get a short text, a question about what can or cannot be "
        "concluded from it, and four options. Choose the one option that is right if the text is true. It takes careful "
        "reading and deduction: conditions and what follows from them, orders in time or size, exceptions, assumptions "
        "and weak points of an argument. No knowledge beyond the text is needed."
    )


@hookimpl
def input_instruction() -> str:
    """Return what an input looks like."""
    return (
        "An input has three parts. The first begins with 'Context:' and gives facts, rules or an argument. The second "
        "begins on a new line with 'Question:' and asks for a conclusion. Then come four options, each on a line of its "
        "own, which begins with its letter and a colon: A: to D:."
    )


@hookimpl
def output_instruction() -> str:
    """Return how to write an answer."""
    return (
        "Draw the conclusions one after the other between <think> and </think>. After that, write the letter of the "
        "right option, A, B, C or D, and nothing else between <answer> and </answer>."
    )


@hookimpl
def answer_format() -> AnswerFormat:
    """Return the form of an answer: a letter in a tag."""
    return AnswerFormat("tag", CHOICES)


@hookimpl
def dataset_info() -> DatasetInfo:
    """Return what LogiQA is."""
    from dsrl.datasets import PARQUET_REVISION

    return DatasetInfo(
        id="lucasmccabe/logiqa",
        revision=PARQUET_REVISION,
        license="not stated",
        citation=(
            "Liu et al. 2020, LogiQA: A Challenge Dataset for Machine Reading Comprehension with Logical Reasoning, "
            "arXiv:2007.08124"
        ),
        url="https://github.com/lgw863/LogiQA-dataset",
        sizes={"train": 7376, "validation": 651, "test": 651},
    )


@hookimpl
def load_dataset(path: str, split: Literal["train", "test"]) -> Iterable[Example]:
    """Read LogiQA or another data set; without a path, make the procedural set.

    LogiQA comes as rows with ``context``, ``query``, ``options`` and ``correct_option``, or as the authors' text files.
    """
    from dsrl_tasks.choices import read_items
    from dsrl_tasks.logiqa import procedural, text_files

    if not path:
        name: Literal["dev", "test"] = "dev" if split == "train" else "test"
        return [Example(*item) for item in procedural.make_held_out_items(name, HELD_OUT_ITEMS)]
    file = text_files.find_file(Path(path), split)
    if file is not None:
        return text_files.read_text_file(file)
    return read_items(path, split, _read_row, dataset_info(), HUB_FILES)


@hookimpl
def process_label(output: str) -> str | None:
    """Read an index as a letter (``2`` is C); everything else is read by the default."""
    from dsrl_tasks.choices import find_letter

    return find_letter(output, len(CHOICES))


def _read_row(row: Mapping[str, Any]) -> Example:
    from dsrl_tasks.choices import read_letter, read_options, write_input

    options = read_options(row["options"], len(CHOICES))
    letter = read_letter(row["correct_option"], len(CHOICES))
    return Example(write_input(row["query"], options, row["context"]), letter)


@hookimpl
def procedural_sample(seed: int, difficulty: int, passage: str) -> Example:
    """Write a sample by rules; a difficulty above the hardest level gives a sample of the hardest level."""
    from dsrl_tasks.logiqa import procedural

    level = min(max(difficulty, 1), max(procedural.LEVELS))
    return Example(*procedural.write(Random(seed), level, passage))


@hookimpl
def procedural_solve(input: str) -> Solved | None:
    """Solve an input that ``procedural_sample`` wrote."""
    from dsrl_tasks.logiqa import procedural

    solution = procedural.solve(input)
    return Solved(f"<think> </think> <answer> {solution.label} </answer>", solution.level) if solution else None
