from __future__ import annotations

import re
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsrl.answers import FORMS, AnswerFormat
from dsrl.types import UNREADABLE

LABELS = ("entailment", "neutral", "contradiction")
FORMATS = (
    AnswerFormat("tag"),
    AnswerFormat("tag", LABELS),
    AnswerFormat("tag", ("A", "B", "C", "D")),
    AnswerFormat("boxed"),
    AnswerFormat("boxed", ("A", "B")),
    AnswerFormat("hashes"),
    AnswerFormat("hashes", ("yes", "no")),
    AnswerFormat("choice", LABELS),
    AnswerFormat("choice", ("==", "not equal")),
)
formats = st.sampled_from(FORMATS)
# Text that often comes near an answer.
pieces = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "<answer>",
                "</answer>",
                "<think>",
                "\\boxed{",
                "{",
                "}",
                "####",
                "#",
                "A",
                "neutral",
                "1,234.50",
                "-",
                "$",
            ]
        ),
        st.text(max_size=8),
    ),
    max_size=20,
).map("".join)


def wrapped(answer_format: AnswerFormat, answer: str) -> str:
    """Write an answer in its form, with thoughts before it."""
    bare = {
        "tag": f"<think> so </think> <answer> {answer} </answer>",
        "boxed": f"so \\boxed{{{answer}}}.",
        "hashes": f"so\n#### {answer}",
        "choice": answer,
    }
    return bare[answer_format.form]


# --- any format ------------------------------------------------------------------------------------------------------


@given(formats, st.one_of(st.text(), pieces))
@settings(max_examples=200)
def test_any_text_is_read_or_unreadable_and_never_raises(answer_format: AnswerFormat, text: str) -> None:
    answer = answer_format.extract(text)
    assert answer is UNREADABLE or (isinstance(answer, str) and answer)
    if answer_format.choices and answer is not UNREADABLE:
        assert answer in answer_format.choices


@given(formats, st.one_of(st.text(), pieces))
@settings(max_examples=200)
def test_a_canonical_answer_stays_as_it_is(answer_format: AnswerFormat, text: str) -> None:
    answer = answer_format.canonical(text)
    if answer is not UNREADABLE:
        assert answer_format.canonical(answer) == answer


@given(formats.filter(lambda f: f.form != "choice"), pieces, pieces)
@settings(max_examples=150)
def test_a_readable_answer_is_read_back_from_its_form(answer_format: AnswerFormat, before: str, text: str) -> None:
    answer = answer_format.canonical(text)
    if answer is UNREADABLE or set(answer) & set("{}<>#"):
        return
    output = f"{before} {wrapped(answer_format, answer)}"
    # An answer in a thinking part that is still open does not count.
    is_open = output.rfind("<think>") > output.rfind("</think>")
    assert answer_format.extract(output) == (UNREADABLE if is_open else answer)


@pytest.mark.parametrize("answer_format", FORMATS[:7], ids=str)
def test_the_last_answer_counts(answer_format: AnswerFormat) -> None:
    first, last = answer_format.choices[:2] if answer_format.choices else ("1", "2")
    assert answer_format.extract(f"{wrapped(answer_format, first)} no, {wrapped(answer_format, last)}") == last


@pytest.mark.parametrize("answer_format", FORMATS[:7], ids=str)
def test_an_answer_out_of_its_form_is_unreadable(answer_format: AnswerFormat) -> None:
    bare = answer_format.choices[0] if answer_format.choices else "1"
    assert answer_format.extract(f"The answer is {bare}") is UNREADABLE
    assert answer_format.extract("") is UNREADABLE
    assert answer_format.extract(wrapped(answer_format, " ")) is UNREADABLE


