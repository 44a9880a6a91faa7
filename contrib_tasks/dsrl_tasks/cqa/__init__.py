"""Consumer contracts (Kolt 2022; part of LegalBench, Guha et al. 2023): yes-or-no questions on terms of service.

The task has the meaning of the paper's definition (one of its Figures 10 to 17), in words of our own. A row of the data
set has the columns ``contract``, ``question`` and ``answer`` (Yes or No). On the hub, LegalBench is a loading script, which
the library ``datasets`` refuses since version 4; the hub's own copy as Parquet is read instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from dsrl import AnswerFormat, DatasetInfo, Example, hookimpl

CHOICES = ("Yes", "No")
#: Our split -> the split of the hub, and its files on the branch with the Parquet copy.
HUB_FILES = {split: (split, f"consumer_contracts_qa/{split}/*.parquet") for split in ("train", "test")}


@hookimpl
def description() -> str:
    """Return what the task is and what it takes."""
    return (
        "This is a question-answering task about law. You get a part of a contract between a company and a consumer, "
        "such as the terms of use of an online service, and a question about what one side may or must do under it. "
        "Decide by the wording of the contract whether the answer is yes or no. It takes careful reading of legal text "
        "and attention to conditions and exceptions."
    )


@hookimpl
def input_instruction() -> str:
    """Return what an input looks like."""
    return (
        "An input has two parts. The first begins with 'Contract:' and gives a passage of a consumer contract. The second "
        "begins on a new line with 'Question:' and asks something about the passage that is answered by yes or no."
    )


@hookimpl
def output_instruction() -> str:
    """Return how to write an answer."""
    return (
        "Go through the relevant terms of the contract between <think> and </think>. After that, write Yes or No, and "
        "nothing else, between <answer> and </answer>."
    )


@hookimpl
def answer_format() -> AnswerFormat:
    """Return the form of an answer: Yes or No in a tag."""
    return AnswerFormat("tag", CHOICES)


@hookimpl
def dataset_info() -> DatasetInfo:
    """Return what the data set of consumer contracts is."""
    from dsrl.datasets import PARQUET_REVISION

    return DatasetInfo(
        id="nguha/legalbench",
        config="consumer_contracts_qa",
        revision=PARQUET_REVISION,
        license="CC BY-NC 4.0",
        citation=(
            "Kolt 2022, Predicting Consumer Contracts, Berkeley Technology Law Journal 37; in Guha et al. 2023, LegalBench, "
            "arXiv:2308.11462"
        ),
        url="https://github.com/HazyResearch/legalbench/tree/main/tasks/consumer_contracts_qa",
        sizes={"train": 4, "test": 396},
    )


@hookimpl
def load_dataset(path: str, split: Literal["train", "test"]) -> Iterable[Example]:
    """Read the questions from the hub or from a file, e.g. LegalBench's ``test.tsv``."""
    from dsrl_tasks.choices import read_items

    return read_items(path, split, _read_row, dataset_info(), HUB_FILES)


def _read_row(row: Mapping[str, Any]) -> Example:
    contract, question, answer = row["contract"].strip(), row["question"].strip(), row["answer"].strip()
    label = answer.rstrip(".").capitalize()
    if label not in CHOICES:
        raise ValueError(f"the answer {answer[:40]!r} is neither Yes nor No")
    return Example(f"Contract: {contract}\nQuestion: {question}", label)
