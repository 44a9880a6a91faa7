from __future__ import annotations

import pytest

from dsrl.answers.wording import CORRECTION, REASON, find_words, make_lead, remove_marks


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("The answer is B", "B"),
        ("So, the correct option is: (B)", "B)"),
        ("I'd go with B", "B"),
        ("The answer isn't B", "isn't B"),
        ("B is the answer", "B is the answer"),
        ("Answering B", "Answering B"),
    ],
)
def test_words_that_lead_to_an_answer(text: str, rest: str) -> None:
    match = make_lead(("A", "B")).match(text)
    assert match is not None
    assert text[match.end() :] == rest


def test_a_word_that_is_a_choice_leads_to_nothing() -> None:
    match = make_lead(("correct", "incorrect")).match("It is correct")
    assert match is not None
    assert match.end() == len("It is ")


def test_marks_are_removed() -> None:
    assert remove_marks(r"**\text{B}** <b>so</b></s>") == "B  so"


def test_words_reasons_and_corrections() -> None:
    assert find_words("It isn't B-2!") == ("it", "isn't", "b", "2")
    assert REASON.search("B because")
    assert not REASON.search("B becausal")
    assert CORRECTION.search("A, no wait, B")
