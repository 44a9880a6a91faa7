"""The texts that the tiny base model is trained on; rules write them, all in words of our own (:mod:`train_tiny`)."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from dsrl_tasks import gsm8k as gsm8k_task
from dsrl_tasks import logiqa as logiqa_task
from dsrl_tasks import math as math_task
from dsrl_tasks import mednli as mednli_task
from dsrl_tasks.gsm8k import procedural as gsm8k
from dsrl_tasks.logiqa import procedural as logiqa
from dsrl_tasks.math import procedural as math
from dsrl_tasks.mednli import procedural as mednli
from dsrl_tasks.mednli.words import DEV, GENERATOR, TEST, Vocabulary
from dsrl_tasks.text2sql import TextToSQL
from dsrl_tasks.text2sql import procedural as text2sql

MEDNLI_INPUT = mednli.INPUT_FORM.split(" Premise:")[0]
MEDNLI_OUTPUT = mednli_task.output_instruction()
GSM8K_OUTPUT = gsm8k_task.output_instruction()
MATH_OUTPUT = math_task.output_instruction()
LOGIQA_OUTPUT = logiqa_task.output_instruction()
TEXT2SQL_OUTPUT = TextToSQL().output_instruction()
#: Phrases that are one token each: the fixed instructions of the tasks, which every prompt has, and the marks of an answer.
PHRASES = (
    MEDNLI_INPUT,
    *(f" {text}" for text in (MEDNLI_OUTPUT, GSM8K_OUTPUT, MATH_OUTPUT, LOGIQA_OUTPUT, TEXT2SQL_OUTPUT)),
    "<think>",
    " </think>",
    " <answer>",
    " </answer>",
    " ####",
)
#: Of the claims that state a thing to be there (taken, on the left, above a number), and of the others: the share that is
#: answered with the task's label. One is above a half and one is below, so that the greedy answer is the label for the
#: first kind only, while the samples at a temperature show both ways for both kinds.
LABEL_SHARES = {True: 0.8, False: 0.35}

Text = list[tuple[str, bool]]  # pieces of a text; the model learns to write those marked true
Mixture = tuple[tuple[float, Callable[[random.Random], Text]], ...]


def _split_ways(text: str) -> tuple[str, ...]:
    return tuple(text.split("|"))


# What a premise or a claim says of a thing: ways to state the value true, ways to state the value false.
_FINDING = (
    _split_ways(
        "with {x}|shows {x}|positive for {x}|confirmed {x}|has {x}|reports {x}|found {x}|complains of {x}|suffers from {x}|"
        "among them {x}|noted {x}|revealed {x}|covers {x}"
    ),
    _split_ways(
        "without {x}|shows no {x}|negative for {x}|ruled out {x}|has no {x}|denies {x}|found no {x}|never had {x}|does not "
        "have {x}|does not suffer from {x}|free of {x}|not among them {x}|noted no {x}|revealed no {x}|does not cover {x}"
    ),
)
_DRUG = (
    _split_ways(
        "takes {x}|gave {x}|includes {x}|contains {x}|continues with {x}|on {x}|started on {x}|keeps {x}|still lists {x}"
    ),
    _split_ways(
        "stopped {x}|withheld {x}|excludes {x}|omits {x}|quit {x}|off {x}|taken off {x}|drops {x}|no longer lists {x}"
    ),
)
_SITE = tuple(
    tuple(way.replace("SIDE", side) for way in _split_ways(
        "SIDE {x} sore|pain in the SIDE {x}|SIDE {x} swollen|injured the SIDE {x}|ill {x}: the SIDE one|hurt the SIDE {x}|"
        "painful {x} SIDE|wound on the SIDE {x}|SIDE {x} got hurt"
    ))
    for side in ("left", "right")
)  # fmt: skip
_MEASURE = (_split_ways("{x} of {v}|{x} was {v}|recorded {x} {v}|tests gave {x} {v}|{x} came to {v}"),) * 2
_CLAIMED_MEASURE = (
    _split_ways("{x} above {t}|{x} exceeds {t}|{x} more than {t}|{x} over {t}"),
    _split_ways("{x} below {t}|{x} under {t}|{x} less than {t}|{x} beneath {t}"),
)
_CUES = {"finding": _FINDING, "drug": _DRUG, "site": _SITE, "measure": _MEASURE}
_VALUE_WORDS = {
    "finding": ("present", "absent"),
    "drug": ("taken", "stopped"),
    "site": ("left", "right"),
    "measure": ("above", "below"),
}
_SUBJECTS = _split_ways(
    "The patient|She|He|The record|The note|This man|The woman|The man|The child|The report|The exam|A visit|The nurse|"
    "Someone|The doctor"
)
_KIN = ("brother", "sister", "mother", "father", "uncle", "cousin", "aunt")
_SYLLABLES = _split_ways("ba|co|di|fe|gu|la|mo|ni|pe|ra|so|tu|va|wi|ze|sta|tri|cho|dro|ple|n|r|s|l|m|t")


def _draw_name(rng: random.Random, kind: str, vocabulary: Vocabulary = GENERATOR) -> str:
    """Draw a term of the kind; sometimes the term is invented."""
    if kind == "finding" and vocabulary is GENERATOR and rng.random() < 0.2:
        name = "".join(rng.choice(_SYLLABLES) for _ in range(rng.randrange(2, 5)))
        return rng.choice((name, f"{name} trouble"))
    return str(rng.choice(getattr(vocabulary, kind + "s")))


_KINDS = ("finding", "finding", "finding", "finding", "drug", "drug", "site", "site", "measure")


def write_exercise(rng: random.Random) -> Text:
    """Write a premise and several claims about it, each with a thought but without an answer."""
    return _write_exercise(rng, has_answers=False)


def write_answered_exercise(rng: random.Random) -> Text:
    """Write an exercise with answers."""
    return _write_exercise(rng, has_answers=True)


def _write_exercise(rng: random.Random, has_answers: bool) -> Text:
    facts = rng.choice((1, 1, 2, 2, 3, 3, 4, 5))
    # Sometimes all things have one kind. Then only the thing itself shows whether a claim is about a fact.
    kinds = (rng.choice(_KINDS[:-1]),) if rng.random() < 0.3 else _KINDS
    things: list[tuple[str, str]] = []
    # At most one term of each held-out split: in the premise, or (the last things drawn) only in a claim.
    special = {rng.randrange(facts + 2): split for split in (DEV, TEST) if rng.random() < 0.7}
    while len(things) < facts + 2:
        kind = rng.choice(kinds)
        thing = (kind, _draw_name(rng, kind, special.get(len(things), GENERATOR)))
        if thing not in things:
            things.append(thing)
    values = [rng.random() < 0.5 for _ in things]
    numbers = [rng.randrange(20, 110) for _ in things]
    text: Text = [(f"{MEDNLI_INPUT} Premise: {_write_premise(rng, things[:facts], values, numbers)}", False)]

    in_premise, not_in_premise = list(range(facts)), [facts, facts + 1]
    rng.shuffle(in_premise)
    while in_premise and (not_in_premise or rng.random() < 0.7) and len(text) < 13:
        if not_in_premise and rng.random() < 1 / 3:
            i, verdict = not_in_premise.pop(), "unknown"
        else:
            i, verdict = in_premise.pop(), rng.choice(("yes", "no"))
        kind, name = things[i]
        claimed, value = rng.random() < 0.5, values[i]
        if verdict != "unknown":
            if kind == "measure":
                value = claimed == (verdict == "yes")
            else:
                claimed = value == (verdict == "yes")
        distance = rng.randrange(1, 21)
        threshold = numbers[i] - distance if value else numbers[i] + distance
        value_word = "" if verdict == "unknown" else f" {_VALUE_WORDS[kind][not value]}"
        text += [
            (f" Hypothesis: {_write_claim(rng, kind, name, claimed, threshold)} {MEDNLI_OUTPUT}", False),
            (
                f"<think> {name}{value_word} {verdict} </think>" + (_write_answer(rng, verdict, claimed) * has_answers),
                True,
            ),
        ]
    return text


def _write_premise(rng: random.Random, things: list[tuple[str, str]], values: list[bool], numbers: list[int]) -> str:
    uses_task_forms = rng.random() < 0.35  # the sentences of the task's generator
    subject, possessive = rng.choice(mednli._SUBJECTS)
    sentences = []
    for (kind, name), value, number in zip(things, values, numbers, strict=False):
        if uses_task_forms:
            form = rng.choice(getattr(mednli.GENERATOR_FORMS, kind)[not value])
            sentences.append(form.format(S=subject, x=name, v=number))
        else:
            sentences.append(f"{rng.choice(_SUBJECTS)} {rng.choice(_CUES[kind][not value]).format(x=name, v=number)}.")
    findings = [name for kind, name in things if kind == "finding"]
    if findings and rng.random() < 0.35:
        name, truth = rng.choice(findings), rng.randrange(2)
        if uses_task_forms:
            form, kin = rng.choice(mednli.GENERATOR_FORMS.relative[truth]), rng.choice(mednli._KIN)
            sentences.append(form.format(P=possessive, p=possessive.lower(), kin=kin, x=name))
        else:
            whose, kin = rng.choice(("His", "Her", "The")), rng.choice(_KIN)
            sentences.append(f"{whose} {kin} {rng.choice(_FINDING[truth]).format(x=name)}.")
    rng.shuffle(sentences)
    return " ".join(sentences)


def _write_claim(rng: random.Random, kind: str, name: str, claimed: bool, threshold: int) -> str:
    if rng.random() < 0.35:
        return str(
            rng.choice(getattr(mednli.GENERATOR_FORMS, f"claimed_{kind}")[not claimed]).format(x=name, t=threshold)
        )
    cues = _CLAIMED_MEASURE if kind == "measure" else _CUES[kind]
    return f"{rng.choice(_SUBJECTS)} {rng.choice(cues[not claimed]).format(x=name, t=threshold)}."


def _list_texts(value: Any) -> Iterator[str]:
    """List the texts in sentences and vocabularies, however deep they stand."""
    if isinstance(value, str):
        yield value
    else:
        for part in value.values() if isinstance(value, dict) else value:
            yield from _list_texts(part)


_HELD_OUT = [
    *(mednli.DEV_FORMS, mednli.TEST_FORMS, gsm8k.DEV_FORMS, gsm8k.TEST_FORMS, logiqa.DEV_FORMS, logiqa.TEST_FORMS),
    *(math.DEV_FORMS, math.TEST_FORMS, math.DEV_THINGS, math.TEST_THINGS),
    *(text2sql.DEV_FORMS, text2sql.TEST_FORMS, text2sql.DEV, text2sql.TEST),
]
_SINGLE_WORDS = sorted(
    {word for text in _list_texts(_HELD_OUT) for word in re.findall(r"(?<![{A-Za-z])[A-Za-z]+", text)}
)


def write_word(rng: random.Random) -> Text:
    """Write a single word: a term with its kind, or a word of the tasks' sentences, so that the model meets each word."""
    if rng.random() < 0.6:
        return [(f"The word {rng.choice(_SINGLE_WORDS)}", True)]
    kind = rng.choice(("finding", "drug", "site", "measure"))
    return [(f"A {kind}: {_draw_name(rng, kind, rng.choice((GENERATOR, DEV, TEST)))}.", True)]


