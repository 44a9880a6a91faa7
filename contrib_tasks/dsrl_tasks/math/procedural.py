"""A small language of problems from four domains. Rules write the problems and read them again.

The domains are algebra, counting and probability, number theory, and prealgebra. Each level has kinds of problems of two
of them: level 1 is one operation, level 2 undoes one, level 3 has two steps, level 4 asks for a fraction or for three
operations, level 5 needs both sides of an equation or three groups.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import permutations
from typing import Literal, NamedTuple

LEVELS = range(1, 6)


class Solved(NamedTuple):
    """What ``solve`` finds for a problem: the right answer, and the level of the problem."""

    label: str
    level: int


class Kind(NamedTuple):
    """A kind of problem: its domain and level, how its numbers are drawn, and how they lead to thoughts and an answer."""

    domain: str
    level: int
    draw: Callable[[random.Random], tuple[int, ...]]
    work: Callable[..., tuple[str, str]]


def _fraction(top: int, bottom: int) -> str:
    value = Fraction(top, bottom)
    return str(value) if value.denominator == 1 else rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def _draw_sum(rng: random.Random) -> tuple[int, ...]:
    return rng.randrange(2, 40), rng.randrange(2, 40)


def _work_sum(a: int, b: int) -> tuple[str, str]:
    return f"{a} + {b} = {a + b}", str(a + b)


def _draw_pairs(rng: random.Random) -> tuple[int, ...]:
    return rng.randrange(2, 10), rng.randrange(2, 10)


def _work_pairs(a: int, b: int) -> tuple[str, str]:
    return f"{a} * {b} = {a * b}", str(a * b)


def _draw_remainder(rng: random.Random) -> tuple[int, ...]:
    return rng.randrange(10, 80), rng.randrange(3, 10)


def _work_remainder(a: int, b: int) -> tuple[str, str]:
    multiple = a // b * b
    return f"{a // b} * {b} = {multiple}. {a} - {multiple} = {a % b}", str(a % b)


def _draw_difference(rng: random.Random) -> tuple[int, ...]:
    b = rng.randrange(2, 30)
    return b, b + rng.randrange(1, 30)


def _work_difference(b: int, c: int) -> tuple[str, str]:
    return f"{c} - {b} = {c - b}", str(c - b)


def _draw_linear(rng: random.Random) -> tuple[int, ...]:
    a, b, x = rng.randrange(2, 10), rng.randrange(1, 20), rng.randrange(1, 10)
    return a, b, a * x + b


def _work_linear(a: int, b: int, c: int) -> tuple[str, str]:
    return f"{c} - {b} = {c - b}. {c - b} / {a} = {_fraction(c - b, a)}", _fraction(c - b, a)


def _draw_divisor(rng: random.Random) -> tuple[int, ...]:
    divisor = rng.randrange(2, 12)
    a, b = rng.sample(range(1, 10), 2)
    return divisor * a, divisor * b


def _work_divisor(a: int, b: int) -> tuple[str, str]:
    steps = [f"{a}, {b}"]
    while b:
        a, b = b, a % b
        steps.append(f"{a}, {b}")
    return ". ".join(steps), str(a)


def _draw_share(rng: random.Random) -> tuple[int, ...]:
    return rng.randrange(1, 10), rng.randrange(1, 10)


def _work_share(a: int, b: int) -> tuple[str, str]:
    return f"{a} + {b} = {a + b}. {a} / {a + b} = {_fraction(a, a + b)}", _fraction(a, a + b)


def _draw_mixed(rng: random.Random) -> tuple[int, ...]:
    return rng.randrange(2, 10), rng.randrange(2, 10), rng.randrange(2, 20), rng.randrange(1, 5)


def _work_mixed(a: int, b: int, c: int, d: int) -> tuple[str, str]:
    product, total = a * b, a * b + c
    return f"{a} * {b} = {product}. {product} + {c} = {total}. {total} - {d} = {total - d}", str(total - d)


def _draw_both_sides(rng: random.Random) -> tuple[int, ...]:
    c, x, b = rng.randrange(1, 5), rng.randrange(1, 10), rng.randrange(1, 10)
    a = c + rng.randrange(2, 6)
    return a, b, c, (a - c) * x + b


def _work_both_sides(a: int, b: int, c: int, d: int) -> tuple[str, str]:
    answer = _fraction(d - b, a - c)
    return f"{a} - {c} = {a - c}. {d} - {b} = {d - b}. {d - b} / {a - c} = {answer}", answer


def _draw_three(rng: random.Random) -> tuple[int, ...]:
    return rng.randrange(1, 8), rng.randrange(1, 8), rng.randrange(1, 8)


def _work_three(a: int, b: int, c: int) -> tuple[str, str]:
    total, others = a + b + c, b + c
    return (
        f"{a} + {b} + {c} = {total}. {total} - {a} = {others}. {others} / {total} = {_fraction(others, total)}",
        _fraction(others, total),
    )


PREALGEBRA, NUMBERS, ALGEBRA, COUNTING = "prealgebra", "number theory", "algebra", "counting and probability"
KINDS: Mapping[str, Kind] = {
    "sum": Kind(PREALGEBRA, 1, _draw_sum, _work_sum),
    "pairs": Kind(COUNTING, 1, _draw_pairs, _work_pairs),
    "remainder": Kind(NUMBERS, 2, _draw_remainder, _work_remainder),
    "difference": Kind(ALGEBRA, 2, _draw_difference, _work_difference),
    "linear": Kind(ALGEBRA, 3, _draw_linear, _work_linear),
    "divisor": Kind(NUMBERS, 3, _draw_divisor, _work_divisor),
    "share": Kind(COUNTING, 4, _draw_share, _work_share),
    "mixed": Kind(PREALGEBRA, 4, _draw_mixed, _work_mixed),
    "both sides": Kind(ALGEBRA, 5, _draw_both_sides, _work_both_sides),
    "three": Kind(COUNTING, 5, _draw_three, _work_three),
}
#: The domains that have rules.
RULED_DOMAINS = frozenset(kind.domain for kind in KINDS.values())
#: The domains of held-out items, which take the kinds in turn.
HELD_OUT_DOMAINS = tuple(kind.domain for kind in KINDS.values())

Forms = Mapping[str, tuple[str, ...]]
#: Two colours, in both orders.
_COLOURS = tuple(permutations(("red", "blue", "green"), 2))
#: A kind whose numbers are few has more sentences, so that a thousand samples hardly repeat a problem.
GENERATOR_FORMS: Forms = {
    "sum": (
        "Compute {0} + {1}.",
        "Compute the sum of {0} and {1}.",
        "Find the sum of {0} and {1}.",
        "What is the sum of {0} and {1}?",
    ),
    "pairs": tuple(
        f"There are {{0}} {one} {{t}} and {{1}} {other} {{t}}. How many ways are there to choose one of each colour?"
        for one, other in _COLOURS
    ),
    "remainder": (
        "What is the remainder when {0} is divided by {1}?",
        "What is the remainder of {0} divided by {1}?",
        "Find the remainder of {0} divided by {1}.",
        "Find the remainder when {0} is divided by {1}.",
        "Compute the remainder of {0} divided by {1}.",
        "Compute the remainder when {0} is divided by {1}.",
    ),
    "difference": (
        "Solve x + {0} = {1}.",
        "Find x if x + {0} = {1}.",
        "Compute x if x + {0} = {1}.",
        "What is x if x + {0} = {1}?",
    ),
    "linear": (
        "Solve {0}x + {1} = {2}.",
        "Find x if {0}x + {1} = {2}.",
        "Compute x if {0}x + {1} = {2}.",
        "What is x if {0}x + {1} = {2}?",
    ),
    "divisor": (
        "What is the greatest common divisor of {0} and {1}?",
        "Find the greatest common divisor of {0} and {1}.",
        "Compute the greatest common divisor of {0} and {1}.",
        "Which greatest common divisor do {0} and {1} have?",
    ),
    "share": tuple(
        f"A bag holds {{0}} {one} {{t}} and {{1}} {other} {{t}}. What is the probability to draw a {one} one?"
        for one, other in _COLOURS
    ),
    "mixed": ("Compute {0} * {1} + {2} - {3}.", "Find {0} * {1} + {2} - {3}.", "What is {0} * {1} + {2} - {3}?"),
    "both sides": (
        "Solve {0}x + {1} = {2}x + {3}.",
        "Find x if {0}x + {1} = {2}x + {3}.",
        "Compute x if {0}x + {1} = {2}x + {3}.",
        "What is x if {0}x + {1} = {2}x + {3}?",
    ),
    "three": ("A bag holds {0} red, {1} blue and {2} green {t}. What is the probability not to draw a red one?",),
}
DEV_FORMS: Forms = {
    "sum": ("Add {0} and {1}.",),
    "pairs": ("A shop sells {0} large {t} and {1} small {t}. Count the ways to take one large and one small.",),
    "remainder": ("What is left over when {0} is split by {1}?",),
    "difference": ("For which x is x + {0} = {1}?",),
    "linear": ("For which x is {0}x + {1} = {2}?",),
    "divisor": ("Name the largest number that divides {0} and {1}.",),
    "share": ("A drawer has {0} large {t} and {1} small {t}. How likely is it to pick a large one?",),
    "mixed": ("Work out {0} * {1} + {2} - {3}.",),
    "both sides": ("For which x is {0}x + {1} = {2}x + {3}?",),
    "three": ("A drawer has {0} large, {1} small and {2} flat {t}. How likely is it not to pick a large one?",),
}
TEST_FORMS: Forms = {
    "sum": ("Give the value of {0} + {1}.",),
    "pairs": ("In how many ways can one old and one new be taken from {0} old {t} and {1} new {t}?",),
    "remainder": ("Give the remainder if one divides {0} by {1}.",),
    "difference": ("The equation is x + {0} = {1}. Give x.",),
    "linear": ("The equation is {0}x + {1} = {2}. Give x.",),
    "divisor": ("Give the largest common divisor of {0} and {1}.",),
    "share": ("Of some {t}, {0} are old and {1} are new. With what probability is one taken blindly an old one?",),
    "mixed": ("Give the value of {0} * {1} + {2} - {3}.",),
    "both sides": ("The equation is {0}x + {1} = {2}x + {3}. Give x.",),
    "three": ("Of some {t}, {0} are old, {1} new and {2} lost. With what probability is one taken blindly not old?",),
}
THINGS = (
    *("apples", "pens", "books", "coins", "stamps", "cards", "shells", "eggs"),
    *("balls", "cups", "roses", "toys", "beads", "nuts", "pears", "keys"),
)
DEV_THINGS = ("plums", "rings", "hats")
TEST_THINGS = ("lamps", "jars", "dolls", "maps")
# Words of a passage that point to a domain.
_HINTS = {
    PREALGEBRA: ("sum", "product", "arithmetic", "addition", "multiplication"),
    NUMBERS: ("divisor", "divisors", "remainder", "divisible", "prime", "integer", "integers", "number theory"),
    ALGEBRA: ("algebra", "equation", "equations", "unknown", "variable", "variables", "linear"),
    COUNTING: ("probability", "chance", "random", "combinations", "counting", "outcomes"),
}


def write(rng: random.Random, level: int, passage: str) -> tuple[str, str]:
    """Write a problem of the level. Return its input and its output.

    Its domain and its things are those of the passage, if the passage names any.
    """
    return write_problem(rng, choose_kind(rng, level, passage), passage)


def choose_kind(rng: random.Random, level: int, passage: str, domain: str = "") -> str:
    """Choose a kind of problems.

    Args:
        rng: decides among the kinds that fit.
        level: the level of the problem.
        passage: it decides the domain if it names one, unless ``domain`` does.
        domain: one of :data:`RULED_DOMAINS`; the level is then the nearest one that this domain has. Another text is
            ignored.
    """
    if domain in RULED_DOMAINS:
        names = [name for name, kind in KINDS.items() if kind.domain == domain]
        nearest = min((KINDS[name].level for name in names), key=lambda own: (abs(own - level), own))
        return rng.choice([name for name in names if KINDS[name].level == nearest])
    words = _find_words(passage)
    hinted = [own for own, hints in _HINTS.items() if words & set(hints)]
    names = [name for name, kind in KINDS.items() if kind.level == level]
    return rng.choice([name for name in names if KINDS[name].domain in hinted] or names)


def write_problem(rng: random.Random, name: str, passage: str) -> tuple[str, str]:
    """Write a problem of a kind, with the things of the passage, if it names any. Return its input and its output."""
    words = _find_words(passage)
    return _compose(rng, name, GENERATOR_FORMS, [thing for thing in THINGS if thing in words] or THINGS)


def _find_words(passage: str) -> set[str]:
    return set(re.findall(r"[a-z]+", passage[:4096].lower()))


def make_held_out_items(split: Literal["dev", "test"], n: int) -> list[tuple[str, str]]:
    """Make the first n items of a split: input and output, with balanced levels and kinds.

    Their sentences and things are never used by ``write``.
    """
    forms, things = {"dev": (DEV_FORMS, DEV_THINGS), "test": (TEST_FORMS, TEST_THINGS)}[split]
    rng, names = random.Random(f"math {split}"), list(KINDS)
    return [_compose(rng, names[i % len(names)], forms, things) for i in range(n)]


def _compose(rng: random.Random, name: str, forms: Forms, things: list[str] | tuple[str, ...]) -> tuple[str, str]:
    numbers = KINDS[name].draw(rng)
    text = rng.choice(forms[name]).format(*numbers, t=rng.choice(things))
    thoughts, answer = KINDS[name].work(*numbers)
    return text, rf"{thoughts}. \boxed{{{answer}}}"


# -- reading ----------------------------------------------------------------------------------------------------------


def _make_pattern(form: str) -> re.Pattern[str]:
    pattern = re.escape(form).replace(r"\{t\}", f"(?:{'|'.join(THINGS)})")
    return re.compile(re.sub(r"\\\{(\d)\\\}", r"(?P<n\1>[0-9]{1,6})", pattern))


_PATTERNS = tuple((name, _make_pattern(form)) for name, forms in GENERATOR_FORMS.items() for form in forms)


def solve(text: str) -> Solved | None:
    """Read a problem and solve it; None if it is not in the language of ``write``."""
    for name, pattern in _PATTERNS:
        match = pattern.fullmatch(text.strip())
        if match:
            kind = KINDS[name]
            try:
                _, answer = kind.work(*(int(number) for number in match.groups()))
            except ZeroDivisionError:
                return None
            return Solved(answer, kind.level)
    return None
