"""The real verl trains the tiny model on the CPU; `make test-verl`. Everything here starts Ray, so a test takes a minute."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from dsrl_verl.options import parse_options
from dsrl_verl.training import Training

from dsrl import DsrlError, PluginError, PluginRef, Prompt, TrainItem, TrainJob, TrainStep, load
from dsrl.plugins.base_models import resolve_model
from dsrl.testing import ResumableTrainerContract

pytestmark = pytest.mark.skipif(find_spec("verl") is None, reason="verl is not installed: make test-verl")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, list_processes: Any) -> Iterator[Path]:
    """The folder for temporary files, which is short enough for Ray's sockets. Nothing of Ray stays in it, nor running."""
    folder = Path(tempfile.mkdtemp(prefix="dv-", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    assert list(folder.glob("dsrl-*")) == []
    assert list_processes(folder) == []
    shutil.rmtree(folder)


@pytest.mark.slow
class TestTrainer(ResumableTrainerContract):
    plugin = "verl"
    # The rewards of two trainings can differ: verl puts the answers of a step together in the order in which they finish.
    repeats_exactly = False


def make_mednli_items(count: int) -> tuple[TrainItem, ...]:
    task = load(PluginRef("task", "mednli"), "task")
    items = []
    for n in range(count):
        sample = task.hook.procedural_sample(seed=n, difficulty=1 + n % 3, passage="")
        label = task.hook.process_label(output=sample.output)
        prompt = Prompt(f"{sample.input} {task.hook.output_instruction()}")
        items.append(TrainItem(f"1-{n:05d}", prompt, sample.input, label))
    return tuple(items)


@pytest.fixture(scope="module")
def items() -> tuple[TrainItem, ...]:
    return make_mednli_items(80)


@pytest.fixture
def job(items: tuple[TrainItem, ...], tmp_path: Path) -> TrainJob:
    """Five steps of 16 prompts with 8 answers each."""
    return TrainJob(
        model=str(resolve_model("tiny").location),
        items=items,
        output_dir=tmp_path / "model",
        work_dir=tmp_path / "work",
        learning_rate=2e-4,
        epochs=1,
        batch_size=16,
        group_size=8,
        temperature=1.0,
        top_p=1.0,
        kl_coef=0.001,
        max_completion_tokens=48,
        max_prompt_tokens=192,
        seed=1,
        device="cpu",
    )


def train(job: TrainJob, task: Any = None, **options: Any) -> list[TrainStep]:
    steps: list[TrainStep] = []
    Training(job, task or load(PluginRef("task", "mednli"), "task"), parse_options(options)).run(steps.append)
    return steps


def count_right(model: Path, items: tuple[TrainItem, ...]) -> list[bool]:
    """Grade greedy answers with dsrl's own sampler."""
    import asyncio

    from dsrl import grade

    task = load(PluginRef("task", "mednli"), "task")
    sampler = load(PluginRef("sampler", "transformers", {"model": str(model), "device": "cpu"}), "sampler")
    settings = {"n": 1, "temperature": 0.0, "top_p": 1.0, "max_tokens": 48, "seed": 0}
    texts = asyncio.run(sampler.hook.sample(prompts=[item.prompt for item in items], **settings))
    return [grade(task, text[0], item.label, item.input)[1] for text, item in zip(texts, items, strict=True)]


def test_a_training_learns_is_killed_goes_on_and_brings_its_model_back(
    job: TrainJob, tmp_path: Path, temporary: Path, head: str, monkeypatch: pytest.MonkeyPatch, list_processes: Any
) -> None:
    """Five steps; after the second, dsrl is killed and the same command given again. Another Ray is on the machine."""
    monkeypatch.setenv("RAY_ADDRESS", head)
    dev = make_mednli_items(112)[80:]
    job = replace(job, dev_items=dev, eval_every=5)
    dump = tmp_path / "validation"
    settings = {"set.trainer.validation_data_dir": str(dump)}
    (tmp_path / "job").write_bytes(pickle.dumps((job, settings)))
    told = tmp_path / "told"
    script = f"""
        import pickle
        from pathlib import Path
        from dsrl import PluginRef, load
        from dsrl_verl.options import parse_options
        from dsrl_verl.training import Training
        job, settings = pickle.loads(Path({str(tmp_path / "job")!r}).read_bytes())
        def tell(step):
            with open({str(told)!r}, "a") as file:
                file.write(f"{{step.step}} {{step.metrics['reward']}}\\n")
        Training(job, load(PluginRef("task", "mednli"), "task"), parse_options(settings)).run(tell)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    deadline = time.monotonic() + 900
    try:
        while not (told.exists() and told.read_text().count("\n") >= 2):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait()
    first = {int(line.split()[0]): float(line.split()[1]) for line in told.read_text().splitlines()}
    deadline = time.monotonic() + 20
    while list_processes(temporary):
        assert time.monotonic() < deadline, "verl and its Ray end with dsrl"
        time.sleep(0.2)
    assert list(temporary.glob("dsrl-ray-*")), "a kill leaves files of Ray, and the next start removes them"

    steps = train(job, **settings)
    assert [step.step for step in steps] == list(range(max(first), 6))
    assert steps[0].metrics["reward"] == first[max(first)], "a step that is told again keeps its first telling"
    rewards = [*first.values(), *(step.metrics["reward"] for step in steps[1:])]
    print("rewards", rewards, "seconds", [step.metrics["seconds"] for step in steps])
    assert sum(rewards[-2:]) / 2 > sum(rewards[:2]) / 2 + 0.1
    assert {len(step.rewards) for step in steps} == {16}
    assert all(step.metrics["critic/score/mean"] == pytest.approx(step.metrics["reward"], abs=1e-5) for step in steps)
    assert all(step.metrics["grad_norm"] > 0 and step.metrics["completion_length"] > 0 for step in steps)
    # Item by item: what verl's validation found right, dsrl finds right in the model that came back.
    rows = [json.loads(line) for line in (dump / "5.jsonl").read_text().splitlines()]
    by_input = {row["input"]: row["score"] == 1.0 for row in rows}
    own = count_right(job.output_dir, dev)
    assert [by_input[str(item.prompt)] for item in dev] == own
    assert steps[-1].metrics["dev_accuracy"] == pytest.approx(sum(own) / len(own))
    assert steps[-1].metrics["best_step"] == 5
    names = {path.name for path in job.output_dir.iterdir()}
    assert names <= {path.name for path in Path(job.model).iterdir()}, "nothing that the base model has not"


def test_the_command_writes_the_metrics_step_by_step(tmp_path: Path) -> None:
    """`dsrl run --trainer verl` as a user gives it, from the task to the evaluation."""
    options = ["--task", "mednli", "--trainer", "verl", "--device", "cpu", "--name", "trial", "--samples", "24"]
    options += ["--select", "16", "--attempts", "4", "--epochs", "1", "--batch-size", "8", "--group-size", "4"]
    options += ["--test-size", "20", "--json"]
    options += ["--runs-dir", str(tmp_path / "runs"), "--cache-dir", str(tmp_path / "cache")]
    file = tmp_path / "runs" / "trial" / "metrics.jsonl"
    with (tmp_path / "result").open("wb") as result, (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen([sys.executable, "-m", "dsrl", "run", *options], stdout=result, stderr=said)
        seen = 0
        while process.poll() is None and not seen:
            seen = file.read_bytes().count(b"\n") if file.exists() else 0
            time.sleep(0.05)
        process.wait()
    assert process.returncode == 0, (tmp_path / "said").read_text()
    assert seen == 1, "the first step is in the file before the second one is done"
    steps = [json.loads(line) for line in file.read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2]
    assert all(step["critic/score/mean"] == pytest.approx(step["reward"], abs=1e-5) for step in steps)
    assert all(step["reward_faults"] == 0 for step in steps)
    outcome = json.loads((tmp_path / "result").read_text())
    assert (outcome["n_test"], outcome["samples"]["selected"]) == (20, 16)
    assert outcome["trained_accuracy"] is not None
    assert Path(outcome["model_path"], "model.safetensors").is_file()


def test_the_reward_of_a_file_with_an_override_arrives_and_a_hang_costs_its_limit(
    job: TrainJob, tmp_path: Path
) -> None:
    """A task from a file whose reward an override replaces. A worker reads neither of the two files."""
    file, override = tmp_path / "own.py", tmp_path / "better.py"
    file.write_text("""
from dsrl import AnswerFormat, hookimpl
@hookimpl
def description(): return "Say whether the premise entails the hypothesis."
@hookimpl
def answer_format(): return AnswerFormat("tag", ("entailment", "contradiction", "neutral"))
""")
    override.write_text("""
import os, time
from dsrl import Reward, hookimpl
@hookimpl
def reward(output, label):
    if len(output) % 11 == 0: time.sleep(1000)
    if len(output) % 11 == 1: os._exit(3)
    if len(output) % 11 == 2: raise ValueError("on purpose")
    return Reward(7.0 + len(output) % 2, {"seen": 1.0})
""")
    task = load(PluginRef("task", str(file), {}, (str(override),)), "task")

    def remove(step: TrainStep) -> None:
        for path in (file, override):
            path.unlink(missing_ok=True)
        steps.append(step)

    steps: list[TrainStep] = []
    job = _shorten(job)
    Training(job, task, parse_options({"reward_seconds": 0.5, "max_reward_faults": 1.0})).run(remove)
    assert [step.step for step in steps] == [1, 2]
    faults = sum(step.metrics["reward_faults"] for step in steps)
    answered = 64 - faults
    total = sum(step.metrics["reward"] for step in steps) * 32
    print("faults", faults, "seconds", [step.metrics["seconds"] for step in steps])
    assert 0 < faults < 64
    assert 7.0 * answered - 0.01 <= total <= 8.0 * answered + 0.01
    assert all(step.metrics["reward/seen"] == 1.0 for step in steps)


@pytest.mark.slow
def test_too_many_rewards_that_fail_stop_verl(job: TrainJob, tmp_path: Path) -> None:
    override = tmp_path / "bad.py"
    override.write_text("from dsrl import hookimpl\n@hookimpl\ndef reward(output): raise ValueError('on purpose')\n")
    task = load(PluginRef("task", "mednli", {}, (str(override),)), "task")
    with pytest.raises(PluginError, match=r"stopped at step 1: .* raised: .*on purpose"):
        train(_shorten(job), task)


def _shorten(job: TrainJob) -> TrainJob:
    """Two steps of 8 prompts with 4 answers."""
    return replace(job, items=job.items[:16], batch_size=8, group_size=4)


@pytest.mark.slow
def test_a_setting_of_verl_that_fails_late_shows_the_last_lines(job: TrainJob) -> None:
    with pytest.raises(DsrlError) as caught:
        train(_shorten(job), **{"set.actor.optim.optimizer": "NoSuchOptimizer"})
    assert "NoSuchOptimizer" in str(caught.value)
    assert "The same command goes on" in str(caught.value)


def test_the_check_refuses_before_anything_starts(job: TrainJob) -> None:
    def check(of: TrainJob = job, **options: Any) -> str:
        with pytest.raises(DsrlError) as caught:
            load(PluginRef("trainer", "verl", options), "trainer").hook.check(job=of)
        return str(caught.value)

    load(PluginRef("trainer", "verl", {"set.actor.optim.weight_decay": 0.1}), "trainer").hook.check(job=job)
    assert "did you mean set.trainer.total_epochs" in check(**{"set.trainer.total_epoch": 3})
    assert "--batch-size" in check(**{"set.data.train_batch_size": 3})
    assert "trains in float32" in check(replace(job, dtype="bfloat16"))
    assert "leave out --trainer-option ray_address" in check(ray_address="127.0.0.1:9")
    assert "vllm, which is not installed" in check(replace(job, device="auto"))


@pytest.mark.slow
def test_adapters_are_merged_into_the_base_model(job: TrainJob) -> None:
    import torch
    from safetensors.torch import load_file

    steps = train(replace(job, lora_rank=8, learning_rate=2e-3))
    rewards = [step.metrics["reward"] for step in steps]
    print("lora rewards", rewards)
    assert sum(rewards[-2:]) / 2 > sum(rewards[:2]) / 2 + 0.05
    trained, before = (load_file(Path(folder) / "model.safetensors") for folder in (job.output_dir, job.model))
    assert before.keys() - trained.keys() == {"lm_head.weight"}, "it is tied to the embedding"
    changed = {name for name in trained if not torch.equal(trained[name], before[name])}
    assert changed
    assert not [name for name in changed if "norm" in name or "embed" in name]
    own = count_right(job.output_dir, job.items[:32])
    assert sum(own) > sum(count_right(Path(job.model), job.items[:32]))


@pytest.mark.slow
def test_ppo_trains_with_a_critic(job: TrainJob) -> None:
    steps = train(job, algorithm="ppo")
    print("ppo rewards", [step.metrics["reward"] for step in steps])
    assert [step.step for step in steps] == [1, 2, 3, 4, 5]
    assert all("critic/vf_loss" in step.metrics or "critic/loss" in step.metrics for step in steps)
    assert (job.output_dir / "model.safetensors").exists()
