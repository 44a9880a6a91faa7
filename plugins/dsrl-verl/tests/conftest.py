"""The package is not part of the default environment; its tests find it all the same."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dsrl import Prompt, TrainItem, TrainJob
from dsrl.testing.fixtures import bound, install  # noqa: F401 - pytest finds them here

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

MakeJob = Callable[..., TrainJob]


def make_items(count: int = 8, is_chat: bool = False) -> tuple[TrainItem, ...]:
    """Make items whose input is their number."""
    return tuple(
        TrainItem(f"1-{n}", Prompt(f"Is {n} even?", is_chat=is_chat), f"Is {n} even?", "no" if n % 2 else "yes")
        for n in range(count)
    )


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    """Return a function that makes a small job; its arguments replace fields."""

    def make(**fields: Any) -> TrainJob:
        usual: dict[str, Any] = {
            "model": "base",
            "items": make_items(),
            "output_dir": tmp_path / "run" / "model",
            "work_dir": tmp_path / "run" / "work",
            "learning_rate": 1e-3,
            "epochs": 2,
            "batch_size": 4,
            "group_size": 4,
            "temperature": 1.0,
            "top_p": 1.0,
            "kl_coef": 0.001,
            "max_completion_tokens": 8,
            "max_prompt_tokens": 64,
            "seed": 1,
            "device": "cpu",
        }
        return TrainJob(**{**usual, **fields})

    return make
