"""A whole training, in which a package that stands for verl does the steps: quick, and without verl."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from dsrl_verl import environment, training
from dsrl_verl.options import parse_options
from dsrl_verl.training import Training

from dsrl import DsrlError, PluginError, PluginRef, SettingsError, StoreError, TrainJob, TrainStep, load

ROOT = Path(__file__).parents[1]
#: Plays verl: reads its arguments, asks the reward module for each answer, and writes checkpoints and metrics.
VERL = """
import asyncio, ast, json, os, shutil, sys, time
from pathlib import Path
import pyarrow.parquet as pq

def main():
    settings = dict(a.removeprefix("++").split("=", 1) for a in sys.argv[1:])
    def get(key):
        return settings[key].strip("'")
    from dsrl_verl.reward import compute_score
    rows = pq.read_table(get("data.train_files")).to_pylist()
    dev = pq.read_table(get("data.val_files")).to_pylist()
    batch, n = int(get("data.train_batch_size")), int(get("actor_rollout_ref.rollout.n"))
    steps, every = int(get("trainer.total_training_steps")), int(get("trainer.test_freq"))
    folder, base = Path(get("trainer.default_local_dir")), Path(get("actor_rollout_ref.model.path"))
    setup = get("reward.custom_reward_function.reward_kwargs.setup")
    first = 0
    if get("trainer.resume_mode") == "resume_path":
        first = int(get("trainer.resume_from_path").rpartition("_")[2])
    print("resumed after", first, flush=True)
    out = open(os.environ["VERL_FILE_LOGGER_PATH"], "wb", buffering=0)
    script = json.loads(os.environ.get("SCRIPT", "{}"))
    async def ask(some, answer):
        for row in some:
            label = row["reward_model"]["ground_truth"]
            await compute_score(row["data_source"], answer, label, row["extra_info"], setup=setup)
    for step in range(first + 1, steps + 1):
        if script.get("slow") and not Path(script["slow"]).exists():
            Path(script["slow"]).touch()
            raise Exception("The current node timed out during startup. This could happen because")
        if script.get("crash") == step:
            print("CUDA out of memory"); sys.exit(1)
        answers = n - (script.get("lose") == step)
        for k in range(answers):
            answer = script.get("answer", "<answer> yes </answer>") if k else "nothing"
            asyncio.run(ask(rows[(step - 1) * batch:step * batch], answer))
        checkpoint = folder / f"global_step_{step}"
        shutil.copytree(base, checkpoint / "actor" / "huggingface")
        (checkpoint / "data.pt").write_text("x")
        (folder / "latest_checkpointed_iteration.txt").write_text(str(step))
        if every > 0 and (step % every == 0 or step == steps):
            right = script.get("right", {}).get(str(step), 0)
            for k, row in enumerate(dev):
                answer = row["reward_model"]["ground_truth"] if k < right else "maybe"
                asyncio.run(ask([row], f"<answer> {answer} </answer>"))
        data = {"training/global_step": step, "actor/loss": 0.5, "actor/lr": 1e-3, "perf/x": 1.0}
        out.write(json.dumps({"step": step, "data": data}).encode() + b"\\n")
        if script.get("kill") == step:
            os.kill(os.getpid(), 9)
"""
#: A small task of yes and no.
REWARD = """
from dsrl import hookimpl, Reward, UNREADABLE
@hookimpl
def reward(output, label):
    if output == "bad": raise ValueError("on purpose")
    return Reward(float("yes" in output), {"form": float("<answer>" in output)})
@hookimpl
def process_prediction(output):
    return output.removeprefix("<answer> ").removesuffix(" </answer>")
@hookimpl
def eval(prediction, label):
    return prediction == label
