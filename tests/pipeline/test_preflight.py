from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from run_contexts import edit_tasks

from dsrl.errors import DataError, PluginError, SettingsError, StoreError, TeacherError
from dsrl.pipeline.context import RunContext
from dsrl.pipeline.preflight import check_inputs, describe_foreign_task
from dsrl.pipeline.stages.evaluated import load_items
from dsrl.pipeline.stages.trained import UNKNOWN_OUTPUT, get_output_basis
from dsrl.plugins.binding import load
from dsrl.plugins.specs import hookimpl
from dsrl.storage.attempts import Attempt
from dsrl.storage.evaluations import Evaluation
from dsrl.storage.run_store import RunStore
from dsrl.testing import SmallTask
from dsrl.types import Example, PluginRef, Price, Sample, TrainJob, TrainStep


class CheckedSampler:
    @hookimpl
    async def sample(self, prompts: Sequence[str], n: int) -> list[list[str]]:
        return [["x"] * n for _ in prompts]

    @hookimpl
    def check(self) -> None:
        raise SettingsError("the sampler is not there")


class CheckedTrainer:
    jobs: list[TrainJob] = []  # noqa: RUF012 - of one test at a time
    tasks: list[str] = []  # noqa: RUF012

    @hookimpl
    def train(self, job: TrainJob, on_step: Callable[[TrainStep], None]) -> None:
        """Never called here."""

    @hookimpl
    def check(self, job: TrainJob, task: Any) -> None:
        self.jobs.append(job)
        self.tasks.append(task.ref.name)
        raise SettingsError("the trainer is not there")


@pytest.fixture
def inputs(make_context: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., RunContext]:
    monkeypatch.chdir(tmp_path)
    CheckedTrainer.jobs, CheckedTrainer.tasks = [], []
    plugins = {"sampler": CheckedSampler, "trainer": CheckedTrainer}
    return lambda stop_after="evaluated", **settings: make_context(stop_after, plugins, **settings)


def evaluate_all(store: RunStore) -> None:
    """Answer the test items of :func:`inputs` as both models."""
    items = load_items(load(PluginRef("task", "mednli"), "task"), "", 2)
    store.replace_items(items)
    for model in ("base", "trained"):
        store.add_evaluations([Evaluation(model, n, "t", item.label, True) for n, item in enumerate(items)])


def return_nan() -> float:
    return float("nan")


def fail() -> float:
    raise KeyError("lost")


@pytest.mark.parametrize(
    ("give", "words"), [(return_nan, "reward returned nan"), (fail, "reward failed with KeyError")]
)
def test_a_reward_that_always_fails_is_told_before_a_teacher_is_paid(
    inputs: Any, bound: Any, give: Callable[[], float], words: str
) -> None:
    class BadReward(SmallTask):
        @hookimpl
        def reward(self) -> float:
            return give()

    task = bound("task", BadReward())
    demos = (Example("Is it?", "<answer>yes</answer>"),)
    with pytest.raises(PluginError, match=words):
        check_inputs(edit_tasks(inputs(), {"demos": demos}, plugin=task))
    # A command that does not train pays no rewards.
    assert check_inputs(edit_tasks(inputs("verified"), {"demos": demos}, plugin=task)) is None


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
    assert CheckedTrainer.tasks == ["mednli"], "a trainer with workers checks whether they can bind it"
    (job,) = CheckedTrainer.jobs
    assert (job.model, job.output_dir) == ("owner/base", Path("out"))
    shortest = min((item.input for item in load_items(load(PluginRef("task", "mednli"), "task"), "", 2)), key=len)
    assert [(item.input, item.label) for item in job.items][-1] == (shortest, ""), "how long a prompt is, and no label"
    assert all(item.input in item.prompt for item in job.items)
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


# --- a base model that was trained for other tasks -------------------------------------------------------------------


def price_teacher(context: RunContext, price: Price | None) -> RunContext:
    """Give the teachers of a context a price, and its base model other tasks."""
    teachers = {purpose: replace(role, price=price) for purpose, role in context.teachers.items()}
    return replace(edit_tasks(context, teachers=teachers), model_tasks=("gsm8k", "spider"))


