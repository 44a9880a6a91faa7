"""A small language of clinical premises and hypotheses. Rules write its sentences and read them again.

A premise states facts about one patient, and a hypothesis claims one fact. The label follows from the two together: the
premise states the claimed thing with the same value (entailment), with the other value (contradiction), or not at all
(neutral). Hypothesis and premise are each drawn from a distribution that does not depend on the label, so neither of them
alone tells anything about the label:

* k+1 things are drawn, and the hypothesis claims a uniformly drawn one of them with a uniformly drawn value;
* the premise states k of the k+1 things: all but the claimed one (neutral), or all but a uniformly drawn other one. In both
  cases it is a uniformly drawn subset;
* the values in the premise are uniform too: the claimed thing has the value of the hypothesis or the opposite value.

The level is the number of sentences of the premise. Levels 4 and 5 add a relative of the patient. The findings of the
relative say nothing about the patient.
"""

from __future__ import annotations

import random
import re
from typing import Literal, NamedTuple

from .words import DEV, GENERATOR, TEST, Vocabulary

LEVELS = range(1, 6)
LABELS = ("entailment", "neutral", "contradiction")
#: The last word of the short thought, for each label: does the premise state what the hypothesis claims?
VERDICTS = {"entailment": "yes", "neutral": "unknown", "contradiction": "no"}
INPUT_FORM = (
    "Does the hypothesis follow from the premise (entailment), is it ruled out (contradiction), or is it left open "
    "(neutral)? Premise: {premise} Hypothesis: {hypothesis}"
)


class Solved(NamedTuple):
    """What ``solve`` finds for a sample: the right label, and the level of the sample."""

    label: str
    level: int


class Forms(NamedTuple):
    """The sentences of one split. Each entry has the sentences for the value true, then those for the value false."""

    finding: tuple[tuple[str, ...], tuple[str, ...]]
    drug: tuple[tuple[str, ...], tuple[str, ...]]
    site: tuple[tuple[str, ...], tuple[str, ...]]
    measure: tuple[tuple[str, ...], tuple[str, ...]]
    relative: tuple[tuple[str, ...], tuple[str, ...]]
    claimed_finding: tuple[tuple[str, ...], tuple[str, ...]]
    claimed_drug: tuple[tuple[str, ...], tuple[str, ...]]
    claimed_site: tuple[tuple[str, ...], tuple[str, ...]]
    claimed_measure: tuple[tuple[str, ...], tuple[str, ...]]


GENERATOR_FORMS = Forms(
    finding=(
        ("{S} has {x}.", "{S} reports {x}.", "{S} complains of {x}.", "An exam found {x}."),
        ("{S} has no {x}.", "{S} denies {x}.", "{S} never had {x}.", "An exam found no {x}."),
    ),
    drug=(("{S} takes {x}.", "{S} was started on {x}."), ("{S} stopped {x}.", "{S} was taken off {x}.")),
    site=(
        ("{S} injured the left {x}.", "The left {x} is sore."),
        ("{S} injured the right {x}.", "The right {x} is sore."),
    ),
    measure=(("The {x} was {v}.", "{S} had a {x} of {v}."),) * 2,
    relative=(("{P} {kin} has {x}.", "{P} {kin} reports {x}."), ("{P} {kin} has no {x}.", "{P} {kin} denies {x}.")),
    claimed_finding=(
        ("The patient has {x}.", "The patient suffers from {x}."),
        ("The patient does not have {x}.", "The patient does not suffer from {x}."),
    ),
    claimed_drug=(("The patient is on {x}.",), ("The patient is off {x}.",)),
    claimed_site=(("The patient hurt the left {x}.",), ("The patient hurt the right {x}.",)),
    claimed_measure=(("The {x} was above {t}.",), ("The {x} was below {t}.",)),
)

