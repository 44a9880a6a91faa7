from __future__ import annotations

import json
import random
import re
from collections import Counter

from dsrl_tasks.mednli import procedural
from dsrl_tasks.mednli.words import DEV, GENERATOR, TEST
from hypothesis import given, settings
from hypothesis import strategies as st

PASSAGE = (
    "Some people with asthma or gout take aspirin. The left knee and the heart rate are watched, and palpitations."
)
OUTPUT = re.compile(r"<think> [\w ]+ </think> <answer> (entailment|neutral|contradiction) </answer>")


def read_label(output: str) -> str:
    match = OUTPUT.fullmatch(output)
    assert match, output
    return match[1]


def get_hypothesis(text: str) -> str:
    return text.split(" Hypothesis: ")[1]


def sentences(text: str) -> list[str]:
    return [text.split(" Premise: ")[1].split(" Hypothesis: ")[0], get_hypothesis(text)]


@given(st.integers(), st.sampled_from(procedural.LEVELS), st.text())
@settings(max_examples=300, deadline=None)
def test_solve_reads_back_what_write_wrote_on_any_passage(seed: int, level: int, passage: str) -> None:
    text, output = procedural.write(random.Random(seed), level, passage)
    assert procedural.solve(text) == (read_label(output), level)


def test_solve_reads_back_thousands_of_seeds() -> None:
    for seed in range(5000):
        level = procedural.LEVELS[seed % 5]
        text, output = procedural.write(random.Random(seed), level, PASSAGE if seed % 3 else "")
        assert procedural.solve(text) == (read_label(output), level)


@given(st.text())
@settings(deadline=None)
def test_solve_knows_when_a_text_is_not_its_language(text: str) -> None:
    assert procedural.solve(text) is None
    assert procedural.solve(procedural.INPUT_FORM.format(premise=text, hypothesis=text)) is None


def test_write_is_deterministic_and_diverse() -> None:
    def texts(start: int) -> list[str]:
        return [procedural.write(random.Random(seed), 3, PASSAGE)[0] for seed in range(start, start + 300)]

    assert texts(0) == texts(0)
    assert len(set(texts(0))) > 290


def test_samples_rest_on_the_terms_of_the_passage() -> None:
    passage = "A word about gout, asthma and sepsis."
    for seed in range(50):
        assert {"gout", "asthma", "sepsis"} & set(
            re.findall(r"\w+", procedural.write(random.Random(seed), 2, passage)[0])
        )


def test_content_words_name_troubles_where_no_term_is_found() -> None:
    seen = Counter(
        word
        for seed in range(200)
        for word in re.findall(r"(\w+) trouble", procedural.write(random.Random(seed), 3, "Quartz granite basalt")[0])
    )
    assert set(seen) == {"quartz", "granite", "basalt"}


def test_labels_are_balanced() -> None:
    counts = Counter(read_label(procedural.write(random.Random(seed), 1 + seed % 5, "")[1]) for seed in range(6000))
    assert all(abs(counts[name] / 6000 - 1 / 3) < 0.03 for name in procedural.LABELS)
    for split in ("dev", "test"):
        counts = Counter(read_label(output) for _, output in procedural.make_held_out_items(split, 600))
        assert set(counts.values()) == {200}


def test_neither_sentence_depends_on_the_label() -> None:
    """The cues of hypothesis and premise are as frequent with each label."""
    for part in (0, 1):
        cues: dict[str, Counter[str]] = {name: Counter() for name in procedural.LABELS}
        totals: Counter[str] = Counter()
        for seed in range(12000):
            text, output = procedural.write(random.Random(seed), 1 + seed % 5, PASSAGE)
            totals[read_label(output)] += 1
            cues[read_label(output)].update(set(re.findall(r"[a-z]+", sentences(text)[part].lower())))
        for word in sorted(set().union(*cues.values())):
            shares = [cues[name][word] / totals[name] for name in procedural.LABELS]
            assert max(shares) - min(shares) < 0.05, (part, word, shares)


def test_the_generator_cannot_write_held_out_items() -> None:
    """Other sentences, which solve() does not know, and other terms, even where a passage mentions them."""
    own = set().union(*map(set, GENERATOR))
    for split, vocabulary, other in (("dev", DEV, TEST), ("test", TEST, DEV)):
        terms = set().union(*map(set, vocabulary))
        assert not terms & own
        assert not terms & set().union(*map(set, other))
        items = procedural.make_held_out_items(split, 500)
        assert all(procedural.solve(text) is None for text, _ in items)
        passage = " ".join(sorted(terms))
        for seed in range(300):
            text = procedural.write(random.Random(seed), 1 + seed % 5, passage)[0]
            assert not any(re.search(rf"\b{term}\b", text) for term in terms)
    shared = list(zip(procedural.DEV_FORMS, procedural.TEST_FORMS, strict=True))
    assert not any(set(sum(dev, ())) & set(sum(test, ())) for dev, test in shared)


def test_held_out_splits_are_fixed() -> None:
    assert procedural.make_held_out_items("test", 300)[:100] == procedural.make_held_out_items("test", 100)
    assert json.dumps(procedural.make_held_out_items("dev", 50)) == json.dumps(
        procedural.make_held_out_items("dev", 50)
    )
