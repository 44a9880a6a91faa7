"""A small language of deductions. Rules write its questions and read them again.

A question is about symptoms, in one of two ways:

* conditions: rules say that who has one symptom has another one too, and facts say what the patient has or does not have.
  One of four symptoms follows: the patient certainly has it, or certainly does not have it;
* an order: sentences say which of two symptoms began earlier. One of four symptoms began first, last, or next to these.

Every symptom among the options stands in the text in the same way, so none can be ruled out without the deduction, and the
place of the right one is uniform. The sentences come in any order.

The levels: 1 is one step from a fact; 2 is an order of four, whose first or last is asked for; 3 is two steps; 4 is an
order of five, whose second or second to last is asked for; 5 is two steps beside a fact that only misleads, or a step
backwards from what is absent to what would have caused it.

The symptoms are those of the task mednli (:mod:`dsrl_tasks.mednli.words`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from itertools import pairwise, permutations
from typing import Literal, NamedTuple

from dsrl_tasks.choices import write_input
from dsrl_tasks.mednli.procedural import find_terms
from dsrl_tasks.mednli.words import DEV, GENERATOR, TEST

LEVELS = range(1, 6)
LABELS = ("A", "B", "C", "D")


class Solved(NamedTuple):
    """What ``solve`` finds for a question: the letter of the right option, and the level of the question."""

    label: str
    level: int


class Forms(NamedTuple):
    """The sentences of one split."""

    rule: tuple[str, ...]  # who has {x} has {y}
    present: tuple[str, ...]  # the patient has {x}
    absent: tuple[str, ...]
    earlier: tuple[str, ...]  # {x} began before {y}
    certain: tuple[str, ...]  # the question: what does the patient have?
    excluded: tuple[str, ...]  # the question: what does the patient not have?
    order: dict[int, tuple[str, ...]]  # place in the order, from the front or (negative) from the end -> the question


GENERATOR_FORMS = Forms(
    rule=("Every patient with {x} has {y}.", "Whoever has {x} also has {y}.", "If a patient has {x}, then also {y}."),
    present=("This patient has {x}.", "This patient reports {x}."),
    absent=("This patient has no {x}.", "This patient denies {x}."),
    earlier=("The {x} began before the {y}.", "The {y} began after the {x}."),
    certain=("What else does this patient have for certain?",),
    excluded=("What else does this patient certainly not have?",),
    order={
        0: ("What began first?",),
        1: ("What began second?",),
        -1: ("What began last?",),
        -2: ("What began second to last?",),
    },
)

DEV_FORMS = Forms(
    rule=("All people with {x} suffer from {y}.", "In a case of {x} there is always {y}."),
    present=("This person suffers from {x}.",),
    absent=("This person does not suffer from {x}.",),
    earlier=("The {x} arrived earlier than the {y}.", "The {y} arrived later than the {x}."),
    certain=("What must this person suffer from?",),
    excluded=("What can this person not suffer from?",),
    order={
        0: ("Which of them arrived earliest?",),
        1: ("Which of them arrived second?",),
        -1: ("Which of them arrived latest?",),
        -2: ("Which of them arrived last but one?",),
    },
)

TEST_FORMS = Forms(
    rule=("Where staff noted {x}, they noted {y} too.",),
    present=("Staff noted {x} here.",),
    absent=("Staff noted no {x} here.",),
    earlier=("The {x} was noted ahead of the {y}.", "The {y} was noted behind the {x}."),
    certain=("What more is sure to be noted here?",),
    excluded=("What is sure not to be noted here?",),
    order={
        0: ("What was noted as the first one?",),
        1: ("What was noted as the second one?",),
        -1: ("What was noted as the last one?",),
        -2: ("What was noted right ahead of the last one?",),
    },
)

# Of the levels that ask for an order: how many symptoms there are, and which places can be asked for.
_ORDERS: dict[int, tuple[int, tuple[int, ...]]] = {2: (4, (0, -1)), 4: (5, (1, -2))}


def write(rng: random.Random, level: int, passage: str) -> tuple[str, str]:
    """Write a question of the level about terms of the passage, if the passage has any. Return its input and its output."""
    anchors = [thing.name for thing in find_terms(rng, passage) if thing.kind == "finding"]
    return _compose(rng, level, rng.randrange(len(LABELS)), (GENERATOR.findings, GENERATOR_FORMS), anchors)


def make_held_out_items(split: Literal["dev", "test"], n: int) -> list[tuple[str, str]]:
    """Make the first n items of a split: input and output, with balanced labels and levels.

    Their sentences and terms are never used by ``write``.
    """
    language = {"dev": (DEV.findings, DEV_FORMS), "test": (TEST.findings, TEST_FORMS)}[split]
    rng = random.Random(f"logiqa {split}")
    count = len(LABELS)
    return [_compose(rng, LEVELS[i // count % len(LEVELS)], i % count, language, []) for i in range(n)]


# -- writing ----------------------------------------------------------------------------------------------------------


class _Question(NamedTuple):
    sentences: list[str]
    question: str
    right: str
    wrong: list[str]
    thought: str


def _compose(
    rng: random.Random, level: int, place: int, language: tuple[Sequence[str], Forms], anchors: Sequence[str]
) -> tuple[str, str]:
    """Write a question whose right option stands at the given place."""
    terms, forms = language
    if level in _ORDERS:
        size, places = _ORDERS[level]
        question = _ask_for_order(rng, forms, _draw_terms(rng, size, terms, anchors), rng.choice(places))
    else:
        question = _ask_for_condition(rng, forms, level, _draw_terms(rng, 8 if level == 1 else 10, terms, anchors))
    rng.shuffle(question.sentences)
    options = rng.sample(question.wrong, len(LABELS) - 1)
    options.insert(place, question.right)
    text = write_input(question.question, options, " ".join(question.sentences))
    return text, f"<think> {question.thought} </think> <answer> {LABELS[place]} </answer>"


def _draw_terms(rng: random.Random, count: int, terms: Sequence[str], anchors: Sequence[str]) -> list[str]:
    chosen = list(anchors[:count])
    chosen += rng.sample([term for term in terms if term not in chosen], count - len(chosen))
    rng.shuffle(chosen)
    return chosen


def _ask_for_order(rng: random.Random, forms: Forms, order: list[str], place: int) -> _Question:
    # The first and the last are compared too. So each symptom stands in two sentences, whatever its place is.
    pairs = [*pairwise(order), (order[0], order[-1])]
    right = order[place]
    return _Question(
        sentences=[rng.choice(forms.earlier).format(x=x, y=y) for x, y in pairs],
        question=rng.choice(forms.order[place]),
        right=right,
        wrong=[term for term in order if term != right],
        thought=" then ".join(order),
    )


def _ask_for_condition(rng: random.Random, forms: Forms, level: int, terms: list[str]) -> _Question:
    causes, effects, first = terms[:4], terms[4:8], terms[8:]
    rules = list(zip(causes, effects, strict=True))
    right, other = rng.sample(range(4), 2)
    chain = [causes[right], effects[right]]
    if first:
        rules += [(first[0], causes[right]), (first[1], causes[other])]
        chain.insert(0, first[0])
    sentences = [rng.choice(forms.rule).format(x=x, y=y) for x, y in rules]
    sentences.append(rng.choice(forms.present).format(x=chain[0]))
    if level == max(LEVELS):
        sentences.append(rng.choice(forms.absent).format(x=effects[other]))
        if rng.random() < 0.5:
            wrong = [cause for cause in causes if cause != causes[other]]
            thought = f"no {effects[other]} so no {causes[other]}"
            return _Question(sentences, rng.choice(forms.excluded), causes[other], wrong, thought)
    wrong = [effect for effect in effects if effect != effects[right]]
    return _Question(sentences, rng.choice(forms.certain), effects[right], wrong, " so ".join(chain))


# -- reading ----------------------------------------------------------------------------------------------------------

_TERM = r"[a-z]+(?: [a-z]+){0,3}"
_INPUT = re.compile(
    r"Context: (?P<context>[^\n]{1,2000})\nQuestion: (?P<question>[^\n]{1,100})"
    + "".join(rf"\n{letter}: (?P<{letter}>{_TERM})" for letter in LABELS)
)


def _compile(forms: Sequence[str]) -> tuple[re.Pattern[str], ...]:
    fields = {"{x}": f"(?P<x>{_TERM})", "{y}": f"(?P<y>{_TERM})"}
    parts = ([fields.get(part) or re.escape(part) for part in re.split(r"(\{[xy]\})", form)] for form in forms)
    return tuple(re.compile("".join(part)) for part in parts)


_RULES, _PRESENT, _ABSENT, _EARLIER = (
    _compile(forms)
    for forms in (GENERATOR_FORMS.rule, GENERATOR_FORMS.present, GENERATOR_FORMS.absent, GENERATOR_FORMS.earlier)
)


def solve(text: str) -> Solved | None:
    """Read a question and find the right option; None if it is not in the language of ``write``."""
    match = _INPUT.fullmatch(text.strip())
    if match is None:
        return None
    sentences = [f"{sentence}." for sentence in match["context"].removesuffix(".").split(". ")]
    options = [match[letter] for letter in LABELS]
    if any(question == match["question"] for questions in GENERATOR_FORMS.order.values() for question in questions):
        return _solve_order(sentences, match["question"], options)
    return _solve_condition(sentences, match["question"], options)


def _solve_order(sentences: list[str], question: str, options: list[str]) -> Solved | None:
    pairs = [_read(_EARLIER, sentence) for sentence in sentences]
    place = next(place for place, questions in GENERATOR_FORMS.order.items() if question in questions)
    level = next((level for level, (size, places) in _ORDERS.items() if size == len(pairs) and place in places), None)
    terms = {term for pair in pairs if pair for term in pair}
    if level is None or None in pairs or len(terms) != len(pairs):
        return None
    found = {
        order[place]
        for order in permutations(sorted(terms))
        if all(pair and order.index(pair[0]) < order.index(pair[1]) for pair in pairs)
    }
    return _choose(found, options, level)


def _solve_condition(sentences: list[str], question: str, options: list[str]) -> Solved | None:
    rules: list[tuple[str, ...]] = []
    present: set[str] = set()
    absent: set[str] = set()
    for sentence in sentences[:9]:
        if rule := _read(_RULES, sentence):
            rules.append(rule)
        elif fact := _read(_ABSENT, sentence):
            absent.update(fact)
        elif fact := _read(_PRESENT, sentence):
            present.update(fact)
        else:
            return None
    level = {(4, 1, 0): 1, (6, 1, 0): 3, (6, 1, 1): 5}.get((len(rules), len(present), len(absent)))
    asks_for_present = question in GENERATOR_FORMS.certain
    if level is None or len(sentences) > 8 or not (asks_for_present or question in GENERATOR_FORMS.excluded):
        return None
    for _ in rules:
        for x, y in rules:
            if x in present:
                present.add(y)
            if y in absent:
                absent.add(x)
    return None if present & absent else _choose(present if asks_for_present else absent, options, level)


def _read(patterns: tuple[re.Pattern[str], ...], sentence: str) -> tuple[str, ...] | None:
    """Return the terms of a sentence: x, and y if there is one; None if no pattern has its form."""
    for pattern in patterns:
        if match := pattern.fullmatch(sentence):
            groups = match.groupdict()
            return (groups["x"], groups["y"]) if "y" in groups else (groups["x"],)
    return None


def _choose(right: set[str], options: list[str], level: int) -> Solved | None:
    letters = [letter for letter, option in zip(LABELS, options, strict=True) if option in right]
    return Solved(letters[0], level) if len(letters) == 1 else None
