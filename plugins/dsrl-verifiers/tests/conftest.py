"""Environments of verifiers, as small packages that exist for one test."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

_numbers = count()

#: An environment that a test changes: sums, with the answer in a box.
SUMS = '''
"""Add two numbers."""
import verifiers.v1 as vf

class Data(vf.TaskData):
    answer: str

class SumTask(vf.Task[Data]):
    @vf.reward
    async def right(self, trace: vf.Trace) -> float:
        return float(vf.extract_boxed_answer(trace.last_reply) == self.data.answer)

    @vf.reward(weight=0.5)
    async def short(self, trace: vf.Trace) -> float:
        return float(len(trace.last_reply) < 40)

class Config(vf.TasksetConfig):
    num_tasks: int = 12

class Sums(vf.Taskset[SumTask, Config]):
    def load(self):
        for n in range(self.config.num_tasks):
            data = Data(prompt=f"What is {n} + {n + 1}?", system_prompt="Answer in \\\\boxed{}.", answer=str(2 * n + 1))
            yield SumTask(data, self.config.task)

__all__ = ["Sums"]
'''

MakeEnvironment = Callable[..., str]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeEnvironment:
    """Return a function that makes an environment from its source and returns its name."""

    def make(source: str = SUMS, **replaced: str) -> str:
        for old, new in replaced.items():
            assert old in source, old
            source = source.replace(old, new)
        module = f"vf_test_env_{next(_numbers)}"
        package = tmp_path / "environments" / module
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(source, encoding="utf-8")
        monkeypatch.syspath_prepend(package.parent)
        monkeypatch.delitem(sys.modules, module, raising=False)
        importlib.invalidate_caches()
        return module.replace("_", "-")

    return make
