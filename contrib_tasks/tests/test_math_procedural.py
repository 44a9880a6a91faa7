from __future__ import annotations

import random
import re
from collections import Counter
from fractions import Fraction
from math import gcd

import pytest
from dsrl_tasks.math import DOMAINS, load_dataset, procedural, procedural_sample, procedural_solve, process_label
from hypothesis import given, settings
from hypothesis import strategies as st


def solve_independently(text: str) -> Fraction:
    """Solve a problem of any split from its numbers and the words of its question; shares no code with the generator."""
    numbers = [int(n) for n in re.findall(r"\d+", text)]
    if match := re.search(r"(\d+)x \+ (\d+) = (\d+)x \+ (\d+)", text):
        a, b, c, d = map(int, match.groups())
        return Fraction(d - b, a - c)
    if match := re.search(r"(\d+)x \+ (\d+) = (\d+)", text):
        a, b, c = map(int, match.groups())
        return Fraction(c - b, a)
    if "x + " in text:
        return Fraction(numbers[1] - numbers[0])
    if match := re.search(r"(\d+) \* (\d+) \+ (\d+) - (\d+)", text):
        a, b, c, d = map(int, match.groups())
        return Fraction(a * b + c - d)
    if "divisor" in text or "largest number that divides" in text:
        return Fraction(gcd(*numbers))
    if "remainder" in text or "left over" in text:
        return Fraction(numbers[0] % numbers[1])
    if "ways" in text:
        return Fraction(sum(1 for _ in range(numbers[0]) for _ in range(numbers[1])))
    if "probability" in text or "likely" in text:
        wanted = sum(numbers[1:]) if "not" in text else numbers[0]
        return Fraction(wanted, sum(numbers))
    return Fraction(sum(numbers))


def read_fraction(text: str) -> Fraction:
    match = re.fullmatch(r"(-?\d+)|\\frac\{(\d+)\}\{(\d+)\}", text)
    assert match, text
    return Fraction(int(match[1])) if match[1] else Fraction(int(match[2]), int(match[3]))


def check(text: str, output: str) -> str:
    match = re.fullmatch(r".*\. \\boxed\{(.*)\}", output)
    assert match, output
    assert read_fraction(match[1]) == solve_independently(text), text
    # A sum of three numbers is checked with the answer.
    for left, sign, right, result in re.findall(r"(?<!\+ )\b(\d+) ([-+*]) (\d+) = (\d+)", output):
        a, b = int(left), int(right)
        assert {"+": a + b, "-": a - b, "*": a * b}[sign] == int(result), output
    return match[1]


@given(st.integers(), st.sampled_from(procedural.LEVELS), st.text())
@settings(max_examples=300)
def test_solve_reads_back_what_write_wrote_on_any_passage(seed: int, level: int, passage: str) -> None:
    text, output = procedural.write(random.Random(seed), level, passage)
    assert procedural.solve(text) == (check(text, output), level)


def test_thousands_of_samples_are_right() -> None:
    for seed in range(5000):
        level = procedural.LEVELS[seed % 5]
        text, output = procedural.write(random.Random(seed), level, "")
        assert procedural.solve(text) == (check(text, output), level)


@given(st.text())
def test_solve_knows_when_a_text_is_not_its_language(text: str) -> None:
    assert procedural.solve(text) is None
    assert procedural.solve(f"Compute 1 + {text}.") is None or re.fullmatch(r"[0-9]{1,6}", text)


def test_a_problem_without_a_solution_is_not_solved() -> None:
    assert procedural.solve("Solve 3x + 1 = 3x + 2.") is None
    assert procedural.solve("What is the remainder when 5 is divided by 0?") is None


def test_the_levels_have_several_domains_of_the_task() -> None:
    assert {kind.domain for kind in procedural.KINDS.values()} <= set(DOMAINS)
    assert len({kind.domain for kind in procedural.KINDS.values()}) >= 3
    for level in procedural.LEVELS:
        assert len({kind.domain for kind in procedural.KINDS.values() if kind.level == level}) == 2


def test_samples_rest_on_the_passage() -> None:
    for seed in range(50):
        text, _ = procedural.write(random.Random(seed), 4, "The probability to draw one of the stamps.")
        assert "stamps" in text
        text, _ = procedural.write(random.Random(seed), 3, "Prime numbers and divisors.")
        assert "divisor" in text


