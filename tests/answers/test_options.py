from __future__ import annotations

import pytest

from dsrl.answers.options import find_options, make_comparable

LETTERS = ("A", "B", "C", "D")


@pytest.mark.parametrize(
    "text",
    [
        "Which?\nA. one\nB. two\nC. three",
        "Which?\nA) One\nB) Two.\nC) Three",
        "Which?\n(A) one\n(B) two\n(C) three\n\nAnswer:",
        "Which?\nA: one\nB: two\nC: three\nThink first.",
        "Which?\n- A. one\n- B. two\n- C. three",
        "Which?\n**A.** one\n**B.** two\n**C.** three",
        "Which? A: one B: two C: three",
        "Which? A. one B. two C. three",
        "Which? (A) one (B) two (C) three",
        "Which? CHOICES: A: one,B: two,C: three. Answer:",
        "Vitamin A. is one. B. was a man. Which?\nA. one\nB. two\nC. three",
        "Which?\nＡ．one\nＢ．two\nＣ．three",
    ],
)
def test_the_usual_lists_are_read(text: str) -> None:
    assert find_options(text, LETTERS) == {"A": "one", "B": "two", "C": "three"}


@pytest.mark.parametrize("text", ["", "Which?", "A: one", "B: two C: three", "A: B: C:", "A: one C: three D: four"])
def test_a_text_without_a_list_has_no_options(text: str) -> None:
    assert find_options(text, LETTERS) == {}


def test_only_the_end_of_a_long_input_is_searched() -> None:
    assert find_options("A: one B: two " + "x" * 30_000, LETTERS) == {}
    assert find_options("x" * 10_000_000 + " A: one B: two", LETTERS) == {"A": "one", "B": "two"}


def test_comparable_texts_keep_what_makes_them_differ() -> None:
    assert make_comparable(" **A  Fever.** ") == make_comparable("a fever") == "a fever"
    assert make_comparable("-5") != make_comparable("5")
    assert make_comparable("1.5 kg") != make_comparable("15 kg")