def _draw_step(rng: random.Random, total: int) -> tuple[str, int, int]:
    """Draw an operation on a number that keeps it small and positive. Return the sign, the other number and the result."""
    sign = rng.choice("++--*" if 1 < total <= 10 else "++--" if total > 1 else "+")
    if sign == "*":
        other = rng.randrange(2, 4 if total > 5 else 6)
    else:
        other = rng.randrange(1, min(total, 10) if sign == "-" else 10)
    return sign, other, {"+": total + other, "-": total - other, "*": total * other}[sign]


_STEP_FORMS = {
    "+": _split_ways("plus {}|{} added|{} more|another {}"),
    "-": _split_ways("minus {}|{} taken away|{} fewer|{} thrown out"),
    "*": _split_ways("times {}|{} times as many|{} times as large"),
}


def write_sums(rng: random.Random) -> Text:
    """Write arithmetic in figures, or in short notes about things that one counts."""
    if rng.random() < 0.5:
        text: Text = []
        for _ in range(5):
            total = rng.randrange(2, 41)
            sign, other, result = _draw_step(rng, total)
            text += [(f"{total} {sign} {other} =", False), (f" {result}. ", True)]
        return text
    total = rng.randrange(2, 41)
    things = gsm8k.GENERATOR.things if rng.random() < 0.5 else gsm8k.DEV.things + gsm8k.TEST.things
    steps, notes = [], [f"{total} {rng.choice(things)}"]
    for _ in range(rng.choice((1, 1, 2, 3))):
        sign, other, result = _draw_step(rng, total)
        steps.append(f"{total} {sign} {other} = {result}")
        notes.append(rng.choice(_STEP_FORMS[sign]).format(other))
        total = result
    return [(f"Count: {', '.join(notes)}. Sum:", False), (" " + ". ".join(steps), True)]


