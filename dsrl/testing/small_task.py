"""A small task for tests that need any task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dsrl.answers import AnswerFormat
from dsrl.plugins.specs import hookimpl
from dsrl.types import Example


class SmallTask:
    """A task whose answers stand in ``<answer>`` tags.

    Args:
        choices: the possible answers; empty if any answer is possible.
        items: the items of its data set; None if it reads the file of ``--dataset-path``, as most tasks do.
        words: its description.
    """

    def __init__(
        self,
        choices: Sequence[str] = ("yes", "no"),
        items: Iterable[Example] | None = None,
        words: str = "Say yes or no.",
    ) -> None:
        self.choices, self.items, self.words = tuple(choices), items, words

    @hookimpl
    def description(self) -> str:
        return self.words

    @hookimpl
    def answer_format(self) -> AnswerFormat:
        return AnswerFormat("tag", self.choices)

    @hookimpl
    def load_dataset(self) -> Iterable[Example] | None:
        return self.items
