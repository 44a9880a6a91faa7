from __future__ import annotations

import random
import re

from dsrl_tasks.gsm8k import procedural
from hypothesis import given, settings
from hypothesis import strategies as st


def answer(output: str) -> str:
    steps, final = output.split(" #### ")
    total = None
    for step in steps.split(". "):
        match = re.fullmatch(r"(\d+) ([-+*]) (\d+) = (\d+)", step)
        assert match, output
        left, sign, right, result = int(match[1]), match[2], int(match[3]), int(match[4])
        assert {"+": left + right, "-": left - right, "*": left * right}[sign] == result
        assert total is None or left == total
        total = result
    assert total == int(final) > 0
    return final


@given(st.integers(), st.sampled_from(procedural.LEVELS), st.text())
@settings(max_examples=300, deadline=None)
def test_solve_reads_back_what_write_wrote_on_any_passage(seed: int, level: int, passage: str) -> None:
    text, output = procedural.write(random.Random(seed), level, passage)
    assert procedural.solve(text) == (answer(output), level)


def test_solve_reads_back_thousands_of_seeds() -> None:
    passage = "Blood tests count white cells and platelets; many patients keep journals."
    for seed in range(5000):
        level = procedural.LEVELS[seed % 5]
        text, output = procedural.write(random.Random(seed), level, passage if seed % 3 else "")
        assert procedural.solve(text) == (answer(output), level)


@given(st.text())
@settings(deadline=None)
def test_solve_knows_when_a_text_is_not_its_language(text: str) -> None:
    assert procedural.solve(text) is None
    assert procedural.solve(f"Ann has 3 apples. {text}. How many apples does Ann have now?") is None


def test_write_is_deterministic_and_diverse() -> None:
    texts = [procedural.write(random.Random(seed), 3, "")[0] for seed in range(300)]
    assert texts == [procedural.write(random.Random(seed), 3, "")[0] for seed in range(300)]
    assert len(set(texts)) > 290


def test_problems_rest_on_the_passage() -> None:
    for seed in range(50):
        assert "stamps" in procedural.write(random.Random(seed), 2, "He collected stamps.")[0]
        assert "granite cards" in procedural.write(random.Random(seed), 2, "About granites.")[0]


def test_the_generator_cannot_write_held_out_items() -> None:
    own = procedural.GENERATOR
    for split, vocabulary in (("dev", procedural.DEV), ("test", procedural.TEST)):
        assert not set(vocabulary.things) & set(own.things)
        assert not set(vocabulary.names) & set(own.names)
        items = procedural.make_held_out_items(split, 500)
        assert all(procedural.solve(text) is None for text, _ in items)
        assert items[:100] == procedural.make_held_out_items(split, 100)
        for text, output in items:
            answer(output)
            assert any(thing in text for thing in vocabulary.things)
        passage = " ".join(vocabulary.things)
        for seed in range(100):
            text = procedural.write(random.Random(seed), 3, passage)[0]
            assert not any(re.search(rf"\b{thing}\b", text) for thing in vocabulary.things)
