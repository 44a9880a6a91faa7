"""GPQA (Rein et al. 2023): questions by experts of biology, physics and chemistry, with four options.

The task has the meaning of the paper's definition (one of its Figures 10 to 17), in words of our own. A row of the data
set (``gpqa_main.csv``) has the columns ``Question``, ``Correct Answer`` and ``Incorrect Answer 1`` to ``3``. The options are
shuffled, because the right one would always be the first: the order of a row follows from its content and from
``--task-option shuffle_seed=N``.

The authors ask that no item be published, so that models do not learn them from the web. The data set is given only to
those who agree to that on its page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from dsrl import AnswerFormat, DatasetInfo, Example, SettingsError, hookimpl

CHOICES = ("A", "B", "C", "D")
OPTIONS = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


class GPQA:
    """The task.

    Args:
        shuffle_seed: decides the order of the options of each row.
    """

    def __init__(self, shuffle_seed: int = 0) -> None:
        if not isinstance(shuffle_seed, int) or isinstance(shuffle_seed, bool):
            raise SettingsError(f"--task-option shuffle_seed={shuffle_seed!r} must be a whole number")
        self._seed = shuffle_seed

    @hookimpl
    def description(self) -> str:
        """Return what the task is and what it takes."""
        return (
            "This is a multiple-choice task about natural science. You get one very difficult question from biology, "
            "physics or chemistry, as people with a doctorate in the field write them for each other, and four possible "
            "answers. A search on the web does not help. Only one answer is right; it takes deep knowledge of the field "
            "and exact reasoning over several steps to find it."
        )

    @hookimpl
    def input_instruction(self) -> str:
        """Return what an input looks like."""
        return (
            "An input is a question about science, with all data that it needs, and then four answers to choose from. "
            "Each answer has a line of its own, which begins with its letter and a colon: A: to D:."
        )

    @hookimpl
    def output_instruction(self) -> str:
        """Return how to write an answer."""
        return (
            "Work the question out step by step between <think> and </think>. After that, write the letter of the right "
            "answer, A, B, C or D, and nothing else between <answer> and </answer>."
        )

    @hookimpl
    def answer_format(self) -> AnswerFormat:
        """Return the form of an answer: a letter in a tag."""
        return AnswerFormat("tag", CHOICES)

    @hookimpl
    def dataset_info(self) -> DatasetInfo:
        """Return what GPQA is."""
        return DatasetInfo(
            id="Idavidrein/gpqa",
            config="gpqa_main",
            license="CC BY 4.0; access only after agreeing not to publish its items",
            citation="Rein et al. 2023, GPQA: A Graduate-Level Google-Proof Q&A Benchmark, arXiv:2311.12022",
            url="https://huggingface.co/datasets/Idavidrein/gpqa",
            sizes={"test": 448},
        )

    @hookimpl
    def load_dataset(self, path: str, split: Literal["train", "test"]) -> Iterable[Example]:
        """Read GPQA from the hub or from a file."""
        from dsrl_tasks.choices import read_items

        # The hub calls the only split "train"; all of it is for evaluation.
        return read_items(path, split, self._read_row, self.dataset_info(), {"test": ("train", "")})

    @hookimpl
    def process_label(self, output: str) -> str | None:
        """Read an index as a letter; everything else is read by the default."""
        from dsrl_tasks.choices import find_letter

        return find_letter(output, len(CHOICES))

    def _read_row(self, row: Mapping[str, Any]) -> Example:
        from dsrl_tasks.choices import read_options, shuffle_options, write_input

        question = row["Question"].strip()
        options = read_options([row[name] for name in OPTIONS], len(OPTIONS))
        shuffled, letter = shuffle_options(options, 0, self._seed, question)
        return Example(write_input(question, shuffled), letter)