DEV_FORMS = Forms(
    finding=(
        (
            "The exam was positive for {x}.",
            "{S} arrived with {x}.",
            "The doctors confirmed {x}.",
            "The chart shows {x}.",
        ),
        (
            "The exam was negative for {x}.",
            "{S} arrived free of {x}.",
            "The doctors ruled out {x}.",
            "The chart shows no {x}.",
        ),
    ),
    drug=(
        ("The plan continues with {x}.", "The nurses gave {x}."),
        ("The plan quit {x}.", "The nurses withheld {x}."),
    ),
    site=(
        ("The left {x} looks swollen.", "Pain was felt in the left {x}."),
        ("The right {x} looks swollen.", "Pain was felt in the right {x}."),
    ),
    measure=(("Tests gave a {x} of {v}.", "A {x} of {v} was recorded."),) * 2,
    relative=(
        ("{P} cousin arrived with {x}.", "The chart of {p} uncle shows {x}."),
        ("{P} cousin arrived free of {x}.", "The chart of {p} uncle shows no {x}."),
    ),
    claimed_finding=(
        ("Among the problems is {x}.", "This is a case with {x}."),
        ("Not among the problems is {x}.", "This is a case without {x}."),
    ),
    claimed_drug=(
        ("The drug plan contains {x}.", "The treatment includes {x}."),
        ("The drug plan omits {x}.", "The treatment excludes {x}."),
    ),
    claimed_site=(
        ("It is the left {x} that is ill.", "The painful {x} is the left one."),
        ("It is the right {x} that is ill.", "The painful {x} is the right one."),
    ),
    claimed_measure=(
        ("The {x} is more than {t}.", "The recorded {x} exceeds {t}."),
        ("The {x} is less than {t}.", "The recorded {x} is under {t}."),
    ),
)

TEST_FORMS = Forms(
    finding=(
        ("Staff noted {x}.", "The scan revealed {x}."),
        ("Staff noted no {x}.", "The scan revealed no {x}."),
    ),
    drug=(("The regimen keeps {x}.",), ("The regimen drops {x}.",)),
    site=(("There is a wound on the left {x}.",), ("There is a wound on the right {x}.",)),
    measure=(("The latest {x} came to {v}.",),) * 2,
    relative=(("The scan of {p} aunt revealed {x}.",), ("The scan of {p} aunt revealed no {x}.",)),
    claimed_finding=(("The diagnosis covers {x}.",), ("The diagnosis does not cover {x}.",)),
    claimed_drug=(("The prescription still lists {x}.",), ("The prescription no longer lists {x}.",)),
    claimed_site=(("It was the left {x} that got hurt.",), ("It was the right {x} that got hurt.",)),
    claimed_measure=(("The latest {x} lies over {t}.",), ("The latest {x} lies beneath {t}.",)),
)

# The kinds of facts of each level. A kind that is listed twice is drawn twice as often.
_KINDS: dict[int, tuple[str, ...]] = {
    1: ("finding",),
    2: ("finding", "finding", "drug"),
    3: ("finding", "finding", "drug", "site"),
    4: ("finding", "finding", "drug", "site"),
    5: ("finding", "finding", "drug", "site", "measure"),
}
_SUBJECTS = (("The patient", "The patient's"), ("She", "Her"), ("He", "His"))
_KIN = ("brother", "sister", "mother", "father")
# What the short thought says about the claimed thing: the value that the premise states.
_VALUE_WORDS = {
    "finding": ("present", "absent"),
    "drug": ("taken", "stopped"),
    "site": ("left", "right"),
    "measure": ("above", "below"),
}


class Thing(NamedTuple):
    """Something that a sentence states a fact about, e.g. a finding named fever."""

    kind: str
    name: str


def write(rng: random.Random, level: int, passage: str) -> tuple[str, str]:
    """Write a sample of the level about terms of the passage, if the passage has any. Return its input and its output."""
    sample = _compose(rng, level, rng.choice(LABELS), GENERATOR, GENERATOR_FORMS, find_terms(rng, passage))
    return sample.input, sample.output


