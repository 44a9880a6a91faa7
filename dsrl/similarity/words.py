"""Texts in normal form: the words that are left when letter case, white space, punctuation and Unicode forms do not count.

Numbers and the signs between them stay, because ``12 / 3`` and ``12 - 3`` are different questions. Scripts without spaces
between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan) are split into characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

#: Signs that count only beside numbers and single letters; elsewhere they are punctuation.
_OPERATORS = frozenset("-*/^")
#: Blocks of scripts that are written without spaces and whose characters are small parts of words.
_MARKED_BLOCKS = ((0x0E00, 0x0F00), (0x0F00, 0x1000), (0x1000, 0x10A0), (0x1780, 0x1800))
_WORDLIKE = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_APOSTROPHE = re.compile(r"(?<=[^\W\d_])'(?=[^\W\d_])")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_NO_DECIMAL_POINT = re.compile(r"(?<!\d)\.|\.(?!\d)")
_OPERATOR = re.compile(r"[-*/^]")
_LINE = re.compile(r"[-*/^]{3,}")
_DIGIT = re.compile(r"\d")
_GAP_IN_WORD = re.compile(r"(?<!\d) | (?!\d)")


class _Replacements(dict[int, str]):
    """What becomes of each character; filled in as characters are met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if character in ".,*/^'":
            replacement = character
        elif character in "\u2019\u02bc\u02b9\uff07":
            replacement = "'"
        elif character in "\u2014\u2015":
            replacement = " "  # a long dash is never a minus
        elif category == "Pd" or character == "\u2212":
            replacement = "-"
        elif category[0] in "LNM":
            replacement = character
        elif category == "Cf":
            replacement = ""  # invisible: a soft hyphen, a zero-width space
        else:
            replacement = f" {character} " if category == "Sm" else " "
        self[code] = replacement
        return replacement


_REPLACEMENTS = _Replacements()


def split_words(text: str) -> list[str]:
    """Return the words of a text in normal form (NFKC, folded case); empty if it has none."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(_REPLACEMENTS)
    if not text.isascii():
        text = _get_characters().sub(r" \g<0> ", text)
    if "'" in text:
        text = _APOSTROPHE.sub("", text).replace("'", " ")
    if "," in text:
        text = _THOUSANDS.sub("", text).replace(",", " ")
    if "." in text:
        text = _NO_DECIMAL_POINT.sub(" ", text)
    if _OPERATOR.search(text):
        text = _LINE.sub(" ", text)
        return _drop_hyphens(_OPERATOR.sub(r" \g<0> ", text).split())
    return text.split()


def join_words(words: Sequence[str]) -> str:
    """Return words as one text that does not depend on how they were separated; only digits stay apart."""
    text = " ".join(words)
    return _GAP_IN_WORD.sub("", text) if _DIGIT.search(text) else text.replace(" ", "")


@lru_cache(maxsize=50_000)
def is_character(word: str) -> bool:
    """Return whether a word is a single character of a script without spaces."""
    return word[0] >= "\u0e00" and _get_characters().fullmatch(word) is not None


def _drop_hyphens(words: list[str]) -> list[str]:
    """Leave out the signs that do not stand between two operands; a minus may also stand before a number."""
    follows_operand = _find_operands_before(words)
    kept: list[str] = []
    right = ""  # the operand that follows: a number, a single letter, or nothing
    for i in range(len(words) - 1, -1, -1):
        word = words[i]
        if word not in _OPERATORS:
            right = word if word[0].isdigit() or (len(word) == 1 and word.isalpha()) else ""
        elif not right or not (follows_operand[i] or (word == "-" and right[0].isdigit())):
            continue
        kept.append(word)
    return kept[::-1]


def _find_operands_before(words: Sequence[str]) -> list[bool]:
    """Return for each word whether the last word before it that is no sign is an operand: a number or a single letter."""
    found, is_operand = [], False
    for word in words:
        found.append(is_operand)
        if word not in _OPERATORS:
            is_operand = word[-1].isdigit() or len(word) == 1
    return found


@lru_cache(maxsize=1)
def _get_characters() -> re.Pattern[str]:
    """Return the pattern of one character of a script without spaces, with its vowel signs and accents."""
    codes = [code for first, end in _MARKED_BLOCKS for code in range(first, end)]
    marks = "".join(re.escape(chr(code)) for code in codes if unicodedata.category(chr(code))[0] == "M")
    letters = "".join(re.escape(chr(code)) for code in codes if unicodedata.category(chr(code))[0] == "L")
    return re.compile(f"[{_WORDLIKE}]|[{letters}][{marks}]*")
