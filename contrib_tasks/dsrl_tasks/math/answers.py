"""Read a mathematical answer: find its box, read its structure, and compare two answers.

Structure (lists, tuples, intervals, sets, matrices, equations) is read here, and only single expressions inside it are
compared by math-verify, in a child process. So a list never counts for its element, nor a relation for its bound.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import Literal, NamedTuple

from dsrl_tasks.math.latex import (
    LONGEST_ANSWER,
    normalise,
    remove_degrees,
    remove_percent,
    remove_spaces,
    remove_unit,
)

Kind = Literal["number", "text", "expression", "list", "tuple", "union", "matrix", "relation"]
_DEEPEST = 12
_LONGEST_LIST = 40


class Structure(NamedTuple):
    """An answer with its parts.

    ``text`` is the canonical spelling of a leaf, the brackets of a tuple, or the operator of a relation; the rows of a
    matrix are tuples. ``value`` is the value of a number.
    """

    kind: Kind
    text: str
    items: tuple[Structure, ...] = ()
    value: Fraction | None = None

    def render(self) -> str:
        """Return the structure as text; :func:`read` reads it back."""
        parts = [item.render() for item in self.items]
        match self.kind:
            case "list":
                return ", ".join(sorted(parts))
            case "tuple":
                return f"{self.text[0]}{', '.join(parts)}{self.text[1]}"
            case "union":
                return r"\cup ".join(sorted(parts))
            case "matrix":
                rows = [" & ".join(cell.render() for cell in row.items) for row in self.items]
                return r"\begin{pmatrix} " + r" \\ ".join(rows) + r" \end{pmatrix}"
            case "relation":
                return f"{parts[0]} {self.text} {parts[1]}"
            case _:
                return self.text


# -- the box ----------------------------------------------------------------------------------------------------------

_BOX = re.compile(r"\\f?boxed(?![A-Za-z])|\\fbox(?![A-Za-z])")
# What joins two boxes to one answer: "\boxed{2} and \boxed{3}".
_JOINT = re.compile(r"[\s$.]*(?:,|;|\bor\b|\band\b)(?:[\s$]|\\text\{\s*(?:or|and)\s*\}|,|\bor\b|\band\b)*")


def find_answer(output: str) -> str | None:
    """Return the content of the last box outside the thinking; boxes that are joined by "and", "or" or a comma are a list.

    None if there is no box, if it is not closed, or if it is too long to be an answer.
    """
    output = remove_thinking(output)
    end = len(output)
    contents: list[str] = []
    while len(contents) < _LONGEST_LIST:
        start = max(output.rfind("\\boxed", 0, end), output.rfind("\\fbox", 0, end))
        box = _read_box(output, start) if start >= 0 else None
        if box is None:
            break
        content, after = box
        if contents and not _JOINT.fullmatch(output[after:end]):
            break
        contents.append(content)
        end = start
        if output[max(0, start - 40) : start].rstrip(" $\n").endswith(("{", "=")):
            break
    return ", ".join(reversed(contents)) if contents else None


def remove_thinking(output: str) -> str:
    """Return what an output says after its thinking; an unfinished thinking is removed too."""
    _, _, rest = output.rpartition("</think>")
    return rest.partition("<think>")[0]


def _read_box(output: str, start: int) -> tuple[str, int] | None:
    """Return the content of the box that starts there and the position after it."""
    match = _BOX.match(output, start)
    if match is None:
        return None
    piece = output[match.end() : match.end() + LONGEST_ANSWER + 2]
    if not piece.lstrip().startswith("{"):
        # \boxed 5
        bare = re.match(r"\s+([^\s${}\\]+)", piece)
        return (bare[1], match.end() + bare.end()) if bare else None
    depth, opened = 0, piece.index("{")
    for position in range(opened, len(piece)):
        if piece[position] in "{}" and (position == 0 or piece[position - 1] != "\\"):
            depth += 1 if piece[position] == "{" else -1
            if depth == 0:
                return piece[opened + 1 : position], match.end() + position + 1
    return None


# -- the structure ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=20_000)
def read(text: str) -> Structure | None:
    """Read an answer; None if it is empty or too long."""
    if len(text) > LONGEST_ANSWER:
        return None
    text = normalise(text)
    return _read_structure(text, 0) if text else None


def _read_structure(text: str, depth: int) -> Structure:
    text = _strip(text)
    if depth > _DEEPEST:
        return Structure("expression", text)
    number = read_number(text)
    if number is not None:
        return Structure("number", str(number), value=number)
    return (
        _read_list(text, depth)
        or _read_union(text, depth)
        or _read_relation(text, depth)
        or _read_brackets(text, depth)
        or _read_matrix(text, depth)
        or _read_sign(text, depth)
        or _read_leaf(text, depth)
    )


def _strip(text: str) -> str:
    for _ in range(_DEEPEST):
        before = text
        text = text.strip()
        text = text[:-1] if text.endswith(".") and not text.endswith("\\.") else text
        text = text[1:] if text.startswith("+") else text
        text = remove_unit(remove_percent(remove_degrees(text)))
        inner = _get_inner(text, "{", "}")
        text = inner if inner is not None else text
        if text == before:
            break
    return text


_WHOLE = r"[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+"
_DECIMAL = re.compile(rf"({_WHOLE}|)(?:\.([0-9]*)(?:\\overline\{{?([0-9]+)\}}?)?)?")
_RATIO = re.compile(rf"({_WHOLE})/({_WHOLE})")
_LATEX_RATIO = re.compile(rf"({_WHOLE})?\\frac\{{(-?)({_WHOLE})\}}\{{(-?)({_WHOLE})\}}")
_MIXED = re.compile(r"([0-9]+) ([0-9]+)/([0-9]+)")


def read_number(text: str) -> Fraction | None:
    """Return the value of a number or of a fraction of two whole numbers; None for everything else."""
    sign = -1 if text.startswith("-") else 1
    text = text.removeprefix("-").strip()
    try:
        if match := _RATIO.fullmatch(text):
            return sign * Fraction(_read_whole(match[1]), _read_whole(match[2]))
        if match := _MIXED.fullmatch(text):
            return sign * (int(match[1]) + Fraction(int(match[2]), int(match[3])))
        if match := _LATEX_RATIO.fullmatch(text):
            value = Fraction(_read_whole(match[3]), _read_whole(match[5]))
            is_negative = bool(match[2]) != bool(match[4])
            if match[1]:
                return None if match[2] or match[4] else sign * (_read_whole(match[1]) + value)
            return -sign * value if is_negative else sign * value
    except ZeroDivisionError:
        return None
    match = _DECIMAL.fullmatch(text)
    if match is None or not (match[1] or match[2] or match[3]):
        return None
    digits, period = match[2] or "", match[3] or ""
    value = Fraction(_read_whole(match[1] or "0")) + Fraction(int(digits or "0"), 10 ** len(digits))
    if period:
        value += Fraction(int(period), 10 ** len(digits) * (10 ** len(period) - 1))
    return sign * value


def _read_whole(text: str) -> int:
    return int(text.replace(",", ""))


_WORD_SEPARATOR = re.compile(
    r"\\text\{\s*,?\s*(?:or|and)\s*\}|(?<![A-Za-z\\])(?:or|and)(?![A-Za-z])|\\(?:lor|land|vee|wedge)(?![A-Za-z])|;"
)


def _read_list(text: str, depth: int) -> Structure | None:
    """Read an unordered list: parts between commas, "or" or "and", perhaps in the braces of a set."""
    inner = _get_inner(text, "\\{", "\\}")
    if inner is not None:
        if not inner.strip():
            return Structure("text", r"\emptyset")
        text = inner
    parts = [part for part in _split(_WORD_SEPARATOR.sub(",", text), ",") if part.strip()]
    if len(parts) < 2:
        return _read_structure(text, depth + 1) if inner is not None else None
    if len(parts) > _LONGEST_LIST:
        return Structure("expression", text)
    items = tuple(_read_structure(part, depth + 1) for part in parts)
    return Structure("list", "", _drop_names(items))


def _drop_names(items: tuple[Structure, ...]) -> tuple[Structure, ...]:
    """Make numbers of "x = 1, x = 2". "x = 1, y = 2" stays as it is: its order does not say which is which."""
    names = {item.items[0].text for item in items if item.kind == "relation" and item.text == "="}
    return tuple(_drop_name(item) if len(names) == 1 else item for item in items)


def _drop_name(item: Structure) -> Structure:
    if item.kind == "relation" and item.text in ("=", r"\in") and _is_name(item.items[0]):
        right = item.items[1]
        if not re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", right.render())):
            return right
    return item


_NAME = re.compile(
    r"(?:[A-Za-z]|\\(?:alpha|beta|gamma|delta|theta|phi|lambda|mu|omega|angle [A-Z]{1,3}|angle[A-Z]{1,3}))"
    r"(?:_[0-9A-Za-z]|_\{[0-9A-Za-z]+\})?'?(?:\([a-z0-9]\))?"
)


def _is_name(item: Structure) -> bool:
    """Whether a side of an equation only names what the other side is: ``x``, ``x_1``, ``\\theta``, ``f(x)``."""
    return bool(_NAME.fullmatch(item.text))


def _read_union(text: str, depth: int) -> Structure | None:
    parts = _split(text, r"\cup")
    if len(parts) < 2:
        return None
    return Structure("union", "", tuple(_read_structure(part, depth + 1) for part in parts))


_RELATIONS = (
    *(
        r"\le",
        r"\ge",
        r"\ne",
        r"\approx",
        r"\equiv",
        r"\in",
        r"\sim",
        r"\to",
        r"\rightarrow",
        r"\Rightarrow",
        r"\implies",
    ),
    *(r"\propto", r"\cong", r"\subset", "<", ">", "="),
)


def _read_relation(text: str, depth: int) -> Structure | None:
    """Read two sides with one relation. A chain of relations is one expression that equals only itself."""
    if not re.search(r"[<>=]|\\[a-zA-Z]", text):
        return None
    found = [(name, parts) for name in _RELATIONS if len(parts := _split(text, name)) > 1]
    if not found:
        return None
    name, parts = found[0]
    if len(found) > 1 or len(parts) > 2 or not parts[0].strip() or not parts[1].strip():
        return Structure("text", text)
    left, right = (_read_structure(part, depth + 1) for part in parts)
    if name in (">", r"\ge"):
        name, left, right = {">": "<", r"\ge": r"\le"}[name], right, left
    relation = Structure("relation", name, (left, right))
    return _drop_name(relation) if depth == 0 else relation


def _read_brackets(text: str, depth: int) -> Structure | None:
    """Read a tuple or an interval; round brackets around one thing are left out."""
    if not text or text[0] not in "([" or text[-1] not in ")]" or not _is_wrapped(text):
        return None
    parts = _split(text[1:-1], ",")
    brackets = text[0] + text[-1]
    if len(parts) > 1 and len(parts) <= _LONGEST_LIST:
        return Structure("tuple", brackets, tuple(_read_structure(part, depth + 1) for part in parts))
    return _read_structure(text[1:-1], depth + 1) if brackets == "()" and text[1:-1].strip() else None


_MATRIX = re.compile(r"\\begin\{([pb]?matrix)\}(.*)\\end\{\1\}", re.DOTALL)


def _read_matrix(text: str, depth: int) -> Structure | None:
    match = _MATRIX.fullmatch(text)
    if match is None or r"\begin" in match[2]:
        return None
    rows = [row for row in match[2].split(r"\\") if row.strip()]
    if not rows or match[2].count("&") + len(rows) > _LONGEST_LIST:
        return None
    return Structure(
        "matrix",
        "",
        tuple(
            Structure("tuple", "()", tuple(_read_structure(cell, depth + 1) for cell in row.split("&"))) for row in rows
        ),
    )


def _read_sign(text: str, depth: int) -> Structure | None:
    """Read "a ± b" as a list of two."""
    if text.count(r"\pm") + text.count(r"\mp") != 1:
        return None
    before, _, after = text.replace(r"\mp", r"\pm").partition(r"\pm")
    if after[:1].isalpha() or not after.strip():
        return None
    parts = (f"{before}+{after.strip()}" if before.strip() else after, f"{before}-{after.strip()}")
    return Structure("list", "", tuple(_read_structure(remove_spaces(part), depth + 1) for part in parts))


_ONLY_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]*")


def _read_leaf(text: str, depth: int) -> Structure:
    if match := _ONLY_TEXT.fullmatch(text):
        inner = match[1].strip()
        if depth <= _DEEPEST and inner:
            leaf = _read_structure(inner, depth + 1)
            return leaf._replace(kind="text") if leaf.kind == "expression" else leaf
        return Structure("text", inner)
    if _WORDS.fullmatch(text) and re.search(r"[A-Za-z]{4}| ", text):
        return Structure("text", text)
    return Structure("expression", text)


def _get_inner(text: str, opening: str, closing: str) -> str | None:
    """Return what stands between two brackets if they enclose the whole text."""
    if not text.startswith(opening) or not text.endswith(closing) or len(text) < len(opening + closing):
        return None
    return text[len(opening) : -len(closing)] if _is_wrapped(text) else None


_BRACKETS = re.compile(r"\\[{}]|[()\[\]{}]|\\begin|\\end")


def _is_wrapped(text: str) -> bool:
    """Return whether the first bracket is closed by the last one."""
    depth = 0
    for match in _BRACKETS.finditer(text):
        depth += 1 if match.group() in ("(", "[", "{", "\\{", "\\begin") else -1
        if depth == 0:
            return match.end() == len(text)
    return False


def _split(text: str, separator: str) -> list[str]:
    """Split at a separator that stands outside all brackets."""
    word = r"(?![A-Za-z])" if separator.startswith("\\") else ""
    parts, depth, start = [], 0, 0
    for match in re.finditer(rf"({_BRACKETS.pattern})|{re.escape(separator)}{word}", text):
        if match[1]:
            depth += 1 if match[1] in ("(", "[", "{", "\\{", "\\begin") else -1
        elif depth == 0:
            parts.append(text[start : match.start()])
            start = match.end()
    return [*parts, text[start:]]
