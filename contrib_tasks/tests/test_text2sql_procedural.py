from __future__ import annotations

import random
import re
import sqlite3
from collections import Counter, defaultdict
from typing import Any

import pytest
from dsrl_tasks.text2sql import TextToSQL, procedural
from dsrl_tasks.text2sql.execution import are_equal
from dsrl_tasks.text2sql.queries import find_query, read_input
from hypothesis import given, settings
from hypothesis import strategies as st

OPERATORS = {
    ">": ("above", "over", "greater than"),
    "<": ("below", "under", "less than"),
    "=": ("equal to", "of exactly", "that is"),
}
AGGREGATES = {
    max: ("largest", "highest", "maximum"),
    min: ("smallest", "lowest", "minimum"),
    sum: ("total", "summed", "overall"),
}
Rows = list[dict[str, Any]]


def fill(schema: str, rng: random.Random) -> tuple[sqlite3.Connection, dict[str, Rows]]:
    """Make the tables and fill them. Return the database, and the rows as Python records."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(schema)
    tables: dict[str, Rows] = {}
    for table, columns in re.findall(r"CREATE TABLE (\w+) \(([^)]*)\)", schema):
        names = [column.split() for column in columns.split(", ")]
        rows = []
        for number in range(6):
            row: dict[str, Any] = {
                name: rng.choice("pqr") if kind == "TEXT" else rng.randrange(60) for name, kind in names
            }
            row.update({name: rng.randrange(6) for name in row if name.endswith("_id")})
            row.update({"id": number} if "id" in row else {})
            rows.append(row)
        connection.executemany(
            f"INSERT INTO {table} VALUES ({', '.join('?' * len(names))})", [tuple(row.values()) for row in rows]
        )
        tables[table] = rows
    return connection, tables


def answer_in_python(question: str, tables: dict[str, Rows]) -> list[tuple[Any, ...]]:
    """Answer a question of any split without SQL; shares no code with the generator."""
    words = re.findall(r"\w+", question)
    table = min((name for name in tables if name in words), key=lambda name: "id" in tables[name][0])
    condition = next(
        (
            (match[1], sign, int(match[2]))
            for sign, ways in OPERATORS.items()
            for way in ways
            if (match := re.search(rf"(\w+) {way} (\d+)", question))
        ),
        None,
    )
    aggregate = next(((f, word) for f, ways in AGGREGATES.items() for word in ways if f" {word} " in question), None)

    def holds(row: dict[str, Any]) -> bool:
        assert condition
        column, sign, number = condition
        return bool({">": row[column] > number, "<": row[column] < number, "=": row[column] == number}[sign])

    other = next((name for name in tables if name in words and name != table), None)
    if other:
        ids = {row["id"] for row in tables[other] if holds(row)}
        return [(row["name"],) for row in tables[table] if row[f"{other}_id"] in ids]
    if condition is None:
        groups: dict[str, Rows] = defaultdict(list)
        column = next(re.search(r"(?:each|every) (\w+)", question)[1] for _ in "x")  # type: ignore[index]
        for row in tables[table]:
            groups[row[column]].append(row)
        if aggregate is None:
            return [(name, len(rows)) for name, rows in groups.items()]
        value = question.split(f" {aggregate[1]} ")[1].split()[0]
        return [(name, aggregate[0](row[value] for row in rows)) for name, rows in groups.items()]
    rows = [row for row in tables[table] if holds(row)]
    if aggregate:
        value = question.split(f" {aggregate[1]} ")[1].split()[0]
        return [(aggregate[0](row[value] for row in rows) if rows else None,)]
    if re.search(r"How many|how many|Count|number of", question):
        return [(len(rows),)]
    return [(row["name"],) for row in rows]


def check(text: str, output: str, seed: int) -> str:
    query = find_query(output)
    assert query, output
    question = read_input(text)
    connection, tables = fill(question.schema, random.Random(seed))
    assert Counter(connection.execute(query)) == Counter(answer_in_python(question.text, tables)), text
    connection.close()
    return query


@given(st.integers(), st.sampled_from(procedural.LEVELS), st.text())
@settings(max_examples=200)
def test_solve_reads_back_what_write_wrote_on_any_passage(seed: int, level: int, passage: str) -> None:
    text, output = procedural.write(random.Random(seed), level, passage)
    assert procedural.solve(text) == (check(text, output, seed), level)


def test_thousands_of_samples_are_right() -> None:
    for seed in range(2000):
        level = procedural.LEVELS[seed % 5]
        text, output = procedural.write(random.Random(seed), level, "")
        assert procedural.solve(text) == (check(text, output, seed), level)


@given(st.text())
def test_solve_knows_when_a_text_is_not_its_language(text: str) -> None:
    assert procedural.solve(text) is None
    assert procedural.solve(f"Schema:\nCREATE TABLE pets (name TEXT);\nQuestion: {text}") is None


def test_a_question_about_a_column_that_is_not_there_is_not_solved() -> None:
    question = "Question: How many pets have a weight above 4?"
    assert procedural.solve(f"Schema:\nCREATE TABLE pets (name TEXT, weight INTEGER);\n{question}")
    assert procedural.solve(f"Schema:\nCREATE TABLE pets (name TEXT, age INTEGER);\n{question}") is None


def test_samples_rest_on_the_passage() -> None:
    for seed in range(30):
        assert "CREATE TABLE ships" in procedural.write(random.Random(seed), 2, "Old ships of wood.")[0]


def test_write_is_deterministic_and_diverse() -> None:
    texts = [procedural.write(random.Random(seed), 3, "")[0] for seed in range(300)]
    assert texts == [procedural.write(random.Random(seed), 3, "")[0] for seed in range(300)]
    assert len(set(texts)) > 290


@pytest.mark.parametrize("split", ["dev", "test"])
def test_the_generator_cannot_write_held_out_items(split: str) -> None:
    items = procedural.make_held_out_items(split, 300)  # type: ignore[arg-type]
    assert items[:100] == procedural.make_held_out_items(split, 100)  # type: ignore[arg-type]
    for number, (text, output) in enumerate(items):
        check(text, output, number)
        assert procedural.solve(text) is None


def test_the_splits_share_no_table_and_no_sentence() -> None:
    words = [
        word for split in (procedural.GENERATOR, procedural.DEV, procedural.TEST) for part in split for word in part
    ]
    assert len(words) == len(set(words))
    splits = (procedural.GENERATOR_FORMS, procedural.DEV_FORMS, procedural.TEST_FORMS)
    sentences = [form for split in splits for part in split if isinstance(part, tuple) for form in part]
    assert len(sentences) == len(set(sentences))


def test_the_query_of_another_input_is_wrong() -> None:
    """No query is right for other inputs too, and the right one is right."""
    task = TextToSQL()
    items = procedural.make_held_out_items("test", 40)
    queries = [str(task.process_label(output)) for _, output in items]
    for (text, _), query in zip(items, queries, strict=True):
        schema = read_input(text).schema
        assert are_equal(query.replace("SELECT", "SELECT ALL"), query, schema, "")
        assert not any(are_equal(other, query, schema, "") for other in set(queries) - {query})
