"""MedQA (Jin et al. 2020): questions of the United States medical licensing exam, with four options.

The task has the meaning of the paper's definition (one of its Figures 10 to 17), in words of our own. A row of the data
set (``phrases_no_exclude_test.jsonl``) has the columns ``question``, ``options`` (letter -> text, or a list of ``key`` and
``value``) and ``answer_idx`` (a letter).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from dsrl import AnswerFormat, DatasetInfo, Example, hookimpl

CHOICES = ("A", "B", "C", "D")


@hookimpl
def description() -> str:
    """Return what the task is and what it takes."""
    return (
        "This is a multiple-choice task about medicine. You get a question as in the exam that doctors in the United "
        "States pass for their licence (USMLE), usually about the case of one patient, and four possible answers. Choose "
        "the one best answer. It takes knowledge of basic and clinical medicine, and the skill to conclude from findings "
        "to a diagnosis, a mechanism or the next step of care."
    )


@hookimpl
def input_instruction() -> str:
    """Return what an input looks like."""
    return (
        "An input begins with a clinical case in a few sentences: who the patient is (age, sex), the complaints, the "
        "medical history, what the examination, the laboratory and the images show, and how the illness goes on. Then "
        "come one question about the case in the style of the USMLE and four answers to choose from. Each answer has a "
        "line of its own, which begins with its letter and a colon: A: to D:."
    )


@hookimpl
def output_instruction() -> str:
    """Return how to write an answer."""
    return (
        "Discuss the case and the options between <think> and </think>. After that, write the letter of the best answer, "
        "A, B, C or D, and nothing else between <answer> and </answer>."
    )


@hookimpl
def answer_format() -> AnswerFormat:
    """Return the form of an answer: a letter in a tag."""
    return AnswerFormat("tag", CHOICES)


@hookimpl
def dataset_info() -> DatasetInfo:
    """Return what MedQA is."""
    return DatasetInfo(
        id="GBaker/MedQA-USMLE-4-options",
        license="CC BY 4.0, as its page on the hub says",
        citation=(
            "Jin et al. 2020, What Disease does this Patient Have? A Large-scale Open Domain Question Answering Dataset "
            "from Medical Exams, arXiv:2009.13081"
        ),
        url="https://huggingface.co/datasets/GBaker/MedQA-USMLE-4-options",
        sizes={"train": 10178, "test": 1273},
    )


@hookimpl
def load_dataset(path: str, split: Literal["train", "test"]) -> Iterable[Example]:
    """Read MedQA from the hub or from a file."""
    from dsrl_tasks.choices import read_items

    return read_items(path, split, _read_row, dataset_info(), {"train": ("train", ""), "test": ("test", "")})


@hookimpl
def process_label(output: str) -> str | None:
    """Read an index as a letter; everything else is read by the default."""
    from dsrl_tasks.choices import find_letter

    return find_letter(output, len(CHOICES))


def _read_row(row: Mapping[str, Any]) -> Example:
    from dsrl_tasks.choices import read_letter, read_options, write_input

    options = read_options(row["options"], len(CHOICES))
    return Example(write_input(row["question"], options), read_letter(row["answer_idx"], len(CHOICES)))
