"""Text to SQL: write a query for SQLite that answers a question about given tables.

The form of an input is ours, and so are the words of the instructions::

    Database: concert_singer          (only if the tables are in a file of the option ``databases``)
    Schema:
    CREATE TABLE singer (name TEXT, age INTEGER);
    INSERT INTO singer VALUES ('Ann', 30);
    Question: How many singers are older than 20?

``eval`` runs both queries in a child process, on a copy of the named database, or on tables in memory that the schema of
the input makes. The rows must be the same, on the given rows and on several instances with other rows, so that a wrong query
seldom passes by chance. A query can only read: it cannot write, attach or read another file, and time, steps, rows and
memory are limited.

Without ``--dataset-path`` the models are evaluated on a procedural test set of our own, which is no known benchmark
(:mod:`dsrl_tasks.text2sql.procedural`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Literal

from dsrl import UNREADABLE, DatasetInfo, Example, SettingsError, Solved, hookimpl
from dsrl.types import Answer

#: Number of items of the procedural test set.
TEST_ITEMS = 600


class TextToSQL:
    """The task.

    Args:
        databases: folder with the databases that the inputs name: ``FOLDER/NAME/NAME.sqlite``, as Spider and BIRD have it.

    Raises:
        SettingsError: there is no such folder.
    """

    def __init__(self, databases: str = "") -> None:
        if databases and not Path(databases).is_dir():
            raise SettingsError(f"option databases={databases}: there is no such folder")
        self._databases = databases

    @hookimpl
    def description(self) -> str:
        """Return the description of the task."""
        return (
            "Each input shows the tables of a small SQLite database and asks a question about their contents. Translate the "
            "question into one SQL query that returns exactly what is asked for, whatever rows the tables hold."
        )

    @hookimpl
    def input_instruction(self) -> str:
        """Return the form of an input."""
        return (
            "An input begins with the word 'Schema:' and the CREATE TABLE statements of one to three tables, perhaps with "
            "INSERT statements for a few rows. It ends with the word 'Question:' and one question that a query can answer."
        )

    @hookimpl
    def output_instruction(self) -> str:
        """Return the instruction on how to answer."""
        return (
            "First think inside <think> </think>: which tables, columns and conditions are needed. Then write one SQLite "
            "query inside <answer> </answer>."
        )

    @hookimpl
    def process_prediction(self, output: str) -> Answer:
        """Return the query in the last answer tag, in one spelling of spaces."""
        from dsrl_tasks.text2sql.queries import find_query

        return find_query(output) or UNREADABLE

    @hookimpl
    def process_label(self, output: str) -> Answer:
        """Return the query in a gold output, which may also be the bare query."""
        from dsrl_tasks.text2sql.queries import find_query, read_query

        return find_query(output) or read_query(output) or UNREADABLE

    @hookimpl(specname="eval")
    def is_right(self, prediction: str, label: str, input: str) -> bool:
        """Return whether two queries return the same rows on the tables of the input."""
        if prediction == label:
            return True
        from dsrl_tasks.text2sql.comparison import are_equal
        from dsrl_tasks.text2sql.data import find_database
        from dsrl_tasks.text2sql.queries import read_input

        question = read_input(input)
        database = find_database(self._databases, question.database)
        if database is None and not question.schema:
            return False
        return are_equal(prediction, label, "" if database else question.schema, str(database or ""))

    @hookimpl
    def dataset_info(self) -> DatasetInfo:
        """Return what BIRD is: the code of the paper evaluates text to SQL on its databases."""
        return DatasetInfo(
            id="",
            license="CC BY-SA 4.0",
            citation=(
                "Li et al. 2023, Can LLM Already Serve as A Database Interface? A BIg Bench for Large-Scale Database "
                "Grounded Text-to-SQLs, arXiv:2305.03111"
            ),
            url="https://bird-bench.github.io/",
            sizes={"train": 9428, "dev": 1534},
        )

    @hookimpl
    def load_dataset(self, path: str, split: Literal["train", "test"]) -> Iterable[Example]:
        """Read questions with queries; without a path, make the procedural test set."""
        from dsrl_tasks.text2sql import procedural
        from dsrl_tasks.text2sql.data import read_questions

        if not path:
            return [Example(*item) for item in procedural.make_held_out_items("test", TEST_ITEMS)]
        return read_questions(path, split, self._databases)

    @hookimpl
    def procedural_sample(self, seed: int, difficulty: int, passage: str) -> Example:
        """Write a sample by rules; a difficulty above the hardest level gives a sample of the hardest level."""
        from dsrl_tasks.text2sql import procedural

        level = min(max(difficulty, 1), max(procedural.LEVELS))
        return Example(*procedural.write(Random(seed), level, passage))

    @hookimpl
    def procedural_solve(self, input: str) -> Solved | None:
        """Solve an input that ``procedural_sample`` wrote."""
        from dsrl_tasks.text2sql import procedural

        solution = procedural.solve(input)
        return Solved(f"<think> </think> <answer> {solution.label} </answer>", solution.level) if solution else None
