from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrl.answers.numbers import read_number
from dsrl.types import UNREADABLE


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("72", "72"),
        ("1,234.50", "1234.5"),
        ("1,234,567", "1234567"),
        ("$5", "5"),
        ("$1,000.00", "1000"),
        ("-3", "-3"),
        ("−3", "-3"),
        ("–3", "-3"),
        ("-$3", "-3"),
        ("$-3", "-3"),
        ("+4", "4"),
        ("12.0", "12"),
        ("0.50", "0.5"),
        (".5", "0.5"),
        ("-0.0", "0"),
        ("007", "7"),
        ("5%", "5"),
        ("5 %", "5"),
        ("12 apples.", "12"),
        ("12 km/h", "12"),
        ("12 m²", "12"),
        ("The answer is 12.", "12"),
        ("**12**", "12"),
        ("x + y = 12", "12"),
        ("5,", "5"),
        ("７２", "72"),
        ("1\u202f234", "1234"),
        (r"\$1{,}234 \text{ dollars}", "1234"),
        ("1e2", "100"),
        ("1/2", "0.5"),
        ("-3/8", "-0.375"),
        ("1/3", "1/3"),
        ("1/1024", "0.0009765625"),
        ("none", UNREADABLE),
        ("$", UNREADABLE),
        ("-", UNREADABLE),
        ("", UNREADABLE),
    ],
)
def test_a_number_is_read_as_people_write_it(text: str, number: object) -> None:
    assert read_number(text) == number


@pytest.mark.parametrize(
    "text",
    [
        *("2^10", "2**10", "2¹⁰", "5*6", "7-3", "7 - 3", "48+24", "48 + 24 = 72", "144/2", "6/4", "0/2", "3/0", "3/1"),
        *("1½", "½", "1 1/2", "5!", "√9", r"\frac{3}{4}", r"\frac12", r"2 \times x", "2x", "72 * x", "x - 72", "x_2"),
        *(
            "12:30",
            "1.2.3",
            "2024-05-01",
            "12,34",
            "0,72",
            "1e400",
            "0x1F",
            "3.33...",
            "72k",
            "5 million",
            "--72",
            "- 72",
        ),
        *("3 or 4", "between 3 and 4", "3, 4", "> 72", "at least 72", "72 or so", "not 72", "72 is wrong", "x != 72"),
        *("twenty 5", "5 thirds", "72 and a half", "9" * 1500),
    ],
)
def test_a_piece_of_an_expression_or_of_a_choice_is_no_number(text: str) -> None:
    assert read_number(text) is UNREADABLE


@given(st.integers())
def test_every_digit_of_an_integer_is_kept(number: int) -> None:
    for text in (f"{number}", f"{number:,}.00", f"${number}", f"{number}%", f"**{number}**", f"{number} apples"):
        assert read_number(text) == str(number)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=4))
def test_equal_numbers_are_written_alike(number: Decimal) -> None:
    plain = read_number(f"{number:f}")
    assert plain == read_number(f"{number:,f}") == read_number(f"{number:f}00")
    assert plain is not UNREADABLE
    assert Decimal(plain) == number


@given(st.integers(-1000, 1000), st.integers(2, 1000))
def test_a_fraction_in_lowest_terms_is_exact(above: int, below: int) -> None:
    answer, value = read_number(f"{above}/{below}"), Fraction(above, below)
    if value.denominator == below and above:
        assert answer is not UNREADABLE
        assert Fraction(answer) == value
        assert read_number(answer) == answer
    else:
        assert answer is UNREADABLE


@given(st.lists(st.sampled_from("0123456789.,-+$%/ eE()x*="), max_size=12).map("".join))
def test_a_canonical_number_stays_as_it_is(text: str) -> None:
    answer = read_number(text)
    assert answer is UNREADABLE or read_number(answer) == answer


@given(
    st.integers(0, 999),
    st.sampled_from(["+", "-", "*", "/", "^", ":", " x ", "·", " or ", " and ", ", "]),
    st.integers(0, 999),
)
def test_two_numbers_never_give_one_of_them(left: int, between: str, right: int) -> None:
    assert read_number(f"{left}{between}{right}") not in (str(left), str(right))
