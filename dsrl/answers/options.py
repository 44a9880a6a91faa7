"""Find the options of a multiple-choice question in its input."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from dsrl.answers.characters import write_plainly

#: Only the end of a long input is searched: the options follow the passage.
_LONGEST_LIST = 20_000
_LONGEST_OPTION = 2_000

#: How a list writes the letter of an option, at the beginning of a line and inside one.
_STYLES = ("[(\\[]{}[)\\]]", "{}\\)", "{}\\.", "{}:")
_LINE_START = r"^[ \t]*(?:[-*+][ \t]+)?[*_]{0,2}"
_INLINE_START = r"(?<![^\s,;.:?!)])[*_]{0,2}"
_END_OF_LIST = re.compile(r"\n[ \t]{0,20}\n|\b(?:final )?answer[ \t]?:|\n(?=\s{0,20}question\b)", re.IGNORECASE)


@lru_cache(maxsize=128)
def find_options(text: str, letters: tuple[str, ...]) -> Mapping[str, str]:
    """Return letter -> comparable text of its option (:func:`make_comparable`); empty if the text has no list of options.

    Args:
        text: the input of a question. Lists by line or inside a line are read: ``A. ..``, ``A) ..``, ``(A) ..``, ``A: ..``.
        letters: the letters of the options, in their order. A list may have fewer options, from the first on.
    """
    text = write_plainly(text[-_LONGEST_LIST:])
    for start in (_LINE_START, _INLINE_START):
        for style in _STYLES:
            options = _find_list(text, letters, start, style)
            if options:
                return options
    return {}


def make_comparable(text: str) -> str:
    """Return the text of an option without case, marks at its ends and repeated spaces."""
    return " ".join(text.casefold().split()).strip(" .,;:*_`'\"")


def _find_list(text: str, letters: tuple[str, ...], start: str, style: str) -> dict[str, str]:
    letter = f"({'|'.join(map(re.escape, letters))})"
    pattern = re.compile(start + style.format(letter) + r"[*_]{0,2}(?=\s|\w|[-+$\\(\"'])", re.MULTILINE)
    marks = list(pattern.finditer(text))
    last = next((i for i in range(len(letters) - 1, 0, -1) if any(mark[1] == letters[i] for mark in marks)), 0)
    # Backwards from the last letter, so that a name such as "Vitamin A." before the list is passed over.
    found: list[re.Match[str]] = []
    for mark in reversed(marks):
        if last - len(found) >= 0 and mark[1] == letters[last - len(found)]:
            found.append(mark)
    if last < 1 or len(found) != last + 1:
        return {}
    found.reverse()
    ends = [mark.start() for mark in found[1:]] + [len(text)]
    contents = [text[mark.end() : end] for mark, end in zip(found, ends, strict=True)]
    end = _END_OF_LIST.search(contents[-1])
    if end:
        contents[-1] = contents[-1][: end.start()]
    if start == _LINE_START:
        contents[-1] = contents[-1].strip().partition("\n")[0]
    options = {mark[1]: make_comparable(content) for mark, content in zip(found, contents, strict=True)}
    return options if all(0 < len(option) <= _LONGEST_OPTION for option in options.values()) else {}