@pytest.mark.parametrize(
    "piece", ["1", "9,", "-", "$-", ".", "1.", "<answer>", "</answer>", "\\boxed{", "{", "}", "#", "A ", "neutral "]
)
def test_hostile_repeats_are_read(piece: str) -> None:
    """Longer than any answer; a reader that is quadratic in its input would not end here."""
    text = piece * (200_000 // len(piece))
    for answer_format in FORMATS:
        for output in (text, wrapped(answer_format, text)):
            answer = answer_format.extract(output)
            assert answer is UNREADABLE or isinstance(answer, str)


@pytest.mark.parametrize("form", ["tag", "boxed", "hashes"])
def test_an_answer_of_more_than_a_million_digits_is_read(form: Literal["tag", "boxed", "hashes"]) -> None:
    digits = "1" * 1_000_001
    answer_format = AnswerFormat(form)
    assert answer_format.extract(wrapped(answer_format, digits)) in (digits, UNREADABLE)


@pytest.mark.parametrize("answer_format", FORMATS, ids=str)
def test_the_instruction_names_the_form_and_the_choices(answer_format: AnswerFormat) -> None:
    words = answer_format.instruction()
    mark = {"tag": "<answer>", "boxed": "\\boxed{}", "hashes": "####", "choice": "Answer"}[answer_format.form]
    assert mark in words
    if answer_format.form in ("tag", "choice"):
        assert all(choice in words for choice in answer_format.choices)


def test_a_format_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=re.escape("'tags' is not one of " + ", ".join(FORMS))):
        AnswerFormat("tags")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'choice' needs its choices"):
        AnswerFormat("choice")


# --- tag -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("<answer>neutral</answer>", "neutral"),
        ("<think>a</think>\n<answer>\n two  words\n</answer>", "two words"),
        ("<answer>one <answer>two</answer>", "two"),
        ("<answer>one</answer> or <answer>two", UNREADABLE),
        ("<answer></answer>", UNREADABLE),
        ("</answer><answer>", UNREADABLE),
        ("<answer>neutral", UNREADABLE),
        ("neutral</answer>", UNREADABLE),
    ],
)
def test_tag(output: str, answer: object) -> None:
    assert AnswerFormat("tag").extract(output) == answer


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("<result>yes</result>", "yes"),
        ("<ANSWER>Yes</Answer>", "yes"),
        ("<answer>yes", "yes"),
        ("<answer> Yes.\n", "yes"),
        ("<answer> yes because", UNREADABLE),
        ("<answer>no</answer> or <answer>", UNREADABLE),
        ("<think> <answer>yes</answer> </think>", UNREADABLE),
        ("<think> <answer>yes</answer>", UNREADABLE),
        ("<think> <answer>no</answer> </think> <answer>yes</answer>", "yes"),
        ("<answer> yes or no </answer>", UNREADABLE),
    ],
)
def test_tag_with_choices(output: str, answer: object) -> None:
    assert AnswerFormat("tag", ("yes", "no")).extract(output) == answer


@pytest.mark.parametrize(
    "words", ["your answer", "Your final answer here", "the correct option here", "[your answer]", "..."]
)
def test_the_words_of_an_instruction_are_no_answer(words: str) -> None:
    assert AnswerFormat("tag").extract(f"<answer> {words} </answer>") is UNREADABLE
    assert AnswerFormat("boxed").extract(f"\\boxed{{{words}}}") is UNREADABLE


@pytest.mark.parametrize("answer_format", FORMATS[:7], ids=str)
def test_a_copied_instruction_is_no_answer(answer_format: AnswerFormat) -> None:
    assert answer_format.extract(answer_format.instruction()) is UNREADABLE


def test_the_options_of_the_input_are_read() -> None:
    letters = AnswerFormat("tag", ("A", "B"))
    assert letters.extract("<answer>fever</answer>", "Which? A: cough B: fever") == "B"
    assert letters.canonical("fever", "Which? A: cough B: fever") == "B"


def test_the_text_of_an_answer_is_found_as_it_stands() -> None:
    assert AnswerFormat("tag").find("<think> a </think> <answer> b  c </answer>") == " b  c "
    assert AnswerFormat("tag").find("<answer>b") is None
    assert AnswerFormat("tag").find("<think> <answer>b</answer>") is None
    assert AnswerFormat("boxed").find(r"\boxed{1} \boxed{2}") == "2"
    assert AnswerFormat("hashes").find("#### 3/4 \nb") == "3/4"
    assert AnswerFormat("choice", ("a", "b")).find("</think>a") == "a"


def test_the_choice_at_an_index() -> None:
    letters = AnswerFormat("tag", ("A", "B", "C"))
    assert letters.choice_at(" 2 ") == "C"
    for index in ("3", "-1", "", "A", "2.0", "9" * 5000, "²"):
        assert letters.choice_at(index) is UNREADABLE


