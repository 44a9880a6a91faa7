"""Compare two answers that :mod:`dsrl_tasks.math.answers` has read.

Numbers are compared exactly here. Single expressions go to math-verify in a child process (:class:`dsrl.Worker`): some never
end, and its own time limit works in the main thread only.
"""

from __future__ import annotations

import re
from functools import lru_cache

from dsrl import Worker, WorkerError
from dsrl_tasks.math.answers import Structure, read

#: Seconds of CPU time, and memory, that the comparison of two expressions may take.
SECONDS, MEMORY_MB = 2.0, 512
_LONGEST_EXPRESSION = 300
#: Parts of two lists that are compared each with each; a larger number must agree in spelling.
_MOST_OPEN_PARTS = 6

_worker: Worker[[str, str], bool] = Worker(
    "dsrl_tasks.math.expressions:are_equal", seconds=SECONDS, memory_mb=MEMORY_MB
)


def are_equal(prediction: str, label: str) -> bool:
    """Return whether two answers mean the same. What cannot be decided within the limits is not equal."""
    left, right = read(prediction), read(label)
    return left is not None and right is not None and _match(left, right)


def _match(left: Structure, right: Structure) -> bool:
    """Return whether a prediction (left) is the label (right)."""
    if left.render().casefold() == right.render().casefold():
        return True
    match (left.kind, right.kind):
        case ("list", "list") | ("union", "union"):
            return _match_unordered(left.items, right.items)
        case ("tuple", "tuple") | ("matrix", "matrix"):
            return left.text == right.text and _match_in_order(left.items, right.items)
        case ("relation", "relation"):
            return _match_relations(left, right)
        case ("relation", "expression") if left.text == "=":
            return _is_variable(left.items[0]) and _match(left.items[1], right)
        case ("expression", "relation") if right.text == "=":
            return _is_variable(right.items[0]) and _match(left, right.items[1])
        case ("number", "expression") | ("expression", "expression"):
            return _match_expressions(left.text, right.text)
    # A number as label has a number as answer: a computation that has this value is the question, not the answer.
    return False


def _is_variable(item: Structure) -> bool:
    return bool(re.fullmatch(r"[A-Za-z](?:\([a-z]\))?", item.text))


def _match_in_order(left: tuple[Structure, ...], right: tuple[Structure, ...]) -> bool:
    return len(left) == len(right) and all(_match(a, b) for a, b in zip(left, right, strict=True))


def _match_unordered(left: tuple[Structure, ...], right: tuple[Structure, ...]) -> bool:
    if len(left) != len(right):
        return False
    open_left, open_right = list(left), {}
    for number, item in enumerate(right):
        spelling = item.render().casefold()
        twin = next((other for other in open_left if other.render().casefold() == spelling), None)
        if twin is None:
            open_right[number] = item
        else:
            open_left.remove(twin)
    if len(open_left) > _MOST_OPEN_PARTS:
        return False
    for item in open_left:
        partner = next((number for number, other in open_right.items() if _match(item, other)), None)
        if partner is None:
            return False
        del open_right[partner]
    return True


def _match_relations(left: Structure, right: Structure) -> bool:
    if left.text != right.text:
        return False
    if _match_in_order(left.items, right.items):
        return True
    if left.text in ("=", r"\ne") and _match_in_order(left.items[::-1], right.items):
        return True
    return left.text in ("=", "<", r"\le") and _match_expressions(left.render(), right.render())


_COMMANDS = (
    "frac|sqrt|pi|cdot|times|div|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|log|ln|exp|binom|infty|alpha|beta|gamma|delta|"
    "theta|phi|lambda|mu|omega|le"
)
_ALLOWED = re.compile(rf"(?:\\(?:{_COMMANDS})(?![A-Za-z])|[0-9A-Za-z.+\-*/^_(){{}}\[\]!|=< ])+")
# A number with a base, two numbers side by side, a word: math-verify reads another number, or a product of letters.
_REFUSED = re.compile(r"[0-9)}]_|[0-9] [0-9]|\.[^0-9]|(?<![\\A-Za-z])[A-Za-z]{4,}|==|[a-z] [a-z]+ [a-z]")


def _match_expressions(left: str, right: str) -> bool:
    for text in (left, right):
        if len(text) > _LONGEST_EXPRESSION or not _ALLOWED.fullmatch(text) or _REFUSED.search(text):
            return False
    return _ask_worker(left, right)


@lru_cache(maxsize=20_000)
def _ask_worker(left: str, right: str) -> bool:
    try:
        return _worker.call(left, right)
    except WorkerError:
        return False
