"""GSM8K (Cobbe et al. 2021): grade-school word problems with a whole number as answer.

The task has the meaning of the paper's Figure 10, in words of our own. Without ``--dataset-path`` the models are
evaluated on a procedural test set of our own (:mod:`dsrl_tasks.gsm8k.procedural`). It is not GSM8K, and we never call it
that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from typing import Any, Literal

from dsrl import AnswerFormat, DatasetInfo, Example, Solved, hookimpl

#: Configuration of ``openai/gsm8k``; its other one, ``socratic``, has questions in the answers.
CONFIG = "main"
#: Number of items of the procedural test set.
TEST_ITEMS = 600


@hookimpl
def description() -> str:
    """Return what the task is and what it takes."""
    return (
        "Each input tells a short story with numbers, as in a schoolbook of mathematics, and asks for one number. Find it "
        "in a few steps of arithmetic, simple algebra or geometry, and show the steps. It takes careful reading: what is "
        "given, what is asked for, and in which order things happen."
    )


@hookimpl
def output_instruction() -> str:
    """Return how to write an answer."""
    return "Show the calculation in short steps, and write the resulting number after #### at the end."


@hookimpl
def answer_format() -> AnswerFormat:
    """Return the form of an answer: a number after ``####``."""
    return AnswerFormat("hashes")


@hookimpl
def dataset_info() -> DatasetInfo:
    """Return where GSM8K is."""
    return DatasetInfo(
        id="openai/gsm8k",
        license="MIT",
        citation="Cobbe et al. 2021, Training Verifiers to Solve Math Word Problems, arXiv:2110.14168",
        url="https://huggingface.co/datasets/openai/gsm8k",
        sizes={"train": 7473, "test": 1319},
        config="main",
        is_read=True,
    )


@hookimpl
def load_dataset(path: str, split: Literal["train", "test"]) -> Iterable[Example]:
    """Read GSM8K or another data set; without a path, make the procedural test set.

    GSM8K itself is ``openai/gsm8k`` on the hub, or a JSONL or Parquet file with ``question`` and ``answer``.
    """
    from dsrl.datasets import read_dataset
    from dsrl_tasks.gsm8k import procedural

    if not path:
        return [Example(*item) for item in procedural.make_held_out_items("test", TEST_ITEMS)]
    return read_dataset(path, split, _read_row, config=CONFIG)


def _read_row(row: Mapping[str, Any]) -> Example:
    """Read a row of GSM8K (``question``, ``answer``), or a row with input and output."""
    from dsrl.datasets import read_input_output

    if "question" in row or "answer" in row:
        return Example(row["question"], row["answer"])
    return read_input_output(row)


@hookimpl
def procedural_sample(seed: int, difficulty: int, passage: str) -> Example:
    """Write a sample by rules; a difficulty above the hardest level gives a sample of the hardest level."""
    from dsrl_tasks.gsm8k import procedural

    level = min(max(difficulty, 1), max(procedural.LEVELS))
    return Example(*procedural.write(Random(seed), level, passage))


@hookimpl
def procedural_solve(input: str) -> Solved | None:
    """Solve an input that ``procedural_sample`` wrote."""
    from dsrl_tasks.gsm8k import procedural

    solution = procedural.solve(input)
    return Solved(f"#### {solution.label}", solution.level) if solution else None
