from __future__ import annotations

import time

import pytest
from dsrl_tasks.text2sql.queries import find_literals, find_query, has_order, make_input, read_input, read_query
from hypothesis import given
from hypothesis import strategies as st

pieces = st.lists(
    st.sampled_from(
        [
            *(
                "<answer>",
                "</answer>",
                "<think>",
                "</think>",
                "```sql\n",
                "```",
                "SELECT ",
                "WITH ",
                "'",
                '"',
                "`",
                "[",
                "]",
            ),
            *("--", "/*", "*/", "\n", " ", ";", "(", ")", "ORDER ", "BY ", "x", "1.5", "é", "\x00", "\ud800"),
        ]
    ),
    max_size=30,
).map("".join)


@given(st.one_of(st.text(), pieces))
def test_any_output_has_a_query_or_none(output: str) -> None:
    for query in (find_query(output), read_query(output)):
        if query is not None:
            assert read_query(query) == query
            has_order(query)
            find_literals(query)


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("SELECT  a\n FROM t ;", "SELECT a FROM t"),
        ("SELECT 'a  b', \"c  d\" FROM t", "SELECT 'a  b', \"c  d\" FROM t"),
        ("SELECT 'it''s -- no comment'", "SELECT 'it''s -- no comment'"),
        ("SELECT a -- a comment\nFROM t", "SELECT a FROM t"),
        ("SELECT a /* one\ntwo */ FROM t", "SELECT a FROM t"),
        ("select*from t", "select*from t"),
        ("selection", None),
        ("", None),
        ("INSERT INTO t VALUES (1)", None),
        ("SELECT " + "a" * 30_000, None),
    ],
)
def test_a_query_has_one_spelling(text: str, query: str | None) -> None:
    assert read_query(text) == query


@pytest.mark.parametrize(
    "text",
    [
        "SELECT " + "/*" * 4900,
        "SELECT " + "'" * 9900,
        "SELECT " + "[" * 9900,
        "<answer>" * 10**6,
        "SELECT " + "(" * 9900,
    ],
    ids=lambda text: text[:10],
)
def test_a_hostile_text_takes_less_than_a_second(text: str) -> None:
    start = time.process_time()
    read_query(text)
    find_query(f"<answer>{text}</answer>")
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("query", "is_ordered"),
    [
        ("SELECT a FROM t ORDER BY a", True),
        ("SELECT a FROM t order  by a LIMIT 1", True),
        ("SELECT a FROM (SELECT a FROM t ORDER BY a)", False),
        ("SELECT rank() OVER (ORDER BY a) FROM t", False),
        ("SELECT 'ORDER BY' FROM t", False),
        ("SELECT a FROM t -- ORDER BY a", False),
        ('SELECT "order" BY', False),
    ],
)
def test_the_order_counts_for_an_order_by_outside_brackets(query: str, is_ordered: bool) -> None:
    assert has_order(query) is is_ordered


def test_literals() -> None:
    assert find_literals("SELECT a1 FROM t WHERE b > 30 AND c = 1.5 AND d LIKE '%it''s%' AND e = \"x\"") == (
        (30, 1.5),
        ("it's", "x"),
    )


@pytest.mark.parametrize("database", ["", "concert_singer"])
def test_an_input_is_read_as_it_was_written(database: str) -> None:
    text = make_input("CREATE TABLE t (a);\nCREATE TABLE u (b);", "Which? Question: one or two?"[:6], database)
    assert read_input(text) == (database, "CREATE TABLE t (a);\nCREATE TABLE u (b);", "Which?")


@given(st.text())
def test_any_input_can_be_read(text: str) -> None:
    read_input(text)
    assert (
        read_input(f"Schema: CREATE TABLE t (a); Question: {text}").schema.startswith("CREATE") or "Question:" in text
    )
