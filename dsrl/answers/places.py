"""Find the place in an output where the answer stands.

All functions are linear in the length of the output.
"""

from __future__ import annotations

import re

from dsrl.types import UNREADABLE, Answer

#: Most characters of an answer. A longer text is not an answer and would only take time.
LONGEST_ANSWER = 10_000

_THINK = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)
# `<result>` is another name of `<answer>`: models mix the two up, and the paper's own code reads both.
_TAG = re.compile(r"<\s{0,2}(/?)\s{0,2}(?:answer|result)\s{0,2}>", re.IGNORECASE)
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
# A line that only announces the answer, as in "#### Final answer:".
_HEADING = re.compile(r"[*_# ]*(?:the )?(?:final )?(?:answer|solution|result)(?: is)?[*_ ]*:?[*_# ]*", re.IGNORECASE)


def cut_thinking(output: str) -> str | None:
    """Return what follows the last thinking part; None if the output ends inside a thinking part.

    A model whose chat template opens the thinking part writes only ``</think>``.
    """
    if "<" not in output:
        return output
    last = None
    for tag in _THINK.finditer(output):
        last = tag
    if last is None:
        return output
    return output[last.end() :] if last[1] else None


def read_whole_answer(output: str) -> Answer:
    """Return the whole text without its thinking part, for a task without a form of answers; UNREADABLE if it is empty."""
    return (cut_thinking(output) or "").strip() or UNREADABLE


def find_last_tag(text: str) -> tuple[str, bool] | None:
    """Return the content of the last ``<answer>`` (or ``<result>``), and whether the tag is closed; None without a tag.

    The content of a tag that is not closed goes to the end of the text.
    """
    opening = closing = None
    for tag in _TAG.finditer(text):
        if not tag[1]:
            opening, closing = tag, None
        elif opening and not closing:
            closing = tag
    if opening is None:
        return None
    return (text[opening.end() : closing.start()], True) if closing else (text[opening.end() :], False)


def find_last_boxed(text: str) -> str | None:
    """Return the content of the last ``\\boxed{...}``; None if there is none or its brace is not closed."""
    mark = "\\boxed{"
    start = text.rfind(mark)
    if start < 0:
        return None
    start += len(mark)
    depth = 1
    for brace in _BRACE.finditer(text, start, start + LONGEST_ANSWER):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return text[start : brace.start()]
    return None


def find_after_hashes(text: str) -> tuple[str, str] | None:
    """Return the line after the last ``####`` and the line that follows it; None without ``####``.

    Empty lines do not count, nor does a line that only announces the answer ("#### Answer:").
    """
    start = text.rfind("####")
    if start < 0:
        return None
    tail = text[start + 4 :].lstrip()
    first, _, rest = tail.partition("\n")
    if len(first) <= LONGEST_ANSWER and _HEADING.fullmatch(first.strip()):
        first, _, rest = rest.lstrip().partition("\n")
    return first.strip(), rest.lstrip()[:LONGEST_ANSWER].partition("\n")[0]
