"""A run context that works without a provider: a task with two domains, a free teacher, a sampler and an idle trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest

from dsrl.corpus.embedded import embedded_library
from dsrl.corpus.reader import Corpus
from dsrl.pipeline.context import RunContext, make_call_policy
from dsrl.pipeline.instructor import Definition
from dsrl.pipeline.progress import SilentProgress
from dsrl.pipeline.run_tasks import RunTask
from dsrl.pipeline.runtime import OpenRun
from dsrl.pipeline.teachers import TeacherRole
from dsrl.pipeline.workspace import Workspace
from dsrl.plugins.binding import load
from dsrl.plugins.specs import hookimpl
from dsrl.settings import resolve
from dsrl.storage.run_store import RunStore
from dsrl.types import Completion, PluginRef, Price, Purpose, Reply, Request, TrainJob

MakeContext = Callable[..., RunContext]


class FreeTeacher:
    """Writes the same sample to every request, and answers votes with it."""

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        return Completion((Reply('{"input": "Is it?", "output": "<answer>entailment</answer>"}'),) * request.n)

    @hookimpl
    def price(self) -> Price:
        return Price(0, 0)


class FixedSampler:
    """Answers every prompt with the same label."""

    @hookimpl
    async def sample(self, prompts: Sequence[str], n: int) -> list[list[str]]:
        return [["<answer>entailment</answer>"] * n for _ in prompts]


class IdleTrainer:
    """Does nothing."""

    @hookimpl
    def train(self, job: TrainJob) -> None: ...


@pytest.fixture
def make_context(bound: Any, tmp_path: Path) -> MakeContext:
    """Return a function that makes a context; ``plugins`` replaces the sampler and the trainer, the rest are settings."""

    def make(stop_after: str = "evaluated", plugins: dict[str, Any] | None = None, **settings: Any) -> RunContext:
        classes = {"sampler": FixedSampler, "trainer": IdleTrainer, "teacher": FreeTeacher} | (plugins or {})
        sampler, trainer, teacher = (bound(kind, classes[kind]) for kind in ("sampler", "trainer", "teacher"))
        resolved = resolve({"task": "mednli", "name": "r", "test_size": 2, **settings})
        return RunContext(
            settings=resolved,
            workspace=Workspace(tmp_path / "runs", tmp_path / ".dsrl"),
            stop_after=stop_after,
            base_model="owner/base",
            tasks={
                "": RunTask(
                    "mednli",
                    load(PluginRef("task", "mednli"), "task"),
                    Definition("d", "", "o"),
                    teachers=dict.fromkeys(get_args(Purpose), TeacherRole(teacher, price=Price(0, 0))),
                )
            },
            retriever=load(PluginRef("retriever", "bm25"), "retriever") if resolved.passages else None,
            sampler=sampler,
            trainer=trainer,
            policy=make_call_policy(resolved),
            corpus=Corpus([embedded_library()]),
        )

    return make


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[RunStore]:
    store = RunStore(tmp_path / "runs" / "r")
    yield store
    store.close()


@pytest.fixture
def make_run(make_context: MakeContext, open_store: RunStore) -> Callable[..., OpenRun]:
    """Return a function that makes an open run; it takes the arguments of ``make_context``."""
    return lambda *args, **settings: OpenRun(make_context(*args, **settings), open_store, SilentProgress())
