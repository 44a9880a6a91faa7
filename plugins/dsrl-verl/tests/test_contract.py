"""The real verl trains the tiny model on the CPU; `make test-verl`. Everything here starts Ray, so a test takes a minute."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from dsrl_verl.options import parse_options
from dsrl_verl.training import Training

from dsrl import DsrlError, PluginError, PluginRef, Prompt, SettingsError, TrainItem, TrainJob, TrainStep, load
from dsrl.plugins.base_models import resolve_model
from dsrl.testing import ResumableTrainerContract

pytestmark = pytest.mark.skipif(find_spec("verl") is None, reason="verl is not installed: make test-verl")


class TestTrainer(ResumableTrainerContract):
    plugin = "verl"


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


def write_override(tmp_path: Path, body: str) -> Any:
    file = tmp_path / "override.py"
    file.write_text("import os, time\nfrom dsrl import hookimpl\n" + textwrap.dedent(body))
    return load(PluginRef("task", "mednli", {}, (str(file),)), "task")


def test_the_reward_rises_and_the_model_comes_back_as_verl_has_it(job: TrainJob, tmp_path: Path) -> None:
    dev = make_mednli_items(112)[80:]
    watched = TrainJob(**{**{f: getattr(job, f) for f in job.__dataclass_fields__}, "dev_items": dev, "eval_every": 5})
    settings = {"set.trainer.validation_data_dir": str(tmp_path / "validation")}
    steps = train(watched, **settings)
    rewards = [step.metrics["reward"] for step in steps]
    print("rewards", rewards, "seconds", [step.metrics["seconds"] for step in steps])
    assert [step.step for step in steps] == [1, 2, 3, 4, 5]
    assert sum(rewards[-2:]) / 2 > sum(rewards[:2]) / 2 + 0.1
    assert {len(step.rewards) for step in steps} == {16}
    assert all(step.metrics["critic/score/mean"] == pytest.approx(step.metrics["reward"], abs=1e-5) for step in steps)
    assert all(step.metrics["grad_norm"] > 0 and step.metrics["completion_length"] > 0 for step in steps)
    # Item by item: what verl's validation found right, dsrl finds right in the model that came back.
    (dump,) = (tmp_path / "validation").glob("5.jsonl")
    rows = [json.loads(line) for line in dump.read_text().splitlines()]
    by_input = {row["input"]: row["score"] == 1.0 for row in rows}
    own = count_right(job.output_dir, dev)
    assert [by_input[str(item.prompt)] for item in dev] == own
    assert steps[-1].metrics["dev_accuracy"] == pytest.approx(sum(own) / len(own))
    assert steps[-1].metrics["best_step"] == 5
    names = {path.name for path in job.output_dir.iterdir()}
    assert names <= {path.name for path in Path(job.model).iterdir()}, "nothing that the base model has not"
    assert not list(Path("/tmp").glob("dsrl-ray-*")), "nothing of Ray stays"


def test_a_reward_that_is_overridden_arrives_in_the_workers(job: TrainJob, tmp_path: Path) -> None:
    task = write_override(
        tmp_path,
        """
        @hookimpl
        def reward(output, label):
            return 7.0 + (len(output) % 2)
        """,
    )
    steps = train(_shorten(job), task)
    assert all(7.0 <= value <= 8.0 for step in steps for value in step.rewards.values())


def test_a_hanging_reward_costs_its_limit_and_is_counted(job: TrainJob, tmp_path: Path) -> None:
    task = write_override(
        tmp_path,
        """
        @hookimpl
        def reward(output, label):
            if len(output) % 11 == 0:
                time.sleep(1000)
            return float(label in output)
        """,
    )
    start = time.monotonic()
    steps = train(_shorten(job), task, reward_seconds=0.5, max_reward_faults=1.0)
    faults = sum(step.metrics["reward_faults"] for step in steps)
    print("faults", faults, "seconds", time.monotonic() - start, [step.metrics["seconds"] for step in steps])
    assert 0 < faults < 64
    assert sum(step.metrics["seconds"] for step in steps) < 60 + 10 * faults
    with pytest.raises(PluginError, match=r"hung: .* did not return within 0.5 s|took more than 0.5 s"):
        train(_shorten(job, tmp_path / "again"), task, reward_seconds=0.5, max_reward_faults=0.0)


def _shorten(job: TrainJob, folder: Path | None = None) -> TrainJob:
    """Two steps of 8 prompts with 4 answers."""
    fields = {name: getattr(job, name) for name in job.__dataclass_fields__}
    places = {"output_dir": folder / "model", "work_dir": folder / "work"} if folder else {}
    return TrainJob(**{**fields, "items": job.items[:16], "batch_size": 8, "group_size": 4, **places})


def test_a_kill_in_the_middle_goes_on(job: TrainJob, tmp_path: Path) -> None:
    """dsrl is killed, and verl with it; the same command goes on with the step after the last checkpoint."""
    script = f"""
        import pickle
        from pathlib import Path
        from dsrl import PluginRef, load
        from dsrl_verl.options import parse_options
        from dsrl_verl.training import Training
        job = pickle.loads(Path({str(tmp_path / "job")!r}).read_bytes())
        def tell(step):
            with open({str(tmp_path / "told")!r}, "a") as file:
                file.write(f"{{step.step}} {{step.metrics['reward']}}\\n")
        Training(job, load(PluginRef("task", "mednli"), "task"), parse_options({{}})).run(tell)
    """
    import pickle

    (tmp_path / "job").write_bytes(pickle.dumps(job))
    told = tmp_path / "told"
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    deadline = time.monotonic() + 400
    while not (told.exists() and len(told.read_text().splitlines()) >= 2):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = [int(line.split()[0]) for line in told.read_text().splitlines()]
    deadline = time.monotonic() + 60
    while _list_ray_processes():
        assert time.monotonic() < deadline, _list_ray_processes()
        time.sleep(0.5)
    steps = train(job)
    assert [step.step for step in steps] == list(range(before[-1], 6))
    first = float(told.read_text().splitlines()[-1].split()[1])
    assert steps[0].metrics["reward"] == first
    assert (job.output_dir / "model.safetensors").exists()
    log = job.work_dir / "attempt-2" / "verl.log"
    assert not log.exists(), "the work folder is cleaned at the end"


def _list_ray_processes() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if "dsrl-ray-" in command and str(os.getpid()) != entry.name:
                found.append(command[:80])
    return found


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
    fields = {name: getattr(job, name) for name in job.__dataclass_fields__}
    with pytest.raises(SettingsError):
        load(PluginRef("trainer", "verl"), "trainer").hook.check(job=TrainJob(**{**fields, "dtype": "bfloat16"}))
    assert "nothing answers at the Ray address" in check(
        TrainJob(**{**fields, "device": "auto"}), ray_address="127.0.0.1:9", engine="vllm"
    ) or "vllm, which is not installed" in check(TrainJob(**{**fields, "device": "auto"}), ray_address="127.0.0.1:9")


@pytest.mark.slow
def test_adapters_are_merged_into_the_base_model(job: TrainJob) -> None:
    import torch
    from safetensors.torch import load_file

    fields = {name: getattr(job, name) for name in job.__dataclass_fields__}
    steps = train(TrainJob(**{**fields, "lora_rank": 8, "learning_rate": 2e-3}))
    rewards = [step.metrics["reward"] for step in steps]
    print("lora rewards", rewards)
    assert sum(rewards[-2:]) / 2 > sum(rewards[:2]) / 2 + 0.05
    trained, before = (load_file(Path(folder) / "model.safetensors") for folder in (job.output_dir, job.model))
    assert trained.keys() == before.keys()
    changed = {name for name in before if not torch.equal(trained[name], before[name])}
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
