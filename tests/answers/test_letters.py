from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrl.answers.letters import read_letter
from dsrl.answers.wording import make_lead
from dsrl.types import UNREADABLE

LETTERS = ("A", "B", "C", "D")
OPTIONS = {"A": "ampicillin", "B": "ceftriaxone", "C": "vitamin c", "D": "a and b"}
LEAD = make_lead(LETTERS)


def read(text: str, options: dict[str, str] = OPTIONS) -> object:
    return read_letter(text, LETTERS, options, LEAD)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B: Ceftriaxone", "B"),
        ("B Ceftriaxone", "B"),
        ("the answer is ceftriaxone", "B"),
        ("Ceftriaxone (B)", "B"),
        ("Vitamin C", "C"),
        ("C. Vitamin C", "C"),
        ("A and B", "D"),
        ("D: A and B", "D"),
        ("B because A is wrong", "B"),
        ("B, not A", "B"),
        ("b) ceftriaxone", "B"),
        ("I would say that option B fits", "B"),
        ("B: Ampicillin", UNREADABLE),
        ("Ceftriaxone (A)", UNREADABLE),
        ("A or B", UNREADABLE),
        ("A. Actually, it is B", UNREADABLE),
        ("not B", UNREADABLE),
        ("B is wrong", UNREADABLE),
        ("A patient has it", UNREADABLE),
        ("A: Ampicillin B: Ceftriaxone C: Vitamin C D: A and B", UNREADABLE),
    ],
)
def test_letter_text_and_sentence(text: str, letter: object) -> None:
    assert read(text) == letter


def test_two_options_with_the_same_text_cannot_be_told_apart_by_it() -> None:
    assert read("fever", {"A": "fever", "B": "fever"}) is UNREADABLE
    assert read("B: fever", {"A": "fever", "B": "fever"}) == "B"


@given(
    st.lists(
        st.sampled_from([*"ABCDab ().,:;-/\n", "and ", "or ", "not ", "is ", "because ", "Vitamin C"]), max_size=12
    )
)
def test_any_text_is_a_letter_or_unreadable(pieces: list[str]) -> None:
    assert read("".join(pieces)) in (*LETTERS, UNREADABLE)


@given(
    st.sampled_from(LETTERS), st.sampled_from([" and ", " or ", ", ", "/", " & ", "; ", " "]), st.sampled_from(LETTERS)
)
def test_two_letters_are_no_answer(first: str, between: str, second: str) -> None:
    if first != second:
        assert read(f"{first}{between}{second}", {}) is UNREADABLE
