"""The tasks keep the contract of tasks."""

from __future__ import annotations

from dsrl.testing import ProceduralTaskContract
from dsrl.types import UNREADABLE


class TestMedNLI(ProceduralTaskContract):
    plugin = "mednli"
    levels = (1, 2, 3, 4, 5)
    examples = (
        ("<think> He has a fever. </think> <answer> Entailment </answer>", "entailment"),
        ("<answer>neutral</answer>", "neutral"),
        ("<answer>contradiction</answer>", "contradiction"),
        ("entailment", UNREADABLE),
    )


class TestGSM8K(ProceduralTaskContract):
    plugin = "gsm8k"
    levels = (1, 2, 3, 4, 5)
    examples = (("3 + 4 = 7 #### 7", "7"), ("#### 1,200", "1200"), ("The answer is 7.", UNREADABLE))
