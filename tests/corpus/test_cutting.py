"""Long texts are cut at sentence ends, and nothing is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrl.corpus.cutting import cut_text


def pieces(text: str, length: int) -> list[str]:
    return [text[start:end] for start, end in cut_text(text, length)]


def test_pieces_end_with_sentences_and_are_of_about_the_same_length() -> None:
    text = " ".join(f"This is the sentence with the number {number}." for number in range(60))
    found = pieces(text, 500)
    assert all(piece.startswith("This is") and piece.endswith(".") for piece in found)
    lengths = [len(piece) for piece in found]
    assert max(lengths) <= 500
    assert min(lengths) > 300


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("Dr. Smith saw Mr. Jones, e.g. on Monday, at No. 5. He was well and went home.", "No. 5."),
        ("He asked: 'Who is there?' Nobody answered him for a long and very dark time.", "there?'"),
        ("It was 3.5 metres long... and wide. The rest of this text is about other things.", "wide."),
        ("血圧が高い。薬を飲む。心臓の病気である。医者に行く。休むことが大切。", "。"),
        ("هل هو مريض منذ يومين أو ثلاثة أيام؟ نعم، لديه حمى شديدة ويجب أن يرى الطبيب اليوم", "؟"),
        ("A heading of some more words\n\nand a paragraph that is without any full stop but rather long", "words"),
    ],
)
def test_what_a_sentence_end_is(text: str, ends: str) -> None:
    assert pieces(text, len(text) * 3 // 4)[0].endswith(ends)


def test_without_sentences_the_cut_is_at_a_space_and_without_spaces_anywhere() -> None:
    assert pieces("word " * 50, 42) == ["word word word word word word word word"] * 6 + ["word word"]
    assert [len(piece) for piece in pieces("x" * 100, 30)] == [30, 30, 30, 10]


def test_short_and_empty_texts_are_not_cut() -> None:
    assert pieces("  A short text. ", 100) == ["A short text."]
    assert pieces(" \n ", 100) == []


@given(st.text(st.sampled_from("ab .!?。\n\t\u0301é"), max_size=400), st.integers(4, 50))
def test_nothing_but_space_is_lost(text: str, length: int) -> None:
    spans = cut_text(text, length)
    assert all(0 < end - start <= length for start, end in spans)
    at = 0
    for start, end in spans:
        assert not text[at:start].strip()
        at = end
    assert not text[at:].strip()
    assert "".join(text.split()) == "".join("".join(text[start:end].split()) for start, end in spans)
