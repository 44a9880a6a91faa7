"""Read which of several choices an answer names.

An answer counts if it gives one choice. A choice that is denied, two choices, and the list of choices copied back are none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from dsrl.answers.characters import write_plainly
from dsrl.answers.letters import read_letter
from dsrl.answers.options import find_options
from dsrl.answers.places import LONGEST_ANSWER
from dsrl.answers.wording import (
    CORRECTION,
    DENIALS,
    MARKS,
    REASON,
    find_words,
    make_lead,
    remove_marks,
)
from dsrl.types import UNREADABLE, Answer

#: Choices that are also words of other sentences: they count only where an answer stands.
_COMMON_WORDS = frozenset({"yes", "no", "true", "false"})
_SUBJECT = re.compile(r"\s+(?:it|its|they|the|he|she|this|that|there|you|we|i)\b", re.IGNORECASE)
_NOT_AN_ANSWER = re.compile(r"[^.,;:!\n(-]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Reader:
    """What is prepared once for some choices.

    Attributes:
        bare: comparable text of a choice -> the choice.
        names: finds the names of choices in a text, the longest first; None if no choice has letters.
        lead: the words that may stand before an answer.
        are_letters: whether every choice is a single character.
    """

    choices: tuple[str, ...]
    bare: dict[str, str]
    names: re.Pattern[str] | None
    lead: re.Pattern[str]
    are_letters: bool


@lru_cache(maxsize=256)
def _prepare(choices: tuple[str, ...]) -> _Reader:
    bare = {_strip(choice): choice for choice in reversed(choices)} | {c.casefold(): c for c in reversed(choices)}
    bare.pop("", None)
    named = {r"[\W_]+".join(map(re.escape, find_words(choice))): choice for choice in choices if find_words(choice)}
    longest_first = sorted(named, key=len, reverse=True)
    names = re.compile(rf"(?<![^\W_])(?:{'|'.join(longest_first)})(?![^\W_])", re.IGNORECASE) if named else None
    return _Reader(choices, bare, names, make_lead(choices), all(len(choice) == 1 for choice in choices))


def read_choice(text: str, choices: tuple[str, ...], input: str = "") -> Answer:
    """Return the choice that the text gives; ``UNREADABLE`` if it gives none or more than one.

    Args:
        text: the answer of a model.
        choices: the choices in canonical spelling. If all have one character, they are the letters of options.
        input: the input, in which the options of the letters are looked for.
    """
    reader = _prepare(choices)
    if len(text) > LONGEST_ANSWER:
        return UNREADABLE
    choice = reader.bare.get(_strip(text))
    if choice is None and not text.isascii():
        text = write_plainly(text)
        choice = reader.bare.get(_strip(text))
    if choice is not None:
        return choice
    text = remove_marks(text)
    choice = reader.bare.get(_strip(text))
    if choice is not None or not text:
        return choice or UNREADABLE
    if reader.are_letters:
        options = find_options(input, choices) if input else {}
        return read_letter(text, choices, options, reader.lead)
    return _read_name(text, reader)


def read_bare_choice(text: str, choices: Sequence[str]) -> Answer:
    """Return the choice if the text is nothing but its name; otherwise ``UNREADABLE``."""
    if len(text) > LONGEST_ANSWER:
        return UNREADABLE
    return _prepare(tuple(choices)).bare.get(_strip(write_plainly(text)), UNREADABLE)


def _strip(text: str) -> str:
    return " ".join(text.strip(MARKS).casefold().split()) or text.strip().casefold()


def _read_name(text: str, reader: _Reader) -> Answer:
    if reader.names is None:
        return UNREADABLE
    lead = reader.lead.match(text)
    first = reader.names.match(text, lead.end() if lead else 0)
    if first and _get_choice(first, reader).casefold() in _COMMON_WORDS:
        return _read_common_word(text, first, reader)
    reason = REASON.search(text)
    head = text[: reason.start()] if reason else text
    found = list(reader.names.finditer(head))
    if not found and reason:
        head, found = text, list(reader.names.finditer(text))
    named = {_get_choice(match, reader) for match in found}
    if len(named) != 1:
        return UNREADABLE
    choice = named.pop()
    others = find_words(reader.names.sub(" ", head))
    if choice.casefold() in _COMMON_WORDS or not DENIALS.isdisjoint(others) or CORRECTION.search(text):
        return UNREADABLE
    return choice


def _read_common_word(text: str, first: re.Match[str], reader: _Reader) -> Answer:
    """Read an answer that begins with a choice such as ``no``. "No limit" and "no way to know" are not the answer No."""
    assert reader.names is not None
    choice, rest = _get_choice(first, reader), text[first.end() :]
    reason = REASON.match(rest.lstrip(" ,;:-"))
    if rest.strip(MARKS) and not reason and _NOT_AN_ANSWER.match(rest.lstrip(" ")) and not _SUBJECT.match(rest):
        return UNREADABLE
    if CORRECTION.search(rest):
        return UNREADABLE
    for other in reader.names.finditer(rest):
        before, after = rest[: other.start()].rstrip(), rest[other.end() :].lstrip()
        stands_alone = not before or before[-1] in ".,;:!?(-/&|" or not after or after[0] in ".,;:!?)-/&|"
        joined = re.search(r"\b(?:and|or)\Z", before)
        if _get_choice(other, reader) != choice and (stands_alone or joined):
            return UNREADABLE
    return choice


def _get_choice(match: re.Match[str], reader: _Reader) -> str:
    words = find_words(match[0])
    return next(choice for choice in reader.choices if find_words(choice) == words)