# --- boxed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        (r"\boxed{5}", "5"),
        (r"$\boxed{\frac{1}{\sqrt{2}}}$.", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\boxed{3}}", "3"),
        (r"\boxed{\left\{ 1, 2 \right\}}", r"\left\{ 1, 2 \right\}"),
        (r"\boxed{1} then \boxed{2} end}", "2"),
        (r"\boxed{}", UNREADABLE),
        (r"\boxed{ }", UNREADABLE),
        (r"\boxed{\frac{1}{2}", UNREADABLE),
        ("boxed{5}", UNREADABLE),
    ],
)
def test_boxed(output: str, answer: object) -> None:
    assert AnswerFormat("boxed").extract(output) == answer


@given(st.recursive(st.text(alphabet="ab1 ", min_size=1, max_size=3), lambda s: s.map(lambda t: f"x{{{t}}}")))
def test_boxed_reads_nested_braces_whole(inner: str) -> None:
    found = AnswerFormat("boxed").extract(f"so \\boxed{{{inner}}} }} done")
    assert found == (" ".join(inner.split()) or UNREADABLE)


# --- hashes ----------------------------------------------------------------------------------------------------------


def test_hashes_reads_scientific_notation_or_says_that_it_cannot() -> None:
    """1e5 is no 1: a wrong reading would be worse than none."""
    assert AnswerFormat("hashes").extract("#### 1e5") in ("100000", UNREADABLE)
    assert AnswerFormat("hashes").extract("#### 1e999999999") is not None


@given(st.integers())
def test_hashes_keeps_every_digit_of_an_integer(number: int) -> None:
    assert AnswerFormat("hashes").extract(f"#### {number}") == str(number)
    assert AnswerFormat("hashes").extract(f"#### {number:,}.00") == str(number)


def test_hashes_keeps_every_digit_of_long_numbers() -> None:
    digits = "1234567890" * 4 + "7"
    assert AnswerFormat("hashes").canonical(digits) == digits
    assert AnswerFormat("hashes").canonical(f"0.{digits}") == f"0.{digits}"


@pytest.mark.parametrize(
    ("output", "number"),
    [
        ("3 + 4 = 7 #### 7", "7"),
        ("#### 1\nno\n#### 2\nThat is 2.", "2"),
        ("#### Answer:\n2", "2"),
        ("#### 12\n+ 3", UNREADABLE),
        ("#### 12\n- 3 of them are red", "12"),
        ("#### 1\nno: ####", UNREADABLE),
        ("<think> #### 1 </think> so", UNREADABLE),
        ("<think> #### 1", UNREADABLE),
        ("#### your answer", UNREADABLE),
    ],
)
def test_hashes(output: str, number: object) -> None:
    assert AnswerFormat("hashes").extract(output) == number


# --- choices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("neutral", "neutral"),
        ("NEUTRAL", "neutral"),
        (" Neutral. ", "neutral"),
        ("'neutral'", "neutral"),
        ("**Neutral**", "neutral"),
        ("the answer: Neutral!", "neutral"),
        ("neutral neutral", "neutral"),
        ("neutral or contradiction", UNREADABLE),
        ("neutrality", UNREADABLE),
        ("no idea", UNREADABLE),
        ("", UNREADABLE),
    ],
)
def test_choices_are_read_without_case_and_only_if_one_is_named(text: str, choice: object) -> None:
    assert AnswerFormat("choice", LABELS).extract(text) == choice
    assert AnswerFormat("tag", LABELS).extract(f"<answer>{text}</answer>") == choice


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("B: because A is wrong", "B"),
        ("Option C", "C"),
        ("Because", UNREADABLE),
        ("E", UNREADABLE),
        ("", UNREADABLE),
    ],
)
def test_letters_are_read(text: str, letter: object) -> None:
    assert AnswerFormat("tag", ("A", "B", "C", "D")).extract(f"<answer>{text}</answer>") == letter


def test_a_choice_of_several_words_is_read_over_line_ends() -> None:
    answer_format = AnswerFormat("choice", ("strongly agree", "disagree"))
    assert answer_format.extract("I Strongly\nAgree.") == "strongly agree"


def test_a_choice_without_letters_is_not_read_into_an_empty_answer() -> None:
    answer_format = AnswerFormat("tag", ("==", "not equal"))
    assert answer_format.extract("<answer> == </answer>") == "=="
    assert answer_format.extract("<answer> </answer>") is UNREADABLE
    assert answer_format.extract("<answer> ? </answer>") is UNREADABLE
