"""Contract classes of trainers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dsrl.plugins.base_models import resolve_model
from dsrl.plugins.binding import Plugin, load
from dsrl.plugins.several_tasks import join_tasks
from dsrl.plugins.specs import hookimpl
from dsrl.testing.contracts.base import PluginContract
from dsrl.testing.contracts.model import check_model_folder
from dsrl.testing.fixtures import Installer
from dsrl.testing.small_task import SmallTask
from dsrl.types import PluginRef, Prompt, TrainItem, TrainJob, TrainStep

ITEMS = tuple(
    TrainItem(
        id=f"1-{n}",
        prompt=Prompt(f"Is {n} an even number?"),
        input=f"Is {n} an even number?",
        label="no" if n % 2 else "yes",
        output=f"<answer>{'no' if n % 2 else 'yes'}</answer>",
    )
    for n in range(8)
)


class VowelTask(SmallTask):
    """Rewards the share of vowels in an output, so that also a model that has learnt nothing earns different rewards."""

    @hookimpl
    def reward(self, output: str) -> float:
        return sum(letter in "aeiou" for letter in output) / (len(output) + 1)


class SevenTask(SmallTask):
    """Rewards every output with 7."""

    @hookimpl
    def reward(self) -> float:
        return 7.0


def bind_importable(installer: Installer, task: type) -> Plugin[Any]:
    """Install and bind a task by the name of its class, so that a trainer can bind it again in another process."""
    name = task.__name__.lower()
    installer("task", name, "", distribution=f"contract-{name}", value=f"{task.__module__}:{task.__qualname__}")
    return load(PluginRef("task", name), "task")


class TrainerContract(PluginContract):
    """Tests of every trainer. They train a tiny job.

    Attributes:
        model: the base model: the name of an installed one, a folder or a hub id; or a fixture that returns it.
        job_settings: fields of :class:`dsrl.types.TrainJob` that replace the usual ones.
        uses_rewards: whether the trainer learns from rewards, and reports them.
    """

    kind = "trainer"
    model: Any = "tiny"
    job_settings: Any = {}  # noqa: RUF012 - it is read only
    uses_rewards = True

    @pytest.fixture
    def task(self, installer: Installer) -> Plugin[Any]:
        """The task of the job."""
        return bind_importable(installer, VowelTask)

    @pytest.fixture
    def job(self, request: pytest.FixtureRequest, tmp_path: Path) -> TrainJob:
        """A job of a few steps on the CPU."""
        usual: dict[str, Any] = {
            "model": resolve_model(str(self.read("model", request))).location,
            "items": ITEMS,
            "output_dir": tmp_path / "run" / "model",
            "work_dir": tmp_path / "run" / "work",
            "learning_rate": 1e-3,
            "epochs": 2,
            "batch_size": 4,
            "group_size": 4,
            "temperature": 1.0,
            "top_p": 1.0,
            "kl_coef": 0.0,
            "max_completion_tokens": 8,
            "max_prompt_tokens": 64,
            "seed": 1,
            "device": "cpu",
        }
        return TrainJob(**{**usual, **self.job_settings})

    def train(
        self,
        trainer: Plugin[Any],
        job: TrainJob,
        task: Plugin[Any],
        on_step: Callable[[TrainStep], None] = lambda step: None,
    ) -> list[TrainStep]:
        """Train and return the steps that were reported."""
        steps: list[TrainStep] = []

        def report(step: TrainStep) -> None:
            steps.append(step)
            on_step(step)

        trainer.hook.train(job=job, task=task, on_step=report)
        return steps

    def test_a_job_makes_a_model(self, subject: Plugin[Any], job: TrainJob, task: Plugin[Any]) -> None:
        before = {path.name: path.read_bytes() for path in Path(job.model).glob("*") if path.is_file()}
        steps = self.train(subject, job, task)
        check_model_folder(job.output_dir)
        after = {path.name: path.read_bytes() for path in Path(job.model).glob("*") if path.is_file()}
        assert before == after, "the base model was changed"

        assert [step.step for step in steps] == list(range(1, len(steps) + 1))
        assert steps, "no step was reported"
        assert all(step.step <= step.steps == steps[0].steps for step in steps)
        assert all(math.isfinite(value) for step in steps for value in step.metrics.values())
        assert {item for step in steps for item in step.rewards} <= {item.id for item in job.items}

    def test_each_item_gets_the_reward_of_its_own_task(
        self, subject: Plugin[Any], job: TrainJob, task: Plugin[Any], installer: Installer
    ) -> None:
        """One task rewards every output with 7, the other with less than 1."""
        if not self.uses_rewards:
            pytest.skip("the trainer uses no rewards")
        if not (subject.implements("takes_several_tasks") and subject.hook.takes_several_tasks()):
            pytest.skip("the trainer trains on one task only")
        several: Any = join_tasks({"vowels": task, "seven": bind_importable(installer, SevenTask)})
        names = {item.id: ("vowels", "seven")[n % 2] for n, item in enumerate(job.items)}
        items = tuple(replace(item, task=names[item.id]) for item in job.items)
        rewards = [pair for s in self.train(subject, replace(job, items=items), several) for pair in s.rewards.items()]
        assert {names[item] for item, _ in rewards} == {"vowels", "seven"}
        assert all((reward == 7.0) if names[item] == "seven" else (reward < 1.0) for item, reward in rewards)

    def test_each_item_of_a_judged_task_gets_the_reward_of_the_judge(
        self, subject: Plugin[Any], job: TrainJob, installer: Installer
    ) -> None:
        """The judge gives every output 0.3, and the rules of the task give it 7."""
        if not self.uses_rewards:
            pytest.skip("the trainer uses no rewards")
        if not (subject.implements("takes_judged_tasks") and subject.hook.takes_judged_tasks()):
            pytest.skip("the trainer does not train on judged tasks")
        task = installer.bind("task", SevenTask())
        judged: Any = join_tasks({"": task}, [""], lambda answers: [0.3] * len(answers))
        rewards = [reward for step in self.train(subject, job, judged) for reward in step.rewards.values()]
        assert rewards
        assert rewards == [pytest.approx(0.3)] * len(rewards)

    def test_it_chooses_the_items_of_its_steps_if_it_says_so(
        self, subject: Plugin[Any], job: TrainJob, task: Plugin[Any]
    ) -> None:
        """It makes as many steps as on so many items."""
        if not (subject.implements("can_choose") and subject.hook.can_choose()):
            pytest.skip("the trainer does not choose its items")
        steps = self.train(subject, replace(job, choose=job.batch_size), task)
        assert [step.step for step in steps] == list(range(1, job.epochs + 1))
        check_model_folder(job.output_dir)

    def test_the_check_leaves_nothing_on_the_disk(self, subject: Plugin[Any], job: TrainJob, tmp_path: Path) -> None:
        if not subject.implements("check"):
            pytest.skip("the trainer has no hook check")
        before = sorted(tmp_path.rglob("*"))
        subject.hook.check(job=replace(job, items=()))
        assert sorted(tmp_path.rglob("*")) == before


class ResumableTrainerContract(TrainerContract):
    """Tests of a trainer that goes on after an interruption. ``options`` should make it write checkpoints often.

    Attributes:
        repeats_exactly: whether two trainings of one job give the same rewards. If not, a step that is told again must
            have those of its first telling.
    """

    repeats_exactly = True

    def test_an_interrupted_job_goes_on_with_the_same_steps(
        self, subject: Plugin[Any], job: TrainJob, task: Plugin[Any], tmp_path: Path
    ) -> None:
        undisturbed = replace(job, output_dir=tmp_path / "whole" / "model", work_dir=tmp_path / "whole" / "work")
        whole = {step.step: step.rewards for step in self.train(subject, undisturbed, task)}
        last = max(whole)
        assert last > 1, "the job needs at least two steps"

        told = {}

        def interrupt(step: TrainStep) -> None:
            told[step.step] = step.rewards
            if step.step == last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.train(subject, job, task, interrupt)
        rest = self.train(subject, job, task)
        assert rest == [] or rest[0].step > 1, "it began again"
        before = whole if self.repeats_exactly else told
        assert {step.step: step.rewards for step in rest}.items() <= before.items()
        assert not rest or rest[-1].step == last
        check_model_folder(job.output_dir)

    def test_a_finished_job_stays_finished(self, subject: Plugin[Any], job: TrainJob, task: Plugin[Any]) -> None:
        """A run that is killed just after the training gives the same job again."""
        self.train(subject, job, task)
        self.train(subject, job, task)
        check_model_folder(job.output_dir)
