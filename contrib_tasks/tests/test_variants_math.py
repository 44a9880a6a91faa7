"""Every answer of the table earns what it must."""

from __future__ import annotations

import tomllib
from collections import Counter
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from dsrl_tasks import math, text2sql

from dsrl.types import UNREADABLE

VARIANTS = tomllib.loads((Path(__file__).parent / "data/answer_variants_math.toml").read_text(encoding="utf-8"))[
    "variant"
]


class Math:
    """The functions of the module, with the arguments that the hooks of dsrl pass."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def process_label(self, output: str) -> Any:
        return self._module.process_label(output)

    def process_prediction(self, output: str) -> Any:
        return self._module.process_prediction(output)

    def is_right(self, prediction: str, label: str, input: str) -> bool:
        return bool(self._module.is_right(prediction, label))


@lru_cache
def get_task(name: str) -> Any:
    return {"math": Math(math), "text2sql": text2sql.TextToSQL()}[name]


def judge(variant: dict[str, str]) -> str:
    task = get_task(variant["task"])
    label = task.process_label(output=variant["label"])
    assert label is not UNREADABLE
    prediction = task.process_prediction(output=variant["output"])
    if prediction is UNREADABLE:
        return "unreadable"
    return "right" if task.is_right(prediction=prediction, label=label, input=variant["input"]) else "wrong"


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: f"{variant['task']}: {variant['output'][-40:]!r}")
def test_a_variant_has_its_verdict(variant: dict[str, str]) -> None:
    assert judge(variant) == variant["verdict"], variant["why"]


def test_the_table_is_large_and_has_no_doubles() -> None:
    keys = Counter((v["task"], v["input"], v["label"], v["output"]) for v in VARIANTS)
    assert [key for key, count in keys.items() if count > 1] == []
    assert len(VARIANTS) >= 120
