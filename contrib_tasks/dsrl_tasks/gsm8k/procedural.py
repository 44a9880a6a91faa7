"""A small language of word problems about things that one can count. Rules write the problems and read them again.

A step changes a count, or computes the first count from groups of equal size. Levels 1 and 2 have one step and start from a
number of one digit or of two; levels 3 to 5 have two, three and four steps.
"""

from __future__ import annotations

import random
import re
from typing import Literal, NamedTuple

LEVELS = range(1, 6)


class Solved(NamedTuple):
    """What ``solve`` finds for a problem: the right answer, and the level of the problem."""

    label: str
    level: int


class Forms(NamedTuple):
    """The sentences of one split: how to start, how to change the count (by operation), and how to ask."""

    start: tuple[str, ...]
    groups: tuple[str, ...]
    change: dict[str, tuple[str, ...]]
    question: tuple[str, ...]


class Vocabulary(NamedTuple):
    """The names of persons and things of one split."""

    names: tuple[str, ...]
    things: tuple[str, ...]


GENERATOR_FORMS = Forms(
    start=("{N} has {a} {things}.", "{N} starts with {a} {things}."),
    groups=("{N} has {a} boxes with {b} {things} each.", "{N} fills {a} bags with {b} {things} each."),
    change={
        "+": ("{N} buys {b} more.", "{N} gets {b} more from a friend.", "{N} finds {b} more."),
        "-": ("{N} gives away {b}.", "{N} sells {b}.", "{N} loses {b}."),
        "*": ("A friend makes the number {b} times as large.",),
    },
    question=("How many {things} does {N} have now?", "How many {things} are there in the end?"),
)
GENERATOR = Vocabulary(
    names=("Ann", "Ben", "Cara", "Dan", "Ella", "Finn", "Gina", "Hugo", "Ida", "Jack", "Kim", "Leo"),
    things=(
        *("apples", "pens", "books", "coins", "stamps", "cards", "shells", "eggs"),
        *("balls", "cups", "roses", "toys", "beads", "nuts", "pears", "keys"),
    ),
)

DEV_FORMS = Forms(
    start=("At first {N} owns {a} {things}.",),
    groups=("At first {N} owns {a} packs of {b} {things}.",),
    change={
        "+": ("Later {N} receives another {b}.",),
        "-": ("Later {N} throws out {b}.",),
        "*": ("Later the number grows {b} times as large.",),
    },
    question=("What number of {things} does {N} own after this?",),
)
DEV = Vocabulary(
    names=("Mona", "Ned", "Olga"),
    things=("plums", "rings", "hats"),
)

TEST_FORMS = Forms(
    start=("On a shelf of {N} are {a} {things}.",),
    groups=("On {a} shelves of {N} are {b} {things} each.",),
    change={
        "+": ("Then {b} are added.",),
        "-": ("Then {b} are taken away.",),
        "*": ("Then there are {b} times as many.",),
    },
    question=("Count the {things} of {N} at the end.",),
)
TEST = Vocabulary(
    names=("Pam", "Rolf", "Sara", "Tim"),
    things=("lamps", "jars", "dolls", "maps"),
)

# Of each level: the number of steps, the largest number to add or to subtract, and the numbers to start from.
_SIZES = {
    1: (1, 9, range(2, 10)),
    2: (1, 20, range(10, 41)),
    3: (2, 9, range(2, 21)),
    4: (3, 9, range(2, 21)),
    5: (4, 9, range(2, 21)),
}


def write(rng: random.Random, level: int, passage: str) -> tuple[str, str]:
    """Write a problem of the level about a thing in the passage, if there is one. Return its input and its output."""
    return _compose(rng, level, GENERATOR, GENERATOR_FORMS, _find_things(passage))


def make_held_out_items(split: Literal["dev", "test"], n: int) -> list[tuple[str, str]]:
    """Make the first n items of a split: input and output, with balanced levels.

    Their sentences and things are never used by ``write``.
    """
    vocabulary, forms = {"dev": (DEV, DEV_FORMS), "test": (TEST, TEST_FORMS)}[split]
    rng = random.Random(f"gsm8k {split}")
    return [_compose(rng, LEVELS[i % len(LEVELS)], vocabulary, forms, ()) for i in range(n)]


# -- writing ----------------------------------------------------------------------------------------------------------


