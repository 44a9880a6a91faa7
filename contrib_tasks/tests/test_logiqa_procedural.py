"""The language of deductions. A solver of its own tries all cases that the sentences allow."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from itertools import permutations, product

import pytest
from dsrl_tasks.logiqa import procedural
from dsrl_tasks.mednli.words import DEV, GENERATOR, TEST
from hypothesis import given, settings
from hypothesis import strategies as st

OUTPUT = re.compile(r"<think> [\w ]+ </think> <answer> ([A-D]) </answer>")
FORMS = {
    "generator": procedural.GENERATOR_FORMS,
    "dev": procedural.DEV_FORMS,
    "test": procedural.TEST_FORMS,
}


def read_label(output: str) -> str:
    match = OUTPUT.fullmatch(output)
    assert match, output
    return match[1]


def split(text: str) -> tuple[list[str], str, list[str]]:
    """Split an input into sentences, question and options."""
    context, question, *options = text.split("\n")
    sentences = re.findall(r"[^.]+\.", context.removeprefix("Context: "))
    assert [option[:3] for option in options] == ["A: ", "B: ", "C: ", "D: "]
    return [s.strip() for s in sentences], question.removeprefix("Question: "), [option[3:] for option in options]


def fit(forms: tuple[str, ...], sentence: str) -> dict[str, str] | None:
    for form in forms:
        pattern = re.escape(form).replace(r"\{x\}", "(?P<x>[a-z ]+)").replace(r"\{y\}", "(?P<y>[a-z ]+)")
        if match := re.fullmatch(pattern, sentence):
            return match.groupdict()
    return None


def find_right_options(text: str, forms: procedural.Forms) -> list[str]:
    """Return the letters of all options that are right in every case that the sentences allow."""
    sentences, question, options = split(text)
    order = [fit(forms.earlier, sentence) for sentence in sentences]
    if all(order):
        terms = sorted({term for pair in order if pair for term in pair.values()})
        (place,) = [place for place, questions in forms.order.items() if question in questions]
        allowed = [p for p in permutations(terms) if all(p.index(o["x"]) < p.index(o["y"]) for o in order if o)]
        assert allowed
        return [
            letter for letter, option in zip("ABCD", options, strict=True) if all(p[place] == option for p in allowed)
        ]
    rules, facts = [], {}
    for sentence in sentences:
        if absent := fit(forms.absent, sentence):
            facts[absent["x"]] = False
        elif rule := fit(forms.rule, sentence):
            rules.append(rule)
        else:
            present = fit(forms.present, sentence)
            assert present, sentence
            facts[present["x"]] = True
    terms = sorted({term for rule in rules for term in rule.values()} | set(facts))
    allowed_cases = []
    for values in product((False, True), repeat=len(terms)):
        case = dict(zip(terms, values, strict=True))
        if all(case[x] == value for x, value in facts.items()) and all(case[r["y"]] or not case[r["x"]] for r in rules):
            allowed_cases.append(case)
    assert allowed_cases, "the sentences contradict each other"
    assert question in forms.certain + forms.excluded
    wanted = question in forms.certain
    return [
        letter
        for letter, option in zip("ABCD", options, strict=True)
        if all(case[option] is wanted for case in allowed_cases)
    ]


@given(st.integers(), st.sampled_from(procedural.LEVELS), st.text())
@settings(max_examples=150, deadline=None)
def test_exactly_one_option_follows_and_it_is_the_label(seed: int, level: int, passage: str) -> None:
    text, output = procedural.write(random.Random(seed), level, passage)
    label = read_label(output)
    assert find_right_options(text, FORMS["generator"]) == [label]
    assert procedural.solve(text) == (label, level)


@pytest.mark.parametrize("name", ["dev", "test"])
def test_the_labels_of_the_held_out_sets_are_right(name: str) -> None:
    for text, output in procedural.make_held_out_items(name, 100):  # type: ignore[arg-type]
        assert find_right_options(text, FORMS[name]) == [read_label(output)]


def test_solve_reads_back_thousands_of_seeds() -> None:
    named = "Whoever began with asthma or gout, patients certain of quartz, reports another second thing first."
    for seed in range(5000):
        level = procedural.LEVELS[seed % 5]
        passage = ("", named, named.replace("asthma or gout", "granite"))[seed % 3]
        text, output = procedural.write(random.Random(seed), level, passage)
        assert procedural.solve(text) == (read_label(output), level)


@given(st.text())
@settings(deadline=None)
def test_solve_knows_when_a_text_is_not_its_language(text: str) -> None:
    question = "\nQuestion: What began first?\nA: gout\nB: fever\nC: rash\nD: cough"
    assert procedural.solve(text) is None
    assert procedural.solve(f"Context: {text}.{question}") is None
    assert (
        procedural.solve(f"Context: The gout began before the fever.\nQuestion: {text}\nA: a\nB: b\nC: c\nD: d") is None
    )


@pytest.mark.parametrize(
    "text",
    [
        "Context: The a began before the b. The b began before the a. The c began before the d. The a began before the d.",
        "Context: " + "Whoever has a also has b. " * 5 + "This patient has a.",
        "Context: "
        + " ".join(f"Whoever has {x} also has e." for x in "abcd")
        + " This patient has a. This patient has no e.",
    ],
)
def test_a_question_without_one_right_option_has_no_solution(text: str) -> None:
    for question in ("What began first?", "What else does this patient have for certain?"):
        assert procedural.solve(f"{text}\nQuestion: {question}\nA: a\nB: b\nC: c\nD: d") is None


def test_labels_are_balanced() -> None:
    for level in procedural.LEVELS:
        counts = Counter(read_label(procedural.write(random.Random(seed), level, "")[1]) for seed in range(2000))
        assert all(abs(counts[letter] / 2000 - 0.25) < 0.04 for letter in "ABCD"), counts
    for name in ("dev", "test"):
        counts = Counter(read_label(output) for _, output in procedural.make_held_out_items(name, 600))
        assert set(counts.values()) == {150}


def by_place(rank: Callable[[str, str], int]) -> Callable[[str], str]:
    """Make a guess without a deduction: the option with the lowest rank in the text."""

    def guess(text: str) -> str:
        sentences, _, options = split(text)
        context = " ".join(sentences)
        return min(zip(options, "ABCD", strict=True), key=lambda pair: (rank(context, pair[0]), pair[1]))[1]

    return guess


@pytest.mark.parametrize(
    "guess",
    [
        *(lambda text, letter=letter: letter for letter in "ABCD"),
        by_place(lambda context, option: context.find(option)),
        by_place(lambda context, option: -context.rfind(option)),
        by_place(lambda context, option: context.count(option)),
        by_place(lambda context, option: -context.count(option)),
        by_place(lambda context, option: len(option)),
    ],
)
def test_guesses_without_a_deduction_are_right_by_chance(guess: Callable[[str], str]) -> None:
    for level in procedural.LEVELS:
        samples = [procedural.write(random.Random(f"{seed} {level}"), level, "") for seed in range(1500)]
        accuracy = sum(guess(text) == read_label(output) for text, output in samples) / len(samples)
        assert 0.15 < accuracy < 0.35, (level, accuracy)


def test_write_is_deterministic_and_diverse() -> None:
    def texts() -> list[str]:
        return [procedural.write(random.Random(seed), 3, "Quartz granite basalt")[0] for seed in range(300)]

    assert texts() == texts()
    assert len(set(texts())) == 300


def test_questions_rest_on_the_terms_of_the_passage() -> None:
    for seed in range(50):
        level = procedural.LEVELS[seed % 5]
        assert {"gout", "sepsis"} <= set(
            re.findall(r"\w+", procedural.write(random.Random(seed), level, "Gout, sepsis")[0])
        )
        assert "granite trouble" in procedural.write(random.Random(seed), level, "On granite")[0]


def test_the_generator_cannot_write_held_out_items() -> None:
    """Other sentences, which solve() does not know, and other terms, even where a passage mentions them."""
    for name, vocabulary in (("dev", DEV), ("test", TEST)):
        assert not set(vocabulary.findings) & set(GENERATOR.findings)
        items = procedural.make_held_out_items(name, 500)  # type: ignore[arg-type]
        assert all(procedural.solve(text) is None for text, _ in items)
        assert len({text for text, _ in items}) == 500
        assert items[:100] == procedural.make_held_out_items(name, 100)  # type: ignore[arg-type]
        passage = " ".join(sorted(vocabulary.findings))
        for seed in range(100):
            text = procedural.write(random.Random(seed), 1 + seed % 5, passage)[0]
            assert not any(re.search(rf"\b{term}\b", text) for term in vocabulary.findings)
    own, dev, test = ({form for forms in language[:6] for form in forms} for language in FORMS.values())
    assert len(own | dev | test) == len(own) + len(dev) + len(test)
