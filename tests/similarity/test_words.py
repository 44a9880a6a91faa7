from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrl.similarity.words import is_character, join_words, split_words


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("How MANY apples?", "how many   apples"),
        ("ﬁne “quoted” text…", "fine quoted text"),
        ("Ｆｕｌｌ ｗｉｄｔｈ １２", "full width 12"),
        ("don't, don’t", "dont dont"),
        ("a well-known fact", "a well known fact"),
        ("soft\u00adhyphen zero\u200bwidth", "softhyphen zerowidth"),
        ("it costs 1,234 dollars.", "It costs 1234 dollars"),
        ("5 − 3", "5 - 3"),
        ("in 1990 – the year", "in 1990, the year"),
        ("a *bold* word — or two", "a bold word or two"),
        ("*a* list of *3* things", "a list of 3 things"),
        ("the report *of* *a* patient", "the report of a patient"),
        ("Straße", "STRASSE"),
        ("e\u0301tude", "étude"),
    ],
)
def test_what_does_not_count(text: str, other: str) -> None:
    assert split_words(text) == split_words(other)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("12 / 3", "12 - 3"),
        ("12 * 3", "12 3"),
        ("x + 3", "x - 3"),
        ("x = -3", "x = 3"),
        ("from -3 to 4", "from 3 to 4"),
        ("x = -y", "x = y"),
        ("x > y", "x < y"),
        ("3.5 apples", "35 apples"),
        ("1, 23", "12, 3"),
        ("x^2", "x*2"),
        ("5 - -3", "5 - 3"),
    ],
)
def test_numbers_and_the_signs_between_them_count(text: str, other: str) -> None:
    assert join_words(split_words(text)) != join_words(split_words(other))


def test_scripts_without_spaces_are_split_into_characters() -> None:
    assert split_words("我有3个苹果。abc") == ["我", "有", "3", "个", "苹", "果", "abc"]
    assert split_words("กำลังดี") == ["ก", "ำ", "ล", "ั", "ง", "ด", "ี"] or all(map(is_character, split_words("กำลังดี")))
    assert split_words("हिन्दी भाषा") == ["हिन्दी", "भाषा"], "a script with spaces keeps its words and their vowel signs"
    assert not is_character("abc")


@given(st.text())
def test_any_text_has_words_in_normal_form(text: str) -> None:
    words = split_words(text)
    assert all(words)
    assert not any(character.isspace() for word in words for character in word)
    assert split_words(text.upper().lower()) == split_words(text.upper())


@given(st.text(alphabet=st.characters(codec="ascii")), st.sampled_from(["\n", "  ", "\t"]))
def test_white_space_does_not_count(text: str, space: str) -> None:
    assert split_words(text.replace(" ", space)) == split_words(text)
