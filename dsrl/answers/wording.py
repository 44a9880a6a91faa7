"""The words around an answer: those that lead to it, those that give a reason, and those that deny it."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: Characters that may stand around an answer.
MARKS = " \t\r\n.,;:!?*_`'\"()[]{}<>$-"

_WORDS = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_LEAD_WORDS = (
    "so thus therefore hence then well ok okay in conclusion to this the question my our your final correct right best "
    "most appropriate suitable accurate likely probable probably chosen selected given answer answers option choice letter "
    "response solution result conclusion is was be would should must will it it's that that's i i'd i'll i'm we choose pick "
    "select go going with think believe say confident label relationship relation class classified categorized as here of "
    "between and premise hypothesis"
).split()
#: What follows is a reason; it may name other choices.
REASON = re.compile(r"\b(?:because|since|due to|given that|as (?=it|the|this|they|there))", re.IGNORECASE)
#: What follows takes an answer back.
CORRECTION = re.compile(
    r"\b(?:no,? wait|wait|actually|on second thought|scratch that|correction"
    r"|(?:that|which|this)(?:'s| is) (?:wrong|false|incorrect))\b",
    re.IGNORECASE,
)
#: Words that deny the answer beside them.
DENIALS = frozenset(
    "un not no non never neither nor none except but cannot can't isn't aren't wasn't doesn't don't won't wouldn't "
    "shouldn't couldn't ain't wrong incorrect false untrue unlikely impossible unless exclude excluded excludes "
    "excluding eliminate eliminated reject rejected rule ruled instead rather than either or versus vs and/or".split()
)
_LATEX = re.compile(r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf|sf)|boxed)\s*\{([^{}]*)\}")
_SPECIAL = re.compile(r"<\|\w{1,30}\|>|</s>|</?(?:b|i|u|strong|em|p|br)\s?/?>", re.IGNORECASE)


def find_words(text: str) -> tuple[str, ...]:
    """Return the words of the text without case."""
    return tuple(_WORDS.findall(text.casefold()))


def make_lead(choices: Sequence[str]) -> re.Pattern[str]:
    """Make the pattern of all words that may stand before an answer, from the beginning of a text.

    Words of the choices are not among them.
    """
    taken = {word for choice in choices for word in find_words(choice)}
    words = "|".join(sorted((re.escape(w) for w in _LEAD_WORDS if w not in taken), key=len, reverse=True))
    # An atomic group, so that the time is linear. Python 3.11.2 reads a possessive repeat of a group wrongly.
    return re.compile(rf"[\s*_`'\"(\[]*+(?>(?:(?:{words})(?![\w'])[\s:,=>*_`'\"(\[-]*+)*)", re.IGNORECASE)


def remove_marks(text: str) -> str:
    """Remove what only decides how the text looks: Markdown, LaTeX, tags and special tokens."""
    if "\\" in text:
        text = _LATEX.sub(r"\1", text)
    if "<" in text:
        text = _SPECIAL.sub(" ", text)
    return text.replace("*", "").replace("`", "").replace("$", "").strip()