"""
Train = Callable[..., list[TrainStep]]


@pytest.fixture
def task(tmp_path: Path) -> Any:
    file = tmp_path / "yes.py"
    file.write_text(REWARD)
    return load(PluginRef("task", "mednli", {}, (str(file),)), "task")


@pytest.fixture
def tiny() -> str:
    from dsrl.plugins.base_models import resolve_model

    return str(resolve_model("tiny").location)


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Any) -> Train:
    """Return a function that trains a job with the package that stands for verl."""
    package = tmp_path / "packages" / "verl" / "trainer"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text("")
    (package / "main_ppo.py").write_text(textwrap.dedent(VERL))
    paths = [str(tmp_path / "packages"), str(ROOT), str(ROOT.parent / "dsrl-ray")]
    monkeypatch.setattr(training, "find_own_paths", lambda: paths)
    monkeypatch.setattr(training, "check_packages", lambda *arguments: None)

    def run(
        job: TrainJob, on_step: Any = None, script: Mapping[str, Any] | None = None, **options: Any
    ) -> list[TrainStep]:
        monkeypatch.setenv("SCRIPT", json.dumps(dict(script or {})))
        steps: list[TrainStep] = []

        def tell(step: TrainStep) -> None:
            steps.append(step)
            if on_step:
                on_step(step)

        Training(job, task, parse_options(options)).run(tell)
        return steps

    return run


def test_steps_are_told_with_rewards_of_items_and_metrics(train: Train, make_job: Any, tiny: str) -> None:
    job = make_job(model=tiny)
    steps = train(job)
    assert [(step.step, step.steps, step.epoch) for step in steps] == [
        (1, 4, 0.5),
        (2, 4, 1.0),
        (3, 4, 1.5),
        (4, 4, 2.0),
    ]
    for step in steps:
        assert step.metrics["reward"] == 0.75
        assert step.metrics["reward/form"] == 0.75
        assert step.metrics["equal_groups"] == 0
        assert step.metrics["reward_faults"] == step.metrics["left_out"] == 0
        assert (step.metrics["loss"], step.metrics["learning_rate"], step.metrics["perf/x"]) == (0.5, 1e-3, 1.0)
        assert set(step.rewards.values()) == {0.75}
    assert sorted(name for step in steps for name in step.rewards) == sorted(2 * [item.id for item in job.items])
    assert (job.output_dir / "model.safetensors").exists()
    assert sorted(path.name for path in job.work_dir.iterdir()) == ["finished", "job"]
    assert train(job) == [], "a finished job stays finished"


@pytest.mark.parametrize("end", ["kill", "crash"])
def test_a_training_that_ends_early_goes_on_with_the_same_command(
    train: Train, make_job: Any, tiny: str, end: str
) -> None:
    job, told = make_job(model=tiny), []
    with pytest.raises(DsrlError) as caught:
        train(job, told.append, script={end: 3})
    text = str(caught.value)
    assert ("signal 9" if end == "kill" else "exit code 1") in text
    assert "The same command goes on" in text
    if end == "crash":
        assert "CUDA out of memory" in text
        assert "--lora-rank" in text
    steps = train(job)
    last = {"kill": 3, "crash": 2}[end]
    assert [step.step for step in told] == list(range(1, last + 1))
    assert [step.step for step in steps] == list(range(last, 5))
    assert steps[0] == told[-1], "a step that is told twice is told with the same values"


def test_a_ray_that_is_slow_to_start_is_started_again(train: Train, make_job: Any, tiny: str, tmp_path: Path) -> None:
    steps = train(make_job(model=tiny, epochs=1), script={"slow": str(tmp_path / "slow")})
    assert [step.step for step in steps] == [1, 2]


def test_an_interruption_by_the_caller_ends_verl_and_goes_on(train: Train, make_job: Any, tiny: str) -> None:
    job = make_job(model=tiny)

    def interrupt(step: TrainStep) -> None:
        if step.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(job, interrupt)
    assert [step.step for step in train(job)] == [2, 3, 4]


def test_too_many_failed_rewards_stop_the_run_and_some_are_counted(train: Train, make_job: Any, tiny: str) -> None:
    with pytest.raises(PluginError) as caught:
        train(make_job(model=tiny), script={"answer": "bad"})
    text = str(caught.value)
    assert "stopped at step 1" in text
    assert "on purpose" in text
    assert "max_reward_faults" in text
    job = make_job(model=tiny, output_dir=Path(tiny).parent / "none", epochs=1)
    job = make_job(model=tiny, epochs=1, work_dir=make_job().work_dir / "second")
    steps = train(job, script={"answer": "bad"}, max_reward_faults=0.8)
    assert {step.metrics["reward_faults"] for step in steps} == {12.0}
    assert {step.metrics["reward"] for step in steps} == {0.0}


def test_an_answer_that_verl_loses_is_an_error(train: Train, make_job: Any, tiny: str) -> None:
    with pytest.raises(DsrlError, match="in step 2 on 12 of 16 answers"):
        train(make_job(model=tiny), script={"lose": 2})


def test_the_model_of_the_best_evaluation_is_kept(train: Train, make_job: Any, tiny: str) -> None:
    job = make_job(model=tiny, dev_items=make_job().items, eval_every=2, epochs=3)
    steps = train(job, script={"right": {"2": 4, "4": 8, "6": 2}})
    found = {step.step: step.metrics["dev_accuracy"] for step in steps if "dev_accuracy" in step.metrics}
    assert found == {2: 0.5, 4: 1.0, 6: 0.25}
    assert steps[-1].metrics["best_step"] == 4
    assert not (job.work_dir / "best").exists()


def test_a_task_that_cannot_be_bound_in_a_worker_stops_before_verl(
    train: Train, make_job: Any, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = training.copy_task
    monkeypatch.setattr(training, "copy_task", lambda task: training_copy(original(task)))

    def training_copy(copy: Any) -> Any:
        return type(copy)("no_such_task", {}, ())

    job = make_job(model=tiny)
    with pytest.raises(PluginError, match="no_such_task"):
        train(job)
    assert not list(job.work_dir.glob("attempt-*/verl.log"))


def test_checkpoints_of_another_job_are_refused(train: Train, make_job: Any, tiny: str) -> None:
    with pytest.raises(DsrlError):
        train(make_job(model=tiny), script={"crash": 2})
    with pytest.raises(StoreError, match="other settings"):
        train(make_job(model=tiny, learning_rate=1e-5))
    with pytest.raises(StoreError, match="other settings"):
        train(make_job(model=tiny), **{"set.actor.optim.weight_decay": 0.5})


def test_a_training_of_no_step_is_an_error(train: Train, make_job: Any, tiny: str) -> None:
    with pytest.raises(DsrlError, match="no step"):
        train(make_job(model=tiny, epochs=0))


def test_nothing_of_ray_stays_on_the_disk(
    train: Train, make_job: Any, tiny: str, tmp_path: Path, monkeypatch: Any
) -> None:
    import tempfile

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    train(make_job(model=tiny, epochs=1))
    assert os.listdir(tmp_path / "temporary") == []


def test_without_a_gpu_the_error_names_what_runs(make_job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_count_own_gpus", lambda: (0, 0.0))
    with pytest.raises(SettingsError) as caught:
        training.choose_machines(make_job(device="auto"), parse_options({}), 10**9)
    assert "--device cpu" in str(caught.value)
    assert "--trainer grpo" in str(caught.value)
    monkeypatch.setattr(environment, "_count_own_gpus", lambda: (4, 80e9))
    cluster, layout = training.choose_machines(make_job(device="auto"), parse_options({}), 10**9)
    assert (cluster.gpus, layout.tensor_parallel) == (4, 1)
    with pytest.raises(SettingsError, match="this machine has 4"):
        training.choose_machines(make_job(device="auto"), parse_options({"gpus_per_node": 8}), 10**9)
