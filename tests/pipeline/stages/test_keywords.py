from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrl.errors import RowRefused
from dsrl.pipeline.instructor import Definition
from dsrl.pipeline.stages.keywords import find_keywords, read_keywords
from dsrl.types import Example


@pytest.mark.parametrize(
    ("text", "keywords"),
    [
        ("medicine\nsurgery\n", ["medicine", "surgery"]),
        ("medicine, surgery,  internal   medicine", ["medicine", "surgery", "internal medicine"]),
        ("1. medicine\n2) surgery\n10. care", ["medicine", "surgery", "care"]),
        ("- medicine\n* surgery\n• care\n· nursing", ["medicine", "surgery", "care", "nursing"]),
        ("\"medicine\"\n'surgery'\n`care`.", ["medicine", "surgery", "care"]),
        ('1. "medicine"\n2. **surgery**\n3. `care`', ["medicine", "surgery", "care"]),
        ("**medicine**\n- **surgery**", ["medicine", "surgery"]),
        ("Medicine\nmedicine\nMEDICINE", ["Medicine"]),
        ("medicine\r\n\r\nsurgery", ["medicine", "surgery"]),
        (
            "3D imaging\n5-HT receptors\n19th century medicine",
            ["3D imaging", "5-HT receptors", "19th century medicine"],
        ),
        ("C++\nnon-linear models", ["C++", "non-linear models"]),
        ("x" * 81 + "\nmedicine", ["medicine"]),
        ("", []),
        ("- \n1.\n...", []),
    ],
)
def test_keywords_are_read_without_bullets_numbers_quotes_and_doubles(text: str, keywords: list[str]) -> None:
    assert read_keywords(text) == keywords


@given(st.text())
def test_any_text_gives_few_short_different_keywords(text: str) -> None:
    keywords = read_keywords(text)
    assert len(keywords) <= 16
    assert len({word.casefold() for word in keywords}) == len(keywords)
    assert all(word.strip() and len(word) <= 80 for word in keywords)


def test_the_teacher_sees_the_description_and_three_demonstrations(asking: Any) -> None:
    demos = tuple(Example(f"demo {number}", "x") for number in range(5))
    definition = Definition("Add numbers.", "in", "out", demos)
    keywords, (request,) = asking(lambda request, number: "arithmetic\nsums", lambda i: find_keywords(i, definition))
    assert keywords == ["arithmetic", "sums"]
    (message,) = request.messages
    assert request.purpose == "keywords"
    assert request.variables == {"description": "Add numbers."}
    assert "Add numbers." in message.content
    assert ["demo 2" in message.content, "demo 3" in message.content] == [True, False]


def test_a_refused_request_names_no_keywords(asking: Any, definition: Definition) -> None:
    """The run then searches with the description; a refusal of one row must never end the run with a traceback."""
    keywords, _ = asking(lambda request, number: RowRefused("content_filter"), lambda i: find_keywords(i, definition))
    assert keywords == []
