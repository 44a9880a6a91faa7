"""MedNLI (Romanov and Shivade 2018): does a premise from a medical record entail, contradict or leave open a hypothesis?

The task has the meaning of the paper's Figure 15, in words of our own. Without ``--dataset-path`` the models are
evaluated on a procedural test set of our own (:mod:`dsrl_tasks.mednli.procedural`). It is not MedNLI, and we never call it
that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from typing import Any, Literal

from dsrl import AnswerFormat, DatasetInfo, Example, Solved, hookimpl

CHOICES = ("entailment", "neutral", "contradiction")
#: Number of items of the procedural test set.
TEST_ITEMS = 600


@hookimpl
def description() -> str:
    """Return what the task is and what it takes."""
    return (
        "Each input has two sentences about one patient. The premise comes from the notes of a hospital, and the hypothesis "
        "is another statement. Decide what the premise says about the hypothesis: it must be true (entailment), it cannot "
        "be true (contradiction), or both are possible (neutral). It takes careful reading of negations, persons, sides and "
        "numbers, and some knowledge of medicine."
    )


@hookimpl
def input_instruction() -> str:
    """Return what an input looks like."""
    return (
        "An input begins with the question 'Does the hypothesis follow from the premise (entailment), is it ruled out "
        "(contradiction), or is it left open (neutral)?'. After it come 'Premise:' with the sentences of the premise, and "
        "then 'Hypothesis:' with one sentence. All of it is one line."
    )


@hookimpl
def output_instruction() -> str:
    """Return how to write an answer."""
    return (
        "First compare the two inside <think> </think>. Then write one word inside <answer> </answer>: entailment, neutral "
        "or contradiction."
    )


@hookimpl
def answer_format() -> AnswerFormat:
    """Return the form of an answer: a label in a tag."""
    return AnswerFormat("tag", CHOICES)


@hookimpl
def dataset_info() -> DatasetInfo:
    """Return what MedNLI is."""
    return DatasetInfo(
        id="presencesw/mednli",
        license="PhysioNet Credentialed Health Data License 1.5.0; the copy on the hub states none",
        citation=(
            "Romanov and Shivade 2018, Lessons from Natural Language Inference in the Clinical Domain, arXiv:1808.06752"
        ),
        url="https://physionet.org/content/mednli/1.0.0/",
        sizes={"train": 11232, "validation": 1395, "test": 1422},
    )


@hookimpl
def load_dataset(path: str, split: Literal["train", "test"]) -> Iterable[Example]:
    """Read MedNLI or another data set; without a path, make the procedural test set."""
    from dsrl.datasets import read_dataset
    from dsrl_tasks.mednli import procedural

    if not path:
        return [Example(*item) for item in procedural.make_held_out_items("test", TEST_ITEMS)]
    return read_dataset(path, split, _read_row)


def _read_row(row: Mapping[str, Any]) -> Example | None:
    """Read a row of MedNLI's JSONL (``sentence1``, ``sentence2``, ``gold_label``), or a row with input and output."""
    from dsrl.datasets import read_input_output

    if "sentence1" in row or "gold_label" in row:
        from dsrl_tasks.mednli.procedural import INPUT_FORM

        premise, hypothesis, label = row["sentence1"].strip(), row["sentence2"].strip(), row["gold_label"].strip()
        if label.lower() not in CHOICES:
            raise ValueError(f"the label {label[:40]!r} is not one of {', '.join(CHOICES)}")
        return Example(INPUT_FORM.format(premise=premise, hypothesis=hypothesis), label)
    return read_input_output(row)


@hookimpl
def procedural_sample(seed: int, difficulty: int, passage: str) -> Example:
    """Write a sample by rules; a difficulty above the hardest level gives a sample of the hardest level."""
    from dsrl_tasks.mednli import procedural

    level = min(max(difficulty, 1), max(procedural.LEVELS))
    return Example(*procedural.write(Random(seed), level, passage))


@hookimpl
def procedural_solve(input: str) -> Solved | None:
    """Solve an input that ``procedural_sample`` wrote."""
    from dsrl_tasks.mednli import procedural

    solution = procedural.solve(input)
    return Solved(f"<think> </think> <answer> {solution.label} </answer>", solution.level) if solution else None
