"""The answer formats of the field: extract an answer from an output, bring it to canonical form, compare.

Outputs are written by models: any text, any length. Everything here is linear in that length and never raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal

from dsrl.types import UNREADABLE, Answer

Form = Literal["tag", "boxed", "hashes", "choice"]
FORMS: tuple[str, ...] = ("tag", "boxed", "hashes", "choice")

# One number as people write it: sign, currency, thousands, decimals, per cent.
_NUMBER = re.compile(r"[-+]?\$?[-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,2}\b)?")
#: A longer number is no answer; its digits would only cost time.
_LONGEST_NUMBER = 1000
_WORDS = re.compile(r"[^\W_]+", re.UNICODE)


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """How an answer stands in an output.

    Attributes:
        form: ``tag``: the last ``<answer>..</answer>``, reasoning in ``<think>``. ``boxed``: the last ``\\boxed{..}``.
            ``hashes``: the number behind the last ``####``. ``choice``: the output itself is one of ``choices``.
        choices: the answers that are possible, in canonical spelling. Empty: any text.
    """

    form: Form
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"answer format {self.form!r} is not one of {', '.join(FORMS)}")
        if self.form == "choice" and not self.choices:
            raise ValueError("answer format 'choice' needs its choices")

    def extract(self, output: str) -> Answer:
        """Read the canonical answer; ``UNREADABLE`` where the output holds none."""
        if self.form == "tag":
            found = _last_tag(output)
        elif self.form == "boxed":
            found = _last_boxed(output)
        elif self.form == "hashes":
            _, mark, tail = output.rpartition("####")
            found = tail if mark else None
        else:
            found = output
        return UNREADABLE if found is None else self.canonical(found)

    def canonical(self, text: str) -> Answer:
        """Bring a bare answer to canonical form; ``UNREADABLE`` if it is none of the choices, no number, or empty."""
        if self.choices:
            return _choice(text, self.choices)
        if self.form == "hashes":
            return _number(text)
        text = " ".join(text.split())
        return text or UNREADABLE

    def instruction(self) -> str:
        """Say in words how to answer (paper, Figures 4 and 10)."""
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


def _last_tag(output: str) -> str | None:
    end = output.rfind("</answer>")
    start = output.rfind("<answer>", 0, end) if end >= 0 else -1
    return output[start + len("<answer>") : end] if start >= 0 else None


def _last_boxed(output: str) -> str | None:
    start = output.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for position in range(start + len("\\boxed"), len(output)):
        depth += {"{": 1, "}": -1}.get(output[position], 0)
        if depth == 0:
            return output[start + len("\\boxed{") : position]
    return None


def _number(text: str) -> Answer:
    found = _NUMBER.search(text)
    if found is None or len(found.group()) > _LONGEST_NUMBER:
        return UNREADABLE
    try:
        value = Decimal(found.group().replace(",", "").replace("$", ""))
    except InvalidOperation:
        return UNREADABLE
    # Not normalize() nor + 0: arithmetic rounds to 28 digits.
    written = format(value, "f")
    if "." in written:
        written = written.rstrip("0").rstrip(".")
    return "0" if written == "-0" else written


def _choice(text: str, choices: tuple[str, ...]) -> Answer:
    bare = text.strip().strip(".:*'\"()[]").casefold()
    for choice in choices:
        if bare == choice.casefold():
            return choice
    if all(len(choice) == 1 for choice in choices):
        # Multiple choice: the first lone capital is the option ("B: because A is wrong").
        return next((word for word in _WORDS.findall(text) if word in choices), UNREADABLE)
    words = f" {' '.join(_WORDS.findall(text.casefold()))} "
    spoken = {choice: " ".join(_WORDS.findall(choice.casefold())) for choice in choices}
    named = [choice for choice, name in spoken.items() if name and f" {name} " in words]
    # An answer that names two options has not answered.
    return named[0] if len(named) == 1 else UNREADABLE