def _compose(
    rng: random.Random, level: int, vocabulary: Vocabulary, forms: Forms, anchors: tuple[str, ...]
) -> tuple[str, str]:
    steps, largest, start = _SIZES[level]
    name, things = rng.choice(vocabulary.names), rng.choice(anchors or vocabulary.things)
    thoughts: list[str] = []
    if level != 2 and rng.random() < 0.25:
        a, b = rng.randrange(2, 6), rng.randrange(2, 6)
        total = a * b
        sentences = [rng.choice(forms.groups).format(N=name, a=a, b=b, things=things)]
        thoughts.append(f"{a} * {b} = {total}")
    else:
        total = rng.choice(start)
        sentences = [rng.choice(forms.start).format(N=name, a=total, things=things)]
    while len(thoughts) < steps:
        operation = rng.choice("++--*" if 1 < total <= 10 else "++--" if total > 1 else "+")
        if operation == "*":
            b = rng.randrange(2, 4)
        elif operation == "-":
            b = rng.randrange(1, min(total, largest + 1))
        else:
            b = rng.randrange(1, largest + 1)
        result = {"+": total + b, "-": total - b, "*": total * b}[operation]
        thoughts.append(f"{total} {operation} {b} = {result}")
        sentences.append(rng.choice(forms.change[operation]).format(N=name, b=b))
        total = result
    sentences.append(rng.choice(forms.question).format(N=name, things=things))
    return " ".join(sentences), f"{'. '.join(thoughts)} #### {total}"


_WORD = re.compile(r"(?<![\w'-])[a-z]{4,12}s(?![\w'-])")
# Verbs and adverbs that look like plurals, and things that only the held-out splits may use.
_NOT_A_THING = frozenset(
    {
        *(
            "sometimes",
            "always",
            "perhaps",
            "besides",
            "towards",
            "afterwards",
            "includes",
            "causes",
            "occurs",
            "becomes",
        ),
        *("makes", "takes", "gives", "means", "remains", "contains", "appears", "depends", "needs", "helps", "shows"),
        *("leads", "boxes", "bags", "times", "does", *DEV.things, *TEST.things),
    }
)


def _find_things(passage: str) -> tuple[str, ...]:
    """Find the things of the generator in a passage. If there are none, make cards about its content words."""
    words = dict.fromkeys(_WORD.findall(passage[:4096].lower()))
    things = tuple(word for word in words if word in GENERATOR.things)
    endings = ("ss", "us", "is", "ies", "ches", "shes", "xes", "sses")
    return things or tuple(
        f"{word[:-1]} cards" for word in words if word not in _NOT_A_THING and not word.endswith(endings)
    )


# -- reading ----------------------------------------------------------------------------------------------------------

_GROUPS = re.compile(r"[A-Z][a-z]+ (?:has|fills) (\d{1,6}) (?:boxes|bags) with (\d{1,6}) ([a-z]+(?: cards)?) each")
_START = re.compile(r"[A-Z][a-z]+ (?:has|starts with) (\d{1,6}) ([a-z]+(?: cards)?)")
_MORE = re.compile(r"[A-Z][a-z]+ (?:buys|gets|finds) (\d{1,6}) more(?: from a friend)?")
_FEWER = re.compile(r"[A-Z][a-z]+ (?:gives away|sells|loses) (\d{1,6})")
_TIMES = re.compile(r"A friend makes the number (\d{1,6}) times as large")
_QUESTION = re.compile(r"How many ([a-z]+(?: cards)?) (?:does [A-Z][a-z]+ have now|are there in the end)\?")


def solve(text: str) -> Solved | None:
    """Read a problem and solve it; None if it is not in the language of ``write``."""
    sentences = text.strip().split(". ")
    first, changes, question = sentences[0], sentences[1:-1], sentences[-1]
    question_match = _QUESTION.fullmatch(question)
    groups, start = _GROUPS.fullmatch(first), _START.fullmatch(first)
    if groups:
        total, steps, thing = int(groups[1]) * int(groups[2]), 1, groups[3]
    elif start:
        total, steps, thing = int(start[1]), 0, start[2]
    else:
        return None
    steps += len(changes)
    if question_match is None or question_match[1] != thing or steps not in range(1, 5):
        return None
    for change in changes:
        if more := _MORE.fullmatch(change):
            total += int(more[1])
        elif fewer := _FEWER.fullmatch(change):
            total -= int(fewer[1])
        elif times := _TIMES.fullmatch(change):
            total *= int(times[1])
        else:
            return None
    two_digits = start is not None and int(start[1]) > 9
    return Solved(str(total), steps + 1 if steps > 1 or two_digits else 1)
