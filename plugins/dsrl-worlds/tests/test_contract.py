"""The tasks, the teacher and the base models keep the contracts of their kinds."""

from __future__ import annotations

from dsrl import Message, Request
from dsrl.testing import ModelContract, ProceduralTaskContract, TeacherContract
from dsrl.types import UNREADABLE


class TestChains(ProceduralTaskContract):
    plugin = "chains"
    levels = (1, 2, 3, 4)
    example_input = "n4 op2 op5 ="
    examples = (
        ("n7 n30 .", "n30"),
        ("n7 .", "n7"),
        (" n7  n30 . ", "n30"),
        ("n7 n30", UNREADABLE),
        ("n7 n32 .", UNREADABLE),
        ("n7 op1 n30 .", UNREADABLE),
        ("n7 n30 c0 .", UNREADABLE),
        ("n7 n30 . n31", UNREADABLE),
    )


class TestChainClasses(ProceduralTaskContract):
    plugin = "chain_classes"
    levels = (1, 2, 3, 4)
    example_input = "n4 op2 op5 ="
    examples = (
        ("n7 n30 c0 .", "c0"),
        ("n7 n30 c1 .", "c1"),
        ("c2 .", "c2"),
        ("n7 n30 .", UNREADABLE),
        ("n7 n30 c0", UNREADABLE),
        ("n7 c1 c0 .", UNREADABLE),
    )


class TestNoisy(TeacherContract):
    plugin, task = "noisy", "chains"

    def make_request(self, n: int = 1, first: int = 0) -> Request:
        variables = {"input": "n4 op2 op5 ="}
        return Request("solve", "", (Message("user", "n4 op2 op5 ="),), 0.7, 64, n=n, first=first, variables=variables)


class TestFirstModel(ModelContract):
    plugin = "chains-1"


class TestSecondModel(ModelContract):
    plugin = "chains-2"


class TestThirdModel(ModelContract):
    plugin = "chains-3"
