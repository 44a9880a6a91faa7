"""The tasks math and text2sql keep the contract of tasks."""

from __future__ import annotations

from dsrl.testing import ProceduralTaskContract
from dsrl.types import UNREADABLE


class TestMath(ProceduralTaskContract):
    plugin = "math"
    levels = (1, 2, 3, 4, 5)
    examples = (
        (r"So the answer is $\boxed{\frac{1}{2}}$.", "1/2"),
        (r"\boxed{1,234}", "1234"),
        (r"\boxed{x^2+1}", "x^2+1"),
        (r"\boxed{(1, 2)}", "(1, 2)"),
        ("The answer is 7.", UNREADABLE),
    )


class TestTextToSQL(ProceduralTaskContract):
    plugin = "text2sql"
    levels = (1, 2, 3, 4, 5)
    example_input = "Schema:\nCREATE TABLE pets (name TEXT, age INTEGER);\nQuestion: How many pets are there?"
    examples = (
        ("<think> pets </think> <answer> SELECT COUNT(*)  FROM pets; </answer>", "SELECT COUNT(*) FROM pets"),
        ("<answer>SELECT name FROM pets</answer>", "SELECT name FROM pets"),
        ("SELECT name FROM pets", UNREADABLE),
    )
