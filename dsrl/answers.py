"""The usual answer formats: extract an answer from an output and bring it to canonical form.

Models write the outputs, so they can be any text of any length. The time of every function here is linear in that length,
and none raises an error because of an output.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal

from dsrl.types import UNREADABLE, Answer

Form = Literal["tag", "boxed", "hashes", "choice"]
FORMS: tuple[str, ...] = ("tag", "boxed", "hashes", "choice")

# One number as people write it: sign, currency, separators of thousands, decimals, exponent.
_NUMBER = re.compile(r"[-+]?\$?[-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,2}\b)?")
#: Most characters of a number; a longer one is not an answer and would only take time.
_LONGEST_NUMBER = 1000
_WORDS = re.compile(r"[^\W_]+", re.UNICODE)


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """How an output contains its answer.

    Attributes:
        form: ``tag``: the last ``<answer>..</answer>``, reasoning in ``<think>``. ``boxed``: the last ``\\boxed{..}``.
            ``hashes``: the number after the last ``####``. ``choice``: the output itself is one of ``choices``.
        choices: the possible answers in canonical spelling. Empty: any text is possible.
    """

    form: Form
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"answer format {self.form!r} is not one of {', '.join(FORMS)}")
        if self.form == "choice" and not self.choices:
            raise ValueError("answer format 'choice' needs its choices")

    def extract(self, output: str) -> Answer:
        """Return the canonical answer; ``UNREADABLE`` if the output contains none."""
        if self.form == "tag":
            content = _find_last_tag(output)
        elif self.form == "boxed":
            content = _find_last_boxed(output)
        elif self.form == "hashes":
            _, mark, tail = output.rpartition("####")
            content = tail if mark else None
        else:
            content = output
        return UNREADABLE if content is None else self.canonical(content)

    def canonical(self, text: str) -> Answer:
        """Return an answer in canonical form; ``UNREADABLE`` if it is not one of the choices, not a number, or empty."""
        if self.choices:
            return _read_choice(text, self.choices)
        if self.form == "hashes":
            return _read_number(text)
        text = " ".join(text.split())
        return text or UNREADABLE

    def instruction(self) -> str:
        """Return the instruction that tells a model how to answer (paper, Figures 4 and 10)."""
        options = " or ".join(self.choices) or "your answer"
        if self.form == "tag":
            return (
                "Your output thinking process and answer should be enclosed within <think> </think> and <answer> "
                f"</answer> tags, respectively, i.e., <think> thinking process here </think> <answer> {options} </answer>."
            )
        if self.form == "boxed":
            return "Let's think step by step and output the final answer within \\boxed{}."
        if self.form == "hashes":
            return "Let's think step by step and output the final answer after ####."
        return f"Answer with {options} and nothing else."


def _find_last_tag(output: str) -> str | None:
    end = output.rfind("</answer>")
    start = output.rfind("<answer>", 0, end) if end >= 0 else -1
    return output[start + len("<answer>") : end] if start >= 0 else None


def _find_last_boxed(output: str) -> str | None:
    start = output.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for position in range(start + len("\\boxed"), len(output)):
        depth += {"{": 1, "}": -1}.get(output[position], 0)
        if depth == 0:
            return output[start + len("\\boxed{") : position]
    return None


def _read_number(text: str) -> Answer:
    match = _NUMBER.search(text)
    if match is None or len(match.group()) > _LONGEST_NUMBER:
        return UNREADABLE
    try:
        value = Decimal(match.group().replace(",", "").replace("$", ""))
    except InvalidOperation:
        return UNREADABLE
    # Decimal.normalize() and other arithmetic would round to 28 digits.
    digits = format(value, "f")
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return "0" if digits == "-0" else digits


def _read_choice(text: str, choices: tuple[str, ...]) -> Answer:
    bare = text.strip().strip(".:*'\"()[]").casefold()
    for choice in choices:
        if bare == choice.casefold():
            return choice
    if all(len(choice) == 1 for choice in choices):
        # Multiple choice: the first lone capital is the option ("B: because A is wrong").
        return next((word for word in _WORDS.findall(text) if word in choices), UNREADABLE)
    words = f" {' '.join(_WORDS.findall(text.casefold()))} "
    choice_words = {choice: " ".join(_WORDS.findall(choice.casefold())) for choice in choices}
    matches = [choice for choice, name in choice_words.items() if name and f" {name} " in words]
    # An output that names two choices gives no answer.
    return matches[0] if len(matches) == 1 else UNREADABLE