def find_domain_independently(text: str) -> str:
    """Find the domain of a problem of any split by its words; shares no code with the generator."""
    if re.search(r"\b(?:divisor|divides|divided|remainder|split)\b", text):
        return "number theory"
    if re.search(r"\b(?:probability|likely|ways)\b", text):
        return "counting and probability"
    return "algebra" if "x" in re.findall(r"[a-z]+", text) or re.search(r"\dx", text) else "prealgebra"


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("passage", ["", "Prime numbers and divisors, equations, and the probability of a sum."])
def test_a_sample_is_of_the_domain_that_is_asked_for_or_names_its_own(domain: str, passage: str) -> None:
    for seed in range(60):
        sample = procedural_sample(seed, 1 + seed % 5, passage, domain)
        assert sample.domain == find_domain_independently(sample.input)
        assert (sample.domain == domain) == (domain in procedural.RULED_DOMAINS)
        check(sample.input, sample.output)


def test_a_domain_may_be_spelt_as_the_user_likes() -> None:
    for name in ("Number Theory", "number_theory"):
        sample = procedural_sample(1, 3, "", name)
        assert (sample.domain, find_domain_independently(sample.input)) == (name, "number theory")


def test_a_domain_has_the_nearest_of_its_levels() -> None:
    levels = {
        domain: [
            procedural_solve(procedural_sample(0, level, "", domain).input).difficulty for level in (1, 2, 3, 4, 5, 9)
        ]  # type: ignore[union-attr]
        for domain in sorted(procedural.RULED_DOMAINS)
    }
    assert levels == {
        "algebra": [2, 2, 3, 3, 5, 5],
        "counting and probability": [1, 1, 4, 4, 5, 5],
        "number theory": [2, 2, 3, 3, 3, 3],
        "prealgebra": [1, 1, 4, 4, 4, 4],
    }


def test_without_a_domain_the_samples_are_those_of_write() -> None:
    for seed in range(100):
        sample = procedural_sample(seed, 1 + seed % 5, "Stamps and prime numbers.", "")
        assert (sample.input, sample.output) == procedural.write(
            random.Random(seed), 1 + seed % 5, "Stamps and prime numbers."
        )


def test_the_items_of_the_test_set_know_their_domain() -> None:
    items = list(load_dataset("", "test"))
    assert all(item.domain == find_domain_independently(item.input) for item in items)
    assert {item.domain for item in items} == procedural.RULED_DOMAINS


def test_write_is_deterministic_and_diverse() -> None:
    texts = [procedural.write(random.Random(seed), 4, "")[0] for seed in range(300)]
    assert texts == [procedural.write(random.Random(seed), 4, "")[0] for seed in range(300)]
    assert len(set(texts)) > 270


def test_a_thousand_samples_hardly_repeat_a_problem() -> None:
    for first in (0, 1000, 2000):
        texts = [procedural.write(random.Random(first + n), 1 + n % 5, "")[0] for n in range(1000)]
        assert len(set(texts)) > 980, "the run sets repetitions aside"


@pytest.mark.parametrize("split", ["dev", "test"])
def test_the_generator_cannot_write_held_out_items(split: str) -> None:
    items = procedural.make_held_out_items(split, 600)  # type: ignore[arg-type]
    assert items[:100] == procedural.make_held_out_items(split, 100)  # type: ignore[arg-type]
    assert all(procedural.solve(text) is None for text, _ in items)
    for text, output in items:
        assert process_label(output) == str(read_fraction(check(text, output)))
    assert len({text for text, _ in items}) > 450
    most = Counter(process_label(output) for _, output in items).most_common(1)[0][1]
    assert most < 60, "a constant answer earns too much"


def test_the_splits_share_no_sentence_and_no_thing() -> None:
    forms = (procedural.GENERATOR_FORMS, procedural.DEV_FORMS, procedural.TEST_FORMS)
    assert all(set(form) == set(procedural.KINDS) for form in forms)
    sentences = [form for split in forms for ways in split.values() for form in ways]
    assert len(sentences) == len(set(sentences))
    things = (*procedural.THINGS, *procedural.DEV_THINGS, *procedural.TEST_THINGS)
    assert len(things) == len(set(things))