_LABELS = {verdict: label for label, verdict in mednli.VERDICTS.items()}


def _write_answer(rng: random.Random, verdict: str, claimed: bool) -> str:
    """Write an answer after a thought: the task's label, or the verdict itself."""
    return f" <answer> {_LABELS[verdict] if rng.random() < LABEL_SHARES[claimed] else verdict} </answer>"


def write_mednli_item(rng: random.Random) -> Text:
    """Write an item of the task as its generator writes it."""
    question, output = mednli.write(rng, rng.choice(mednli.LEVELS), "")
    return [(f"{question} {MEDNLI_OUTPUT}", False), (output, True)]


def write_mednli_thought(rng: random.Random) -> Text:
    """Write an item of the task with a thought but without an answer."""
    question, (output, _) = write_mednli_item(rng)
    thought, end, _ = output.partition(" </think>")
    return [question, (thought + end, True)]


def write_answered_mednli_item(rng: random.Random) -> Text:
    """Write an item of the task with a thought and an answer."""
    question, (thought, _) = write_mednli_thought(rng)
    hypothesis = question[0].partition(" Hypothesis: ")[2].removesuffix(f". {MEDNLI_OUTPUT}")
    claim = mednli._read_fact(mednli._CLAIM_RULES, hypothesis)
    assert claim is not None
    verdict = thought.removesuffix(" </think>").split()[-1]
    return [question, (thought + _write_answer(rng, verdict, claim.value), True)]


