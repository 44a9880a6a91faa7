from __future__ import annotations

import time

import pytest
from dsrl_tasks.math import process_label, process_prediction
from dsrl_tasks.math.answers import find_answer, read, read_number
from dsrl_tasks.math.latex import LONGEST_ANSWER
from hypothesis import given
from hypothesis import strategies as st

from dsrl.types import UNREADABLE

# Text that often comes near an answer.
pieces = st.lists(
    st.sampled_from(
        [
            *(
                "\\boxed{",
                "{",
                "}",
                "\\{",
                "\\}",
                "(",
                ")",
                "[",
                "]",
                ",",
                " ",
                "-",
                "+",
                "=",
                "<",
                "\\le",
                ".",
                "/",
                "^",
                "_",
                "$",
            ),
            *(
                "\\frac",
                "\\sqrt",
                "\\text{",
                "\\pm",
                "\\cup",
                "\\begin{pmatrix}",
                "\\end{pmatrix}",
                "\\\\",
                "&",
                "\\%",
                "%",
            ),
            *(
                "1",
                "23",
                "0",
                "1,234",
                ".5",
                "x",
                "pi",
                "or",
                "and",
                "cm",
                "^\\circ",
                "½",
                "²",
                "−",
                "５",
                "\\overline{3}",
                "\\",
            ),
            *("<think>", "</think>", "\n", "\\fbox{", "\\in", "\\infty"),
        ]
    ),
    max_size=30,
).map("".join)


@given(pieces)
def test_reading_never_fails_and_is_stable(text: str) -> None:
    structure = read(text)
    if structure is not None and len(spelling := structure.render()) <= LONGEST_ANSWER and spelling.strip():
        again = read(spelling)
        assert again is not None


@given(st.one_of(st.text(), pieces))
def test_any_output_has_an_answer_or_none(output: str) -> None:
    for answer in (process_prediction(output), process_label(output)):
        assert answer is UNREADABLE or (isinstance(answer, str) and answer)


@given(st.fractions(max_denominator=1000))
def test_a_fraction_is_read_in_all_its_spellings(value: object) -> None:
    top, bottom = value.numerator, value.denominator  # type: ignore[attr-defined]
    for text in (f"{top}/{bottom}", rf"\frac{{{top}}}{{{bottom}}}", rf"\dfrac{{{3 * top}}}{{{3 * bottom}}}"):
        structure = read(text)
        assert structure is not None
        assert structure.value == value
    assert process_prediction(rf"\boxed{{{top}/{bottom}}}") == str(value)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9))
def test_a_decimal_is_read_exactly(value: object) -> None:
    from fractions import Fraction

    for text in (f"{value:f}", f"{value:,f}"):
        assert read_number(text) == Fraction(str(value))


@pytest.mark.parametrize(
    ("output", "content"),
    [
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed {5}", "5"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{1} \text{ and } \boxed{2}", "2"),
        (r"$\boxed{1}$ and $\boxed{2}$", "1, 2"),
        (r"\boxed{1}, \boxed{2}, or \boxed{3}", "1, 2, 3"),
        (r"\boxed{1}. So \boxed{2}", "2"),
        (r"\boxedanswer{5}", None),
        ("", None),
    ],
)
def test_the_box_is_found(output: str, content: str | None) -> None:
    assert find_answer(output) == content


@pytest.mark.parametrize(
    "output",
    [
        r"\boxed{" + "9" * 10_000_000 + "}",
        r"\boxed{" * 1_000_000,
        r"\boxed{1}," * 1_000_000,
        "<think>" * 1_000_000,
        r"\boxed{" + "{" * 999 + "}" * 999 + "}",
        r"\boxed{" + "(" * 990 + "1" + ")" * 990 + "}",
        r"\boxed{" + "(1," * 400 + "1" + ")" * 400 + "}",
        r"\boxed{" + "+" * 1900 + "}",
        r"\boxed{" + "√(" * 900 + "}",
        r"\boxed{" + r"\text{a" * 300 + "}" * 301,
        r"\boxed{" + "1 " * 900 + "}",
        r"\boxed{" + "1," * 900 + "}",
        r"\boxed{" + " " * 1900 + "}",
    ],
    ids=lambda output: output[:24],
)
def test_a_hostile_output_takes_less_than_a_second(output: str) -> None:
    start = time.process_time()
    process_prediction(output)
    assert time.process_time() - start < 1


def test_the_label_of_a_solution_is_in_its_last_box() -> None:
    solution = r"We have $\boxed{3}$ ways at first, so $3 \cdot 4 = \boxed{12}$."
    assert process_label(solution) == "12"
    assert process_label("12") == "12"
    assert process_label(r"\boxed{12") is UNREADABLE
