"""The words of texts in any script."""

from __future__ import annotations

import pytest
from dsrl_bm25.words import MAX_LENGTH, WordReader, list_languages
from hypothesis import given
from hypothesis import strategies as st

READER = WordReader(str.split, {language: lambda text: [text[:4]] for language in list_languages()})


@pytest.mark.parametrize(
    ("text", "words", "query"),
    [
        ("plain English", [], []),
        ("the “dose” – naïve", [], []),
        ("血圧計 and 熱", ["血", "圧", "計", "血圧", "圧計", "熱"], ["血圧", "圧計", "熱"]),
        ("ﾀﾞ", ["ダ", "ダ"], ["ダ", "ダ"]),
        ("دَواء", ["دواء"], ["دواء"]),
        ("давление", ["давл"], ["давл"]),
        ("मधुमेह है।", ["मधुमेह", "है"], ["मधुमेह", "है"]),
        ("ＣＴ scan", ["CT"], ["CT"]),
    ],
)
def test_words(text: str, words: list[str], query: list[str]) -> None:
    assert (READER.read(text), READER.read(text, is_query=True)) == (words, query)


@given(st.text(max_size=200))
def test_any_text_has_words_without_spaces(text: str) -> None:
    words = READER.read(text)
    assert all(len(word) <= MAX_LENGTH and not word.split()[1:] for word in words)
    assert set(READER.read(text, is_query=True)) <= set(words)