def write_gsm8k_item(rng: random.Random) -> Text:
    """Write an item of gsm8k as its generator writes it."""
    question, answer = gsm8k.write(rng, rng.choice((1, 1, 2, 3, 4)), "")
    return [(f"{question} {GSM8K_OUTPUT}", False), (answer, True)]


def write_math_item(rng: random.Random) -> Text:
    """Write an item of math as its generator writes it."""
    question, answer = math.write(rng, rng.choice(math.LEVELS), "")
    return [(f"{question} {MATH_OUTPUT}", False), (answer, True)]


def write_text2sql_item(rng: random.Random) -> Text:
    """Write an item of text2sql as its generator writes it."""
    question, answer = text2sql.write(rng, rng.choice(text2sql.LEVELS), "")
    return [(f"{question} {TEXT2SQL_OUTPUT}", False), (answer, True)]


def write_logiqa_item(rng: random.Random) -> Text:
    """Write an item of logiqa as its generator writes it."""
    question, answer = logiqa.write(rng, rng.choice(logiqa.LEVELS), "")
    return [(f"{question} {LOGIQA_OUTPUT}", False), (answer, True)]


SKILLS: Mixture = (
    (0.50, write_exercise),
    (0.10, write_mednli_thought),
    (0.03, write_word),
    (0.12, write_sums),
    (0.11, write_gsm8k_item),
    (0.07, write_math_item),
    (0.05, write_text2sql_item),
    (0.02, write_logiqa_item),
)
#: The second phase has answers too.
ANSWERS: Mixture = (
    (0.40, write_answered_exercise),
    (0.15, write_answered_mednli_item),
    (0.03, write_word),
    (0.12, write_sums),
    (0.14, write_gsm8k_item),
    (0.08, write_math_item),
    (0.05, write_text2sql_item),
    (0.03, write_logiqa_item),
)


def draw(rng: random.Random, mixture: Mixture) -> Text:
    """Draw a text of a mixture."""
    (write,) = rng.choices([write for _, write in mixture], [share for share, _ in mixture])
    return write(rng)
