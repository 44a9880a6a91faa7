"""The form of an answer: where it stands in an output, and its canonical spelling."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from dsrl.answers.choices import read_bare_choice, read_choice
from dsrl.answers.numbers import read_number
from dsrl.answers.places import LONGEST_ANSWER, cut_thinking, find_after_hashes, find_last_boxed, find_last_tag
from dsrl.types import UNREADABLE, Answer

Form = Literal["tag", "boxed", "hashes", "choice"]
FORMS: tuple[str, ...] = ("tag", "boxed", "hashes", "choice")

# The words of an instruction that a model copies instead of answering.
_PLACEHOLDER = re.compile(
    r"[\[{(<]?\s*(?:\.\.\.|(?:(?:the|your|a|an) )?(?:final |correct |right )*"
    r"(?:answer|option|choice)(?: goes)?(?: here)?)\s*[\]})>]?\.?",
    re.IGNORECASE,
)
# A line that goes on with the expression of the line before it.
_CONTINUES = re.compile(r"[+*/^=\u00d7\u00f7]\s*\d")


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """How an output contains its answer.

    What stands in the thinking part (``<think>..</think>``) is never the answer, in no form. An output that ends inside the
    thinking part has none.

    Attributes:
        form: ``tag``: the last ``<answer>..</answer>`` (``<result>`` is read alike). ``boxed``: the last ``\\boxed{..}``.
            ``hashes``: the line after the last ``####``, which must give one number. ``choice``: the output itself is one of
            ``choices``.
        choices: the possible answers in canonical spelling. Empty: any text is possible. If each has one character, they are
            the letters of options, and the text of an option in the input counts as its letter.
    """

    form: Form
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"answer format {self.form!r} is not one of {', '.join(FORMS)}")
        if self.form == "choice" and not self.choices:
            raise ValueError("answer format 'choice' needs its choices")

    def extract(self, output: str, input: str = "") -> Answer:
        """Return the canonical answer; ``UNREADABLE`` if the output contains none.

        Args:
            output: what a model wrote: any text of any length.
            input: the input that it answers, in which the options of letters are looked for.
        """
        text = cut_thinking(output)
        if text is None:
            return UNREADABLE
        if self.form == "tag":
            tag = find_last_tag(text)
            if tag is None:
                return UNREADABLE
            content, is_closed = tag
            # An output that was cut off inside its answer is not paid for an earlier draft, nor for the beginning of a
            # text or number. The bare name of a choice is whole: a tag that only lacks its end counts.
            return self.canonical(content, input) if is_closed else read_bare_choice(content, self.choices)
        if self.form == "boxed":
            boxed = find_last_boxed(text)
            return UNREADABLE if boxed is None else self.canonical(boxed, input)
        if self.form == "hashes":
            lines = find_after_hashes(text)
            if lines is None or _CONTINUES.match(lines[1]):
                return UNREADABLE
            return self.canonical(lines[0], input)
        return self.canonical(text, input)

    def find(self, output: str) -> str | None:
        """Return the text of the answer as it stands in the output, for a task that reads it by itself; None without one."""
        text = cut_thinking(output)
        if text is None:
            return None
        if self.form == "tag":
            tag = find_last_tag(text)
            return tag[0] if tag and tag[1] else None
        if self.form == "boxed":
            return find_last_boxed(text)
        if self.form == "hashes":
            lines = find_after_hashes(text)
            return lines[0] if lines else None
        return text

    def canonical(self, text: str, input: str = "") -> Answer:
        """Return an answer in canonical form; ``UNREADABLE`` if it is not one of the choices, not a number, or empty."""
        if self.choices:
            return read_choice(text, self.choices, input)
        if self.form == "hashes":
            return read_number(text.strip())
        if len(text) > LONGEST_ANSWER or _PLACEHOLDER.fullmatch(text.strip()):
            return UNREADABLE
        return " ".join(text.split()) or UNREADABLE

    def choice_at(self, index: str) -> Answer:
        """Return the choice at an index from 0, as data sets number their options; ``UNREADABLE`` if there is none."""
        index = index.strip()
        if not (index.isascii() and index.isdecimal() and len(index) < 4 and int(index) < len(self.choices)):
            return UNREADABLE
        return self.choices[int(index)]

    def instruction(self) -> str:
        """Return an instruction that tells a model how to answer."""
        options = " or ".join(self.choices) or "your answer"
        if self.form == "tag":
            return f"First think inside <think> </think>. Then write {options} inside <answer> </answer>, and nothing else."
        if self.form == "boxed":
            return "Go through the steps one by one, and put the answer that they lead to inside \\boxed{}."
        if self.form == "hashes":
            return "Go through the steps one by one, and write the number that they lead to after #### at the end."
        return f"Answer with {options} and nothing else."