@pytest.mark.parametrize(("price", "words"), [(Price(1, 2), "costs money"), (None, "may cost money")])
def test_a_model_for_other_tasks_is_refused_if_the_teacher_costs_money(
    inputs: Any, tmp_path: Path, price: Price | None, words: str
) -> None:
    sentence = (
        "the base model 'tiny' was trained for gsm8k, spider only, and will hardly solve a sample of the task 'mednli', but "
        rf"the teacher teacher\d {words}\. Give another --base-model; --force goes on"
    )
    with pytest.raises(SettingsError, match=sentence):
        check_inputs(price_teacher(inputs(), price))
    assert list(tmp_path.glob("runs")) == []
    assert check_inputs(price_teacher(inputs("verified"), price)) is None, "the model is not used"
    with pytest.raises(SettingsError, match="the sampler"):
        check_inputs(price_teacher(inputs(force=True), price))
    store = RunStore(tmp_path / "runs" / "r")
    store.add_samples([Sample("1-0", 1, 0, "initial", "q", "o")])
    store.add_greedy_attempts([Attempt("1-0", "o", "a", True)])
    store.close()
    with pytest.raises(SettingsError, match="the sampler"):
        check_inputs(price_teacher(inputs(), price))  # a run that went on once goes on


def test_a_model_for_other_tasks_is_only_told_if_the_teacher_is_free(inputs: Any) -> None:
    context = price_teacher(inputs(), Price(0, 0))
    with pytest.raises(SettingsError, match="the sampler"):
        check_inputs(context)
    assert describe_foreign_task(context).endswith("will hardly solve a sample of the task 'mednli'")
    assert describe_foreign_task(replace(context, model_tasks=("mednli",))) == ""
    assert describe_foreign_task(replace(context, model_tasks=())) == ""
    assert describe_foreign_task(replace(context, stop_after="verified")) == ""


def test_a_train_split_is_checked_before_it_is_needed(inputs: Any, tmp_path: Path) -> None:
    check_inputs(inputs("verified", eval_every=5, eval_data="train"))
    with pytest.raises(DataError, match="is also a test item"):
        check_inputs(inputs(eval_every=5, eval_data="train"))
    store = RunStore(tmp_path / "runs" / "r")
    store.add_selected(1, [], pool=0)
    store.close()
    with pytest.raises(SettingsError, match="the sampler"):
        check_inputs(inputs(eval_every=5, eval_data="train"))


# --- judged tasks ----------------------------------------------------------------------------------------------------


class JudgedTrainer(CheckedTrainer):
    @hookimpl
    def takes_judged_tasks(self) -> bool:
        return True


def test_a_trainer_that_cannot_ask_a_judge_is_refused_where_the_run_reaches_it(inputs: Any, make_context: Any) -> None:
    assert check_inputs(edit_tasks(inputs("verified"), rubric="Be brief.")) is None
    with pytest.raises(SettingsError, match=r"cannot train on the judged task mednli"):
        check_inputs(edit_tasks(inputs(), rubric="Be brief."))
    context = make_context("evaluated", {"trainer": JudgedTrainer})
    with pytest.raises(SettingsError, match="the trainer is not there"):
        check_inputs(edit_tasks(context, rubric="Be brief."))


def test_a_budget_must_pay_for_the_first_judgement_and_know_its_price(inputs: Any) -> None:
    def with_judge(context: RunContext, price: Price | None) -> RunContext:
        (task,) = context.tasks.values()
        judge = replace(task.teachers["judge"], model="judge", price=price)
        return edit_tasks(context, rubric="Be brief.", teachers={**task.teachers, "judge": judge})

    with pytest.raises(TeacherError, match="the price of 'judge' is not known, so --budget cannot be kept"):
        check_inputs(with_judge(inputs("verified", budget=1.0), None))
    dear = Price(0, 1e6)
    with pytest.raises(
        SettingsError, match=r"--budget 1 is not enough for the first call, .*:judge, replies of up to 2048"
    ):
        check_inputs(with_judge(inputs("verified", budget=1.0), dear))
    assert check_inputs(with_judge(inputs("initial", budget=1.0), dear)) is None, "nothing is judged"
    assert check_inputs(with_judge(inputs("verified"), dear)) is None, "there is no budget"
    assert check_inputs(edit_tasks(with_judge(inputs("verified", budget=1.0), dear), rubric="")) is None
