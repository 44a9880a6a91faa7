"""A task drafted from data: what is guessed, and what is refused with its place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrl.errors import DataError, SettingsError
from dsrl.scaffold.draft import Draft, Wishes, draft_task, parse_answer


def draft(folder: Path, rows: Sequence[dict[str, Any]] | str | bytes, **wishes: Any) -> Draft:
    """Draft a task from rows, or from the text of a CSV file."""
    if isinstance(rows, (str, bytes)):
        path = folder / "data.csv"
        path.write_bytes(rows.encode() if isinstance(rows, str) else rows)
    else:
        path = folder / "data.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return draft_task(str(path), Wishes(**wishes))


def outputs(*texts: Any) -> list[dict[str, Any]]:
    return [{"question": f"What is {number}?", "answer": text} for number, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("texts", "form", "choices", "has_marks"),
    [
        (["yes", "no", "Yes", "yes"], "tag", ("yes", "no"), False),
        (["no", "yes"], "tag", ("no", "yes"), False),
        (["B", "A", "B", "C"], "tag", ("B", "A", "C"), False),
        (["It is.\n#### 72", "So #### 1,234"], "hashes", (), True),
        (["so \\boxed{\\frac12}", "\\boxed{2}"], "boxed", (), True),
        (
            ["<think> a </think> <answer> up </answer>"] * 2 + ["<answer> down </answer>"] * 2,
            "tag",
            ("down", "up"),
            True,
        ),
        ([72, "1,234", 3.5, "-2"], "hashes", (), False),
        (["0", "1"] * 6, "tag", ("0", "1"), False),
        (["a long text", "another text", "a third"], "tag", (), False),
    ],
)
def test_the_form_of_an_answer_is_guessed(
    tmp_path: Path, texts: list[Any], form: str, choices: tuple[str, ...], has_marks: bool
) -> None:
    made = draft(tmp_path, outputs(*texts))
    assert (made.form, made.choices, made.has_marks) == (form, choices, has_marks)
    assert made.rows == len(texts)
    assert sum(made.counts.values()) == (len(texts) if choices else 0)


@pytest.mark.parametrize(
    ("header", "inputs", "output"),
    [
        ("Question,ANSWER", ("Question",), "ANSWER"),
        ("id,text,label", ("text",), "label"),
        ("complaint,label", ("complaint",), "label"),
        ("text,department", ("text",), "department"),
        ("a,b", ("a",), "b"),
    ],
)
def test_columns_are_guessed(tmp_path: Path, header: str, inputs: tuple[str, ...], output: str) -> None:
    row = ",".join("x" for _ in header.split(","))
    made = draft(tmp_path, f"{header}\n{row}\n")
    assert (made.input_columns, made.output_column) == (inputs, output)


def test_several_columns_make_an_input(tmp_path: Path) -> None:
    text = "premise,the_hypothesis,label\nA dog.,It barks.,yes\nA cat.,It barks.,no\n"
    made = draft(tmp_path, text, input_columns=("premise", "The_Hypothesis"))
    assert made.input_columns == ("premise", "the_hypothesis")
    assert made.demonstrations[0].input == "Premise: A dog.\nThe hypothesis: It barks."


def test_doubts_are_told(tmp_path: Path) -> None:
    assert "say nothing" in draft(tmp_path, "a,b\nx,y\n").doubts[0]
    assert "Not used: 'id'" in draft(tmp_path, "id,text,label\n1,x,yes\n2,y,no\n").doubts[0]
    assert "from 4 rows only" in draft(tmp_path, outputs("up", "up", "down", "down")).doubts[0]
    assert "'updown'" in draft(tmp_path, outputs(*["up", "down"] * 15, "updown")).doubts[0]
    assert "free texts" in draft(tmp_path, outputs("a b", "c d", "e f")).doubts[0]


def test_demonstrations_show_different_answers_first(tmp_path: Path) -> None:
    made = draft(tmp_path, outputs("up", "up", "up", "down", "down"), demonstrations=2)
    assert [demo.output for demo in made.demonstrations] == ["up", "down"]


@pytest.mark.parametrize(
    ("content", "wishes", "words"),
    [
        (
            "colour,shape,size\na,b,c\n",
            {},
            "data.csv:2: cannot be read as an item (which column is the input? The columns are",
        ),
        (
            "text,label\na,b\n",
            {"output_column": "class"},
            "--output-column 'class': there is no such column; the columns are",
        ),
        ("text,label\na,b\n", {"input_columns": ("label",), "output_column": "label"}, "cannot be both"),
        (
            "text,label\na,yes\nb,no\nc,maybe\n",
            {"answer": "tag:yes,no"},
            "data.csv:4: cannot be read as an item (the label 'ma",
        ),
        (
            "text,label\na,1\nb,two\n",
            {"answer": "hashes"},
            "data.csv:3: cannot be read as an item (the output 'two' is not a",
        ),
        ("text,label\na,\n", {}, "data.csv:2: cannot be read as an item (the column 'label' is empty)"),
        ("", {}, "holds no items"),
        ("text,label\n", {}, "holds no items"),
        (b"text,label\nok,a\n\xe9t\xe9,b\n", {}, "data.csv:3 is not UTF-8 text"),
        (b"\xff\xfet\x00e\x00", {}, "data.csv:1 is not UTF-8 text"),
    ],
)
def test_wrong_data_is_refused_with_its_place(
    tmp_path: Path, content: str | bytes, wishes: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError) as caught:
        draft(tmp_path, content, **wishes)
    assert words in str(caught.value)


@pytest.mark.parametrize("value", ["sum", "choice", "tag:Yes,yes", ":yes"])
def test_an_answer_that_is_no_form_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="--answer"):
        parse_answer(value)


def test_an_answer_can_have_choices() -> None:
    assert parse_answer("tag: yes, no ,yes") == ("tag", ("yes", "no"))
    assert parse_answer("hashes") == ("hashes", ())
    assert parse_answer("") == (None, ())


@given(rows=st.lists(st.tuples(st.text(), st.text() | st.integers() | st.booleans()), min_size=1, max_size=8))
def test_any_rows_make_a_draft_or_an_error(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    try:
        made = draft(tmp_path_factory.mktemp("rows"), [{"text": text, "label": label} for text, label in rows])
    except DataError:
        return
    assert made.rows == len(rows)
    assert made.form in ("tag", "hashes", "boxed")
