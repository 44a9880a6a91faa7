from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrl.answers.characters import write_plainly


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("７２", "72"),
        ("（Ｂ）：ｎｏ", "(B):no"),
        ("٧٢", "72"),
        ("𝟕𝟐", "72"),
        ("−3 – 4 — 5", "-3 - 4 - 5"),
        ("a\u00a0b\u3000c", "a b c"),
        ("7\u200b2\ufeff\u00ad", "72"),
        ("“it’s”", '"it\'s"'),
        ("é日本", "é日本"),
    ],
)
def test_characters_have_a_plain_form(text: str, plain: str) -> None:
    assert write_plainly(text) == plain


def test_superscripts_and_fractions_are_no_digits_of_a_number() -> None:
    """Unicode's NFKC would make 210 of 2¹⁰, and 11/2 of 1½."""
    assert write_plainly("2¹⁰ 1½ ①") == "2¹⁰ 1½ ①"


@given(st.text())
def test_plain_text_stays_as_it_is(text: str) -> None:
    plain = write_plainly(text)
    assert write_plainly(plain) == plain


def test_no_more_characters_are_remembered_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    from dsrl.answers import characters

    monkeypatch.setattr(characters, "_MOST_REMEMBERED", 0)
    before = len(characters._plain_forms)
    assert write_plainly("\U0001d7ff\U0001d7fe") == "98"
    assert len(characters._plain_forms) == before
