"""Long texts, cut into passages at sentence ends."""

from __future__ import annotations

import re

_SPACES = re.compile(r"\s*")
#: The end of a sentence, or an empty line. After a full stop of most scripts comes a space; East Asian ones have none.
_END = re.compile(r"[.!?…؟۔।॥][\"'”’»)\]]*(?=\s)|[。！？｡]+[」』”’）]*|\n[^\S\n]*\n")
#: A full stop after one of these does not end a sentence.
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:[A-Z]|[Dd]r|Mrs?|Ms|Prof|St|Fig|No|vs|e\.g|i\.e|al|cf|approx|Jr|Sr)\.$")


def cut_text(text: str, length: int) -> list[tuple[int, int]]:
    """Cut a text into pieces of about the same length, and return the start and the end of each in the text.

    A piece ends at the end of a sentence; if there is none in reach, at a space; if there is no space, anywhere. Between two
    pieces there is only white space.

    Args:
        text: any text.
        length: most characters of a piece, at least 4.
    """
    spans = []
    start, last = _skip_spaces(text, 0), len(text.rstrip())
    while start < last:
        rest = last - start
        if rest <= length:
            spans.append((start, last))
            break
        pieces = -(-rest // length)
        end = _find_end(text, start, start + -(-rest // pieces), length)
        spans.append((start, start + len(text[start:end].rstrip())))
        start = _skip_spaces(text, end)
    return spans


def _skip_spaces(text: str, at: int) -> int:
    spaces = _SPACES.match(text, at)
    return spaces.end() if spaces else at


def _find_end(text: str, start: int, goal: int, length: int) -> int:
    """Return the end of a piece that begins at ``start``, as near to ``goal`` as possible."""
    low, high = start + length // 4, start + length
    ends = [each.end() for each in _END.finditer(text, low, high + 1) if each.end() <= high and _is_end(text, each)]
    if ends:
        return min(ends, key=lambda end: abs(end - goal))
    space = max(text.rfind(character, low, high + 1) for character in " \n\t")
    return space if space > low else high


def _is_end(text: str, end: re.Match[str]) -> bool:
    if end.group().startswith("\n"):
        return True
    following = text[end.end() : end.end() + 8].strip()[:1]
    return not following.islower() and not _ABBREVIATION.search(text[max(0, end.start() - 10) : end.start() + 1])
