"""Read queries and inputs as text; nothing is executed here."""

from __future__ import annotations

import re
from typing import NamedTuple

#: Most characters of a query; a longer one is no answer.
LONGEST_QUERY = 10_000
# String, quoted name, comment, space, number, name, or any other character. Each alternative takes its end with it.
# Atomic groups, because Python 3.11.2 reads a possessive repeat of a group wrongly.
_TOKEN = re.compile(
    r"(?P<string>'(?>(?:[^']++|'')*)'?)|(?P<name>\"[^\"]*\"?|`[^`]*`?|\[[^\]]*\]?)|(?P<comment>--[^\n]*|/\*(?>(?:(?!\*/).)*)(?:\*/)?)|"
    r"(?P<space>\s+)|(?P<word>[^\W\d]\w*)|(?P<number>\d+(?:\.\d+)?)|(?P<other>.)",
    re.DOTALL,
)
_FENCE = re.compile(r"```[a-zA-Z]*\s")


def find_query(output: str) -> str | None:
    """Return the query in the last ``<answer>`` tag after the thinking, perhaps in a code block; None if there is none."""
    end = output.rfind("</answer>")
    start = output.rfind("<answer>", 0, end) if end >= 0 else -1
    if (
        start < 0
        or "</think>" in output[end:]
        or output.rfind("<think>", 0, start) > output.rfind("</think>", 0, start)
    ):
        return None
    return read_query(output[start + len("<answer>") : end])


def read_query(text: str) -> str | None:
    """Return a query in one spelling; None if the text is no query.

    Spaces and comments outside quotes become one space each, and a semicolon at the end is left out.
    """
    if len(text) > 2 * LONGEST_QUERY:
        return None
    text = text.strip()
    if fence := _FENCE.match(text):
        inside, closed, rest = text[fence.end() :].partition("```")
        if not closed or rest.strip():
            return None
        text = inside
    pieces: list[str] = []
    for match in _TOKEN.finditer(text):
        piece = " " if match.lastgroup in ("comment", "space") else match.group()
        if piece != " " or pieces[-1:] != [" "]:
            pieces.append(piece)
    query = "".join(pieces).strip().rstrip("; ")
    is_query = query[:7].upper().startswith(("SELECT ", "SELECT*", "SELECT(", "SELECT'", 'SELECT"', "WITH "))
    return query if is_query and len(query) <= LONGEST_QUERY else None


def has_order(query: str) -> bool:
    """Return whether the outermost statement has an ORDER BY, so that the order of the rows counts."""
    depth, before = 0, ""
    for match in _TOKEN.finditer(query):
        token = match.group().upper()
        if match.lastgroup in ("space", "comment"):
            continue
        depth += {"(": 1, ")": -1}.get(token, 0)
        if depth == 0 and before == "ORDER" and token == "BY":
            return True
        before = token
    return False


class Literals(NamedTuple):
    """The constants of a query."""

    numbers: tuple[float | int, ...]
    strings: tuple[str, ...]


def find_literals(query: str) -> Literals:
    """Return the numbers and the strings that a query names."""
    numbers: dict[float | int, None] = {}
    strings: dict[str, None] = {}
    for match in _TOKEN.finditer(query):
        token = match.group()
        if match.lastgroup == "number" and len(token) < 16:
            numbers[float(token) if "." in token else int(token)] = None
        # SQLite reads "..." as a string if no column has the name.
        elif (match.lastgroup == "string" or token.startswith('"')) and 1 < len(token) < 100:
            strings[token[1:-1].replace("''", "'").strip("%")] = None
    return Literals(tuple(numbers)[:20], tuple(strings)[:20])


class Question(NamedTuple):
    """An input: the name of a database or none, the statements that make its tables, and the question."""

    database: str
    schema: str
    text: str


_DATABASE = re.compile(r"\s*Database:[ \t]*([^\n]{1,200})(?:\n|$)")


def make_input(schema: str, question: str, database: str = "") -> str:
    """Write an input; :func:`read_input` reads it."""
    first = f"Database: {database}\n" if database else ""
    return f"{first}Schema:\n{schema.strip()}\nQuestion: {question.strip()}"


def read_input(text: str) -> Question:
    """Read an input; what is missing is empty."""
    match = _DATABASE.match(text)
    rest = text[match.end() :] if match else text
    before, mark, question = rest.rpartition("Question:")
    if not mark:
        before, question = question, ""
    _, _, schema = before.rpartition("Schema:")
    return Question(match[1].strip() if match else "", schema.strip(), question.strip())
