from __future__ import annotations

from random import Random

from dsrl.pipeline.duplicates import find_duplicates
from dsrl.types import Sample


def make_sample(slot: int, text: str, label: str = "yes", is_harder: bool = False) -> Sample:
    if is_harder:
        return Sample(f"{slot}h", 1, slot, "harder", text, "o", label, parent=str(slot))
    return Sample(str(slot), 1, slot, "initial", text, "o", label)


def make_words(seed: int, n: int = 60) -> list[str]:
    rng = Random(seed)
    return [f"word{rng.randrange(3000)}" for _ in range(n)]


WORDS = make_words(0)
TEXT = " ".join(WORDS)
NEARLY = " ".join([*WORDS[:50], "other", *WORDS[51:]])


def find(*samples: Sample) -> list[tuple[str, str, str | None]]:
    return [(match.sample, match.rule, match.other) for match in find_duplicates(samples)]


def test_the_first_of_equal_samples_stays() -> None:
    samples = [make_sample(0, "Is it?"), make_sample(1, "No."), make_sample(2, "is IT"), make_sample(3, "Is it!", "no")]
    assert find(*samples) == [("2", "exact", "0"), ("3", "exact", "0")]
    (first, _) = find_duplicates(samples)
    assert (first.meaning, first.span, first.item) == ("duplicate", "is IT", None)


def test_nearly_equal_samples_are_found_with_what_they_share() -> None:
    (match,) = find_duplicates([make_sample(0, TEXT), make_sample(1, " ".join(make_words(1))), make_sample(2, NEARLY)])
    assert (match.sample, match.rule, match.other) == ("2", "near", "0")
    assert match.similarity is not None
    assert 0.8 <= match.similarity < 1
    assert match.span.startswith(" ".join(WORDS[:20]))


def test_another_answer_or_a_rewritten_sample_is_no_near_duplicate() -> None:
    assert find(make_sample(0, TEXT), make_sample(1, NEARLY, "no")) == []
    assert find(make_sample(0, TEXT), make_sample(0, NEARLY, is_harder=True)) == []
    assert find(make_sample(0, TEXT), make_sample(0, TEXT, is_harder=True)) == [("0h", "exact", "0")]
    assert find(make_sample(0, TEXT), make_sample(1, NEARLY, is_harder=True)) == [("1h", "near", "0")]


def test_samples_that_share_a_long_form_are_not_duplicates() -> None:
    form = " ".join(make_words(5, 300))
    samples = [make_sample(i, f"{form} {' '.join(make_words(100 + i, 20))}") for i in range(50)]
    assert find(*samples) == []
    copy = make_sample(50, f"{form} {' '.join(make_words(100, 20)[:-1])} end")
    assert find(*samples, copy) == [("50", "near", "0")]


def test_huge_samples_are_compared_exactly() -> None:
    huge = "word " * 100_000
    assert find(make_sample(0, huge), make_sample(1, huge.upper()), make_sample(2, huge + "x")) == [("1", "exact", "0")]


def test_nothing_is_no_duplicate() -> None:
    assert find() == []
    assert find(make_sample(0, "?"), make_sample(1, "!")) == [], "texts without words are equal only as they are"
