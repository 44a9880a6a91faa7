"""Planted copies are found, whatever was changed; texts that share only their form are not."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrl.similarity.copies import BLOCK, CopyIndex, cut_span

FORM = "Please read the following report of a patient with great care and decide whether the claim is true. Report:"


def make_sentence(seed: int, n: int) -> str:
    rng = Random(seed)
    return " ".join(f"word{rng.randrange(3000)}" for _ in range(n))


ITEMS = [
    *(f"{FORM} {make_sentence(i, 40)}" for i in range(60)),
    *(make_sentence(i, 9) for i in range(100, 140)),
    *("Is 5 - 3 two?", "我们今天下午要去北京看长城,因为天气很好,而且我们有很多时间可以慢慢走。"),
]
INDEX = CopyIndex(ITEMS)


def find(text: str) -> list[tuple[int, str]]:
    return [(copy.number, copy.rule) for copy in INDEX.find(text)]


@st.composite
def disguised(draw: st.DrawFn, numbers: range) -> tuple[int, str]:
    """Draw an item, and the same text with other letter case, white space and punctuation."""
    number = draw(st.sampled_from(numbers))
    words = ITEMS[number].split()
    change = st.sampled_from([str, str.upper, str.title, lambda w: f"“{w}”", lambda w: f"{w}!?", lambda w: f"*{w}*"])
    space = st.sampled_from([" ", "\n", "\t ", "\u00a0", " — ", "\u200b "])
    return number, "".join(draw(change)(word) + draw(space) for word in words)


@given(disguised(range(100)))
def test_a_copy_in_disguise_is_exact(copy: tuple[int, str]) -> None:
    assert find(copy[1])[0] == (copy[0], "exact")


@given(disguised(range(60)), st.integers(18, 57), st.text("abcdefgh", min_size=1))
def test_a_long_copy_with_one_changed_word_is_found(copy: tuple[int, str], place: int, word: str) -> None:
    words = copy[1].split()
    words[place] = f"q{word}"
    assert find(" ".join(words))[0][0] == copy[0]


@given(st.integers(0, 99), st.text("xyz ", max_size=200), st.text("xyz ", max_size=200))
def test_a_copy_inside_another_text_is_found(number: int, before: str, after: str) -> None:
    assert number in [found for found, _ in find(f"{before} {ITEMS[number]} {after}")]


@given(st.integers(1000, 10**6))
def test_another_text_of_the_same_form_is_no_copy(seed: int) -> None:
    assert find(f"{FORM} {make_sentence(seed, 40)}") == []


@given(st.text())
def test_any_text_can_be_compared(text: str) -> None:
    find(text)


@pytest.mark.parametrize("text", ["", " ", "?!", "Is 5 + 3 two?", "Is 5 / 3 two?", "5", FORM])
def test_short_texts_are_copies_only_if_they_are_equal(text: str) -> None:
    assert find(text) == []
    assert find("is 5 - 3 TWO") == [(100, "exact")]


def test_a_text_without_spaces_is_compared_by_its_characters() -> None:
    piece = ITEMS[101][5:33]
    assert find(f"他说{piece}对吗") == [(101, "13-gram")]
    assert find("我们今天下午要去上海,因为天气很好") == []


def test_the_span_stands_in_the_text_as_it_was_written() -> None:
    changed = ITEMS[0].replace("word", "WORD").split()
    changed[30] = "other"
    (copy,) = INDEX.find("Start. " + "\n".join(changed) + " End.")
    assert (copy.number, copy.rule) == (0, "13-gram")
    assert copy.span == " ".join(changed[31:])
    assert INDEX.find(ITEMS[1])[0].span.startswith("Please read")


def test_copies_are_found_in_huge_texts() -> None:
    filler = make_sentence(777, 3 * BLOCK // 9)
    for text in (f"{ITEMS[5]} {filler}", f"{filler} {ITEMS[5]}", f"{filler} {ITEMS[5]} {filler}"):
        assert find(text) == [(5, "13-gram")]
    assert find("x" * 10_000_000) == []


def test_equal_items_are_all_found_and_do_not_become_a_template() -> None:
    item = make_sentence(1, 30)
    index = CopyIndex([item] * 20 + [make_sentence(i, 30) for i in range(2, 50)])
    changed = " ".join([*item.split()[:29], "last"])
    assert [copy.number for copy in index.find(item)] == list(range(20))
    assert [copy.number for copy in index.find(changed)] == list(range(20))


def test_instructions_and_examples_show_the_form_of_a_single_item() -> None:
    item, sample = f"{FORM} {make_sentence(1, 30)}", f"{FORM} {make_sentence(2, 30)}"
    assert CopyIndex([item]).find(sample) != []
    assert CopyIndex([item], known=[FORM]).find(sample) == []
    assert CopyIndex([item], examples=[f"{FORM} {make_sentence(3, 30)}"]).find(sample) == []
    assert CopyIndex([item], examples=[item]).find(item)[0].rule == "exact"


def test_a_set_without_texts_has_no_copies() -> None:
    assert CopyIndex([]).find("a b c") == []
    assert CopyIndex(["", "?"]).find("?") == []


def test_a_long_span_is_cut_in_its_middle() -> None:
    span = cut_span("a" * 5000 + "\n" + "b" * 5000)
    assert len(span) < 420
    assert (span[0], span[-1]) == ("a", "b")
