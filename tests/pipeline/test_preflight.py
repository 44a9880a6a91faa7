from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dsrl.errors import SettingsError, StoreError
from dsrl.pipeline.context import RunContext
from dsrl.pipeline.preflight import check_inputs
from dsrl.pipeline.stages.evaluated import load_items
from dsrl.pipeline.stages.trained import UNKNOWN_OUTPUT, get_output_basis
from dsrl.plugins.binding import load
from dsrl.plugins.specs import hookimpl
from dsrl.storage.evaluations import Evaluation
from dsrl.storage.run_store import RunStore
from dsrl.types import PluginRef, TrainJob, TrainStep


class CheckedSampler:
    @hookimpl
    async def sample(self, prompts: Sequence[str], n: int) -> list[list[str]]:
        return [["x"] * n for _ in prompts]

    @hookimpl
    def check(self) -> None:
        raise SettingsError("the sampler is not there")


class CheckedTrainer:
    jobs: list[TrainJob] = []  # noqa: RUF012 - of one test at a time

    @hookimpl
    def train(self, job: TrainJob, on_step: Callable[[TrainStep], None]) -> None:
        """Never called here."""

    @hookimpl
    def check(self, job: TrainJob) -> None:
        self.jobs.append(job)
        raise SettingsError("the trainer is not there")


@pytest.fixture
def inputs(make_context: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., RunContext]:
    monkeypatch.chdir(tmp_path)
    CheckedTrainer.jobs = []
    plugins = {"sampler": CheckedSampler, "trainer": CheckedTrainer}
    return lambda stop_after="evaluated", **settings: make_context(stop_after, plugins, **settings)


def evaluate_all(store: RunStore) -> None:
    """Answer the test items of :func:`inputs` as both models."""
    items = load_items(load(PluginRef("task", "mednli"), "task"), "", 2)
    store.replace_items(items)
    for model in ("base", "trained"):
        store.add_evaluations([Evaluation(model, n, "t", label, True) for n, (_, label) in enumerate(items)])


def test_sampler_and_trainer_are_checked_where_the_run_reaches_them(inputs: Any, tmp_path: Path) -> None:
    for early in ("keywords", "verified"):
        assert check_inputs(inputs(early)) is None
    for stage in ("attempted", "evaluated"):
        with pytest.raises(SettingsError, match="the sampler"):
            check_inputs(inputs(stage))
    assert CheckedTrainer.jobs == []
    assert list(tmp_path.glob("runs")) == []
    store = RunStore(tmp_path / "runs" / "r")
    evaluate_all(store)
    store.close()
    with pytest.raises(SettingsError, match="the trainer"):
        check_inputs(inputs(output_model="out"))
    (job,) = CheckedTrainer.jobs
    assert (job.model, job.items, job.output_dir) == ("owner/base", (), Path("out"))
    assert job.work_dir == tmp_path / "runs" / "r" / "rounds" / "1" / "training"


def test_what_is_done_is_not_checked_again(inputs: Any, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model").write_text("x")
    now = inputs(output_model="out")
    with pytest.raises(StoreError, match="not empty"):
        check_inputs(now)
    store = RunStore(tmp_path / "runs" / "r")
    evaluate_all(store)
    store.stages.begin(1, "trained", get_output_basis(now.settings, 1))
    with pytest.raises(SettingsError, match="the trainer"):
        check_inputs(now)
    store.stages.finish(1, "trained")
    assert check_inputs(now) is not None
    with pytest.raises(SettingsError, match="give --output-model out again"):
        check_inputs(inputs(output_model="other"))
    store.stages.finish(1, "trained", UNKNOWN_OUTPUT)  # an early version of dsrl did not record the folder
    assert check_inputs(now) is not None
    store.stages.set_unpaid(1, {"initial": 3})  # a larger budget makes samples and trains anew
    with pytest.raises(SettingsError, match="the sampler"):
        check_inputs(now)
    store.close()
