from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest

from dsrl.corpus.reader import Corpus, embedded_library
from dsrl.errors import SettingsError, StoreError
from dsrl.pipeline.context import RunContext, make_call_policy
from dsrl.pipeline.instructor import Definition
from dsrl.pipeline.preflight import check_inputs, check_room, check_writable
from dsrl.pipeline.stages.evaluated import load_items
from dsrl.pipeline.stages.trained import UNKNOWN_OUTPUT, get_output_basis
from dsrl.pipeline.teachers import TeacherRole
from dsrl.pipeline.workspace import Workspace
from dsrl.plugins.binding import load
from dsrl.plugins.specs import hookimpl
from dsrl.settings import resolve
from dsrl.storage.evaluations import Evaluation
from dsrl.storage.run_store import RunStore
from dsrl.types import PluginRef, Price, Purpose, TrainJob, TrainStep


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


class FreeTeacher:
    @hookimpl
    async def complete(self) -> None:
        """Never called here."""

    @hookimpl
    def price(self) -> Price:
        return Price(0, 0)


@pytest.fixture
def inputs(bound: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunContext]:
    monkeypatch.chdir(tmp_path)
    CheckedTrainer.jobs = []
    task = load(PluginRef("task", "mednli"), "task")
    sampler, trainer, teacher = (
        bound(kind, made)
        for kind, made in (("sampler", CheckedSampler), ("trainer", CheckedTrainer), ("teacher", FreeTeacher))
    )

    def make(stop_after: str = "evaluated", **settings: Any) -> RunContext:
        resolved = resolve({"task": "mednli", "name": "r", "test_size": 2, **settings})
        return RunContext(
            settings=resolved,
            workspace=Workspace(tmp_path / "runs", tmp_path / ".dsrl"),
            stop_after=stop_after,
            base_model="owner/base",
            task=task,
            retriever=load(PluginRef("retriever", "bm25"), "retriever"),
            sampler=sampler,
            trainer=trainer,
            teachers=dict.fromkeys(get_args(Purpose), TeacherRole(teacher, price=Price(0, 0))),
            policy=make_call_policy(resolved),
            definition=Definition("d", "", "o"),
            domains=(),
            corpus=Corpus([embedded_library()]),
        )

    return make


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


def test_a_folder_is_tried_without_leaving_anything(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b", "--runs-dir")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/b cannot be a folder, .*--runs-dir"):
        check_writable(tmp_path / "file" / "b", "--runs-dir")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="dangling"):
        check_writable(tmp_path / "dangling", "--runs-dir")
    if os.geteuid():  # root may write what it likes
        (tmp_path / "closed").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
        with pytest.raises(StoreError, match="cannot be written"):
            check_writable(tmp_path / "closed" / "b", "--runs-dir")


def test_room_of_folders_on_one_disk_counts_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FakeUsage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda path: FakeUsage)
    check_room({tmp_path / "a": 500, tmp_path / "b": 500}, "it")
    with pytest.raises(StoreError, match=r"it takes at least 1.1 kB, and 1.0 kB is free"):
        check_room({tmp_path / "a": 600, tmp_path / "b": 500}, "it")