def make_held_out_items(split: Literal["dev", "test"], n: int) -> list[tuple[str, str]]:
    """Make the first n items of a split: input and output, with balanced labels and levels.

    Their sentences and terms are never used by ``write``.
    """
    vocabulary, forms = {"dev": (DEV, DEV_FORMS), "test": (TEST, TEST_FORMS)}[split]
    rng = random.Random(f"mednli {split}")
    samples = []
    for i in range(n):
        level = LEVELS[i // len(LABELS) % len(LEVELS)]
        sample = _compose(rng, level, LABELS[i % len(LABELS)], vocabulary, forms, [])
        samples.append((sample.input, sample.output))
    return samples


# -- writing ----------------------------------------------------------------------------------------------------------


class _Sample(NamedTuple):
    input: str
    output: str


def _compose(
    rng: random.Random, level: int, label: str, vocabulary: Vocabulary, forms: Forms, anchors: list[Thing]
) -> _Sample:
    """Draw everything that does not depend on the label, then build the premise for which the label is right."""
    with_relative = level >= 4
    things = _draw_things(rng, level, level if with_relative else level + 1, vocabulary, anchors)
    claimed = rng.randrange(len(things))
    claimed_value = rng.random() < 0.5
    subject, possessive = rng.choice(_SUBJECTS)
    thresholds = [_draw_threshold(rng) for _ in things]
    values = [rng.random() < 0.5 for _ in things]
    if label == "neutral":
        omitted = claimed
    else:
        omitted = rng.choice([i for i in range(len(things)) if i != claimed])
        values[claimed] = claimed_value == (label == "entailment")

    sentences = []
    for i, thing in enumerate(things):
        if i != omitted:
            form = rng.choice(getattr(forms, thing.kind)[0 if values[i] else 1])
            number = _draw_number(rng, thresholds[i], values[i])
            sentences.append(form.format(S=subject, x=thing.name, v=number))
    if with_relative:
        # Any finding, also the claimed one, whatever the label is: this can mislead the reader but is never a hint.
        finding = rng.choice([thing for thing in things if thing.kind == "finding"])
        form = rng.choice(forms.relative[rng.randrange(2)])
        sentence = form.format(P=possessive, p=possessive.lower(), kin=rng.choice(_KIN), x=finding.name)
        sentences.append(sentence)
    rng.shuffle(sentences)

    thing = things[claimed]
    form = rng.choice(getattr(forms, f"claimed_{thing.kind}")[0 if claimed_value else 1])
    hypothesis = form.format(x=thing.name, t=thresholds[claimed])
    value_word = "" if label == "neutral" else f" {_VALUE_WORDS[thing.kind][0 if values[claimed] else 1]}"
    return _Sample(
        INPUT_FORM.format(premise=" ".join(sentences), hypothesis=hypothesis),
        f"<think> {thing.name}{value_word} {VERDICTS[label]} </think> <answer> {label} </answer>",
    )


def _draw_things(
    rng: random.Random, level: int, count: int, vocabulary: Vocabulary, anchors: list[Thing]
) -> list[Thing]:
    """Draw different things, at least one of them a finding. Those of the passage come first if the level has the kind."""
    kinds = _KINDS[level]
    things = [thing for thing in anchors if thing.kind in kinds][:count]
    if len(things) == count and all(thing.kind != "finding" for thing in things):
        things.pop()
    while len(things) < count:
        needs_finding = all(thing.kind != "finding" for thing in things)
        kind = "finding" if needs_finding else rng.choice(kinds)
        thing = Thing(kind, rng.choice(getattr(vocabulary, kind + "s")))
        if thing not in things:
            things.append(thing)
    rng.shuffle(things)
    return things


def _draw_threshold(rng: random.Random) -> int:
    return rng.randrange(30, 90)


def _draw_number(rng: random.Random, threshold: int, above: bool) -> int:
    distance = rng.randrange(1, 21)
    return threshold + distance if above else threshold - distance


# -- passages ---------------------------------------------------------------------------------------------------------

_KIND_OF_TERM = {
    term: kind for kind in ("finding", "drug", "site", "measure") for term in getattr(GENERATOR, kind + "s")
}
_TERM_PATTERN = re.compile(r"\b(" + "|".join(sorted(map(re.escape, _KIND_OF_TERM), key=len, reverse=True)) + r")\b")
_WORD = re.compile(r"(?<![\w'-])[a-z]{5,12}(?![\w'-])")
# Words of a passage that cannot be names: the language's own words, the held-out terms, and common words.
_NOT_A_NAME = frozenset(
    word
    for text in [
        *(
            form
            for forms in (GENERATOR_FORMS, DEV_FORMS, TEST_FORMS)
            for pair in forms
            for side in pair
            for form in side
        ),
        *(term for vocabulary in (GENERATOR, DEV, TEST) for terms in vocabulary for term in terms),
        *_KIN,
        "about after again because before being between could during every other others should since their there these "
        "thing things those through under until usually very where which while whose within without would often might "
        "trouble patients people doctor doctors",
    ]
    for word in re.findall(r"[a-z]+", text.lower())
)


def find_terms(rng: random.Random, passage: str) -> list[Thing]:
    """Find the terms of the generator in a passage. If there are none, make troubles named after two content words."""
    text = passage[:4096].lower()
    terms = list(dict.fromkeys(_TERM_PATTERN.findall(text)))
    if terms:
        rng.shuffle(terms)
        return [Thing(_KIND_OF_TERM[term], term) for term in terms]
    words = [word for word in dict.fromkeys(_WORD.findall(text)) if word not in _NOT_A_NAME]
    return [Thing("finding", f"{word} trouble") for word in rng.sample(words, min(2, len(words)))]


# -- reading ----------------------------------------------------------------------------------------------------------

_TERM = r"(?P<x>[a-z]+(?: [a-z]+){0,3})"
_SUBJECT = r"(?:The patient|She|He)"
_HYPOTHESIS_PATTERN = re.compile(r"[^.]+\.")
_RELATIVE_PATTERN = re.compile(rf"(?:The patient's|Her|His) (?:{'|'.join(_KIN)}) (?:has no|has|reports|denies) {_TERM}")
# The first rule that matches a whole sentence reads it. A rule: the kind, the value, and the form of the sentence.
_FACT_RULES: tuple[tuple[str, bool, re.Pattern[str]], ...] = (
    ("finding", False, re.compile(rf"(?:{_SUBJECT} (?:has no|denies|never had)|An exam found no) {_TERM}")),
    ("finding", True, re.compile(rf"(?:{_SUBJECT} (?:has|reports|complains of)|An exam found) {_TERM}")),
    ("drug", False, re.compile(rf"{_SUBJECT} (?:stopped|was taken off) {_TERM}")),
    ("drug", True, re.compile(rf"{_SUBJECT} (?:takes|was started on) {_TERM}")),
    ("site", True, re.compile(rf"(?:{_SUBJECT} injured the left {_TERM}|The left (?P<y>[a-z ]+) is sore)")),
    ("site", False, re.compile(rf"(?:{_SUBJECT} injured the right {_TERM}|The right (?P<y>[a-z ]+) is sore)")),
    (
        "measure",
        True,
        re.compile(rf"(?:{_SUBJECT} had a {_TERM} of (?P<v>\d{{1,6}})|The (?P<y>[a-z ]+) was (?P<w>\d{{1,6}}))"),
    ),
)
_CLAIM_RULES: tuple[tuple[str, bool, re.Pattern[str]], ...] = (
    ("finding", False, re.compile(rf"The patient does not (?:have|suffer from) {_TERM}")),
    ("finding", True, re.compile(rf"The patient (?:has|suffers from) {_TERM}")),
    ("drug", True, re.compile(rf"The patient is on {_TERM}")),
    ("drug", False, re.compile(rf"The patient is off {_TERM}")),
    ("site", True, re.compile(rf"The patient hurt the left {_TERM}")),
    ("site", False, re.compile(rf"The patient hurt the right {_TERM}")),
    ("measure", True, re.compile(rf"The {_TERM} was above (?P<v>\d{{1,6}})")),
    ("measure", False, re.compile(rf"The {_TERM} was below (?P<v>\d{{1,6}})")),
)


class _Fact(NamedTuple):
    thing: Thing
    value: bool
    number: int


def solve(text: str) -> Solved | None:
    """Read the input of a sample and find its label; None if it is not in the language of ``write``."""
    before, _, hypothesis = text.strip().rpartition(" Hypothesis: ")
    premise = before.partition("Premise: ")[2]
    if not _HYPOTHESIS_PATTERN.fullmatch(hypothesis) or not premise.endswith("."):
        return None
    claim = _read_fact(_CLAIM_RULES, hypothesis.removesuffix("."))
    sentences = premise.removesuffix(".").split(". ")
    if claim is None or len(sentences) not in LEVELS:
        return None
    facts: dict[Thing, _Fact] = {}
    for sentence in sentences:
        fact = _read_fact(_FACT_RULES, sentence)
        if fact is not None:
            facts[fact.thing] = fact
        elif not _RELATIVE_PATTERN.fullmatch(sentence):
            return None
    fact = facts.get(claim.thing)
    if fact is None:
        return Solved("neutral", len(sentences))
    value = fact.value if claim.thing.kind != "measure" else fact.number > claim.number
    return Solved("entailment" if value == claim.value else "contradiction", len(sentences))


def _read_fact(rules: tuple[tuple[str, bool, re.Pattern[str]], ...], sentence: str) -> _Fact | None:
    for kind, value, pattern in rules:
        match = pattern.fullmatch(sentence)
        if match:
            groups = {name: text for name, text in match.groupdict().items() if text is not None}
            name = groups.get("x") or groups["y"]
            return _Fact(Thing(kind, name), value, int(groups.get("v") or groups.get("w") or 0))
    return None
