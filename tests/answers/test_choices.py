from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrl.answers.choices import read_bare_choice, read_choice
from dsrl.types import UNREADABLE

LABELS = ("entailment", "neutral", "contradiction")


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("neutral", "neutral"),
        (" Neutral. ", "neutral"),
        ("**NEUTRAL**", "neutral"),
        ("the answer: Neutral!", "neutral"),
        ("neutral neutral", "neutral"),
        ("neutral, because it is no contradiction", "neutral"),
        ("ｎｅｕｔｒａｌ", "neutral"),
        ("neutral or contradiction", UNREADABLE),
        ("not neutral", UNREADABLE),
        ("neutral is wrong", UNREADABLE),
        ("It isn't neutral", UNREADABLE),
        ("neutral. No, wait", UNREADABLE),
        ("neutrality", UNREADABLE),
        ("no idea", UNREADABLE),
        ("", UNREADABLE),
        ("neutral " * 2000, UNREADABLE),
    ],
)
def test_words(text: str, choice: object) -> None:
    assert read_choice(text, LABELS) == choice


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("Yes.", "Yes"),
        ("yes, it may", "Yes"),
        ("Yes, since there is no limit", "Yes"),
        ("No, it does not", "No"),
        ("No it may not", "No"),
        ("No limit", UNREADABLE),
        ("There is no limit", UNREADABLE),
        ("Yes and no", UNREADABLE),
        ("Yes/No", UNREADABLE),
        ("not yes", UNREADABLE),
    ],
)
def test_yes_and_no_count_only_where_an_answer_stands(text: str, choice: object) -> None:
    assert read_choice(text, ("Yes", "No")) == choice


def test_the_longest_name_is_read_first() -> None:
    choices = ("agree", "strongly agree", "not sure")
    assert read_choice("I strongly\nagree.", choices) == "strongly agree"
    assert read_choice("I am not sure", choices) == "not sure"
    assert read_choice("entailment", ("entailment", "not entailment")) == "entailment"
    assert read_choice("It is not entailment", ("entailment", "not entailment")) == "not entailment"


def test_letters_are_read_with_the_options_of_the_input() -> None:
    assert read_choice("fever", ("A", "B"), "Which? A: cough B: fever") == "B"
    assert read_choice("fever", ("A", "B")) is UNREADABLE


def test_a_choice_without_letters_is_itself() -> None:
    choices = ("==", "not equal")
    assert read_choice(" == ", choices) == "=="
    assert read_choice("?", choices) is UNREADABLE


def test_a_bare_name_and_nothing_else() -> None:
    assert read_bare_choice(" Neutral.\n", LABELS) == "neutral"
    assert read_bare_choice("neutral because", LABELS) is UNREADABLE
    assert read_bare_choice("the answer is neutral", LABELS) is UNREADABLE


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4), st.text(max_size=30))
def test_any_choices_and_any_text(choices: list[str], text: str) -> None:
    answer = read_choice(text, tuple(choices), text)
    assert answer in (*choices, UNREADABLE)


@given(st.sampled_from([LABELS, ("Yes", "No"), tuple("ABCD"), ("strongly agree", "agree", "not sure")]), st.data())
def test_every_choice_is_its_own_canonical_form(choices: tuple[str, ...], data: st.DataObject) -> None:
    choice = data.draw(st.sampled_from(choices))
    form = data.draw(st.sampled_from(["{}", " {}.", "**{}**", "({})", "The answer is {}.", '"{}"']))
    assert read_choice(form.format(choice), choices) == choice
