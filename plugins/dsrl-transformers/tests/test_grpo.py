from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from dsrl_transformers.grpo import GRPOTrainer

from dsrl import DataError, DsrlError, PluginError, Prompt, Reward, StoreError, TrainItem, TrainJob, TrainStep

ITEMS = tuple(TrainItem(str(i), Prompt(f"say {c}: "), f"say {c}", c) for i, c in enumerate("abcdefgh" * 4))


def job(model_dir: Path, folder: Path, **settings: Any) -> TrainJob:
    usual: dict[str, Any] = {
        "model": str(model_dir),
        "items": ITEMS,
        "output_dir": folder / "model",
        "work_dir": folder / "work",
        "learning_rate": 3e-3,
        "epochs": 2,
        "batch_size": 12,
        "group_size": 8,
        "temperature": 1.0,
        "top_p": 1.0,
        "kl_coef": 0.001,
        "max_completion_tokens": 3,
        "max_prompt_tokens": 30,
        "seed": 1,
    }
    return TrainJob(**{**usual, **settings})


def train(task: Any, of: TrainJob, **settings: Any) -> list[TrainStep]:
    steps: list[TrainStep] = []
    GRPOTrainer(**settings).train(of, task, steps.append)
    return steps


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    loaded: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    return loaded


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    "settings",
    [{}, {"kl_coef": 0.0}, {"lora_rank": 8, "learning_rate": 1e-2, "epochs": 16}, {"dtype": "bfloat16"}],
    ids=["all-weights", "without-kl", "lora", "bfloat16"],
)
def test_learns_what_is_rewarded(model_dir: Path, tmp_path: Path, parrot: Any, settings: dict[str, Any]) -> None:
    steps = train(parrot, job(model_dir, tmp_path, **{"epochs": 8, **settings}))
    rewards = [step.metrics["reward"] for step in steps]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.15
    assert [step.step for step in steps] == list(range(1, steps[-1].steps + 1))
    epochs = settings.get("epochs", 8)
    assert {step.steps for step in steps} == {3 * epochs}
    assert steps[-1].epoch == epochs
    names = ["loss", "reward", "reward_std", "kl", "grad_norm", "learning_rate", "completion_length", "seconds"]
    assert all(set(names) <= set(step.metrics) for step in steps)
    assert all(math.isfinite(value) for step in steps for value in step.metrics.values())
    for epoch in range(epochs):
        ids = [i for step in steps[3 * epoch : 3 * epoch + 3] for i in step.rewards]
        assert sorted(ids) == sorted(item.id for item in ITEMS)


def test_the_saved_model_stands_alone(model_dir: Path, tmp_path: Path, parrot: Any) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    start = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.bfloat16)
    start.save_pretrained(tmp_path / "half")
    # Common on the hub: such settings load, but transformers refuses to save them.
    settings = json.loads((tmp_path / "half" / "generation_config.json").read_text())
    (tmp_path / "half" / "generation_config.json").write_text(json.dumps({**settings, "temperature": 0.6}))
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(tmp_path / "half")
    for rank in (0, 2):
        of = job(tmp_path / "half", tmp_path / str(rank), lora_rank=rank, epochs=1)
        train(parrot, of)
        trained = weights(of.output_dir)
        assert trained.keys() == weights(tmp_path / "half").keys()
        assert {value.dtype for value in trained.values()} == {torch.bfloat16}
        model = AutoModelForCausalLM.from_pretrained(of.output_dir)
        tokenizer = AutoTokenizer.from_pretrained(of.output_dir)
        assert tokenizer("say a: ")["input_ids"] == AutoTokenizer.from_pretrained(model_dir)("say a: ")["input_ids"]
        assert model.generation_config.eos_token_id == 2
        assert not list(of.output_dir.parent.glob("*.partial"))


def test_steps_repeat(model_dir: Path, tmp_path: Path, parrot: Any) -> None:
    runs = [train(parrot, job(model_dir, tmp_path / name)) for name in "ab"]
    assert [s.rewards for s in runs[0]] == [s.rewards for s in runs[1]]
    assert same(weights(tmp_path / "a" / "model"), weights(tmp_path / "b" / "model"))
    train(parrot, job(model_dir, tmp_path / "c", seed=2))
    assert not same(weights(tmp_path / "a" / "model"), weights(tmp_path / "c" / "model"))


@pytest.mark.parametrize("rank", [0, 2])
def test_goes_on_after_a_kill(model_dir: Path, tmp_path: Path, parrot: Any, rank: int) -> None:
    whole, broken = (
        job(model_dir, tmp_path / "whole", lora_rank=rank),
        job(model_dir, tmp_path / "broken", lora_rank=rank),
    )
    undisturbed = train(parrot, whole)
    # A process that is killed while it reports step 4.
    script = tmp_path / "killed.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os, pathlib, pickle, types
            from dsrl_transformers.grpo import GRPOTrainer
            job = pickle.loads(pathlib.Path({str(tmp_path / "job")!r}).read_bytes())
            task = types.SimpleNamespace(hook=types.SimpleNamespace(
                reward=lambda output, label, input: float(output.startswith(label))))
            GRPOTrainer(checkpoint_seconds=0).train(job, task, lambda step: step.step == 4 and os._exit(9))
            """
        )
    )
    import pickle

    (tmp_path / "job").write_bytes(pickle.dumps(broken))
    assert subprocess.run([sys.executable, str(script)], check=False).returncode == 9
    assert not broken.output_dir.exists()
    rest = train(parrot, broken)
    assert [step.step for step in rest] == [4, 5, 6]
    assert [step.rewards for step in rest] == [step.rewards for step in undisturbed[3:]]
    assert same(weights(whole.output_dir), weights(broken.output_dir))
    # A finished job stays finished: no step is reported, and nothing is written.
    before = (broken.output_dir / "model.safetensors").stat().st_mtime_ns
    assert train(parrot, broken) == []
    assert (broken.output_dir / "model.safetensors").stat().st_mtime_ns == before
    assert [path.name for path in broken.work_dir.iterdir()] == ["finished"]


def test_a_kill_before_the_model_is_in_its_place(
    model_dir: Path, tmp_path: Path, parrot: Any, monkeypatch: Any
) -> None:
    from dsrl_transformers import training

    of = job(model_dir, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(training.Training, "_save_model", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(parrot, of, checkpoint_seconds=0)
    assert train(parrot, of) == []
    assert (of.output_dir / "config.json").exists()


def test_a_checkpoint_of_another_job_is_refused(model_dir: Path, tmp_path: Path, parrot: Any) -> None:
    of = job(model_dir, tmp_path)

    def stop(step: TrainStep) -> None:
        if step.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        GRPOTrainer(checkpoint_seconds=0).train(of, parrot, stop)
    with pytest.raises(StoreError, match="other settings"):
        train(parrot, replace(of, learning_rate=1e-4))
    (of.work_dir / "checkpoint.pt").write_bytes(b"torn")
    assert len(train(parrot, of)) == 6


def test_an_output_folder_in_use_is_left_alone(model_dir: Path, tmp_path: Path, parrot: Any) -> None:
    of = job(model_dir, tmp_path)
    of.output_dir.mkdir()
    (of.output_dir / "mine").write_text("x")
    with pytest.raises(StoreError, match="not an empty folder"):
        train(parrot, of)
    assert (of.output_dir / "mine").read_text() == "x"


def test_long_items_are_left_out(model_dir: Path, tmp_path: Path, parrot: Any, caplog: Any) -> None:
    long = TrainItem("long", Prompt("say " * 20), "say", "a")
    with caplog.at_level(logging.WARNING):
        steps = train(parrot, job(model_dir, tmp_path / "a", items=(*ITEMS, long)))
    assert "1 training items are left out" in caplog.text
    assert steps[0].metrics["left_out"] == 1
    assert not any("long" in step.rewards for step in steps)
    with pytest.raises(DsrlError, match="None of 1 training items"):
        train(parrot, job(model_dir, tmp_path / "b", items=(long,)))


def test_no_difference_no_change(model_dir: Path, tmp_path: Path) -> None:
    indifferent = SimpleNamespace(hook=SimpleNamespace(reward=lambda output, label, input: 0.5))
    of = job(model_dir, tmp_path, kl_coef=0.0)
    steps = train(indifferent, of)
    assert [step.metrics["grad_norm"] for step in steps] == [0.0] * 6
    assert [step.metrics["reward"] for step in steps] == [0.5] * 6
    assert same(weights(of.output_dir), weights(model_dir))


def test_steps_without_a_finite_gradient(model_dir: Path, tmp_path: Path, parrot: Any, monkeypatch: Any) -> None:
    from dsrl_transformers import training

    sound, calls = training.backward, []

    def sometimes(*args: Any) -> Any:
        calls.append(1)
        terms = sound(*args)
        return replace(terms, loss=math.nan) if broken(len(calls)) else terms

    monkeypatch.setattr(training, "backward", sometimes)
    broken = lambda call: call == 2  # noqa: E731
    steps = train(parrot, job(model_dir, tmp_path / "a"))
    assert [step.metrics["skipped"] for step in steps] == [0, 1, 1, 1, 1, 1]
    broken = lambda call: True  # noqa: E731
    with pytest.raises(DsrlError, match="5 steps in a row"):
        train(parrot, job(model_dir, tmp_path / "b"), equal_groups="keep")


def test_faults_are_sentences(model_dir: Path, tmp_path: Path, parrot: Any, monkeypatch: Any) -> None:
    with pytest.raises(DataError, match="holds no model"):
        train(parrot, job(tmp_path, tmp_path / "a"))
    silent = SimpleNamespace(hook=SimpleNamespace(reward=lambda output, label, input: None))
    with pytest.raises(PluginError, match="must be a finite number"):
        train(silent, job(model_dir, tmp_path / "b"))
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be created"):
        train(parrot, job(model_dir, tmp_path / "c", work_dir=tmp_path / "file" / "work"))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(DsrlError, match=r"pip install 'peft>=0.17'"):
        train(parrot, job(model_dir, tmp_path / "d", lora_rank=2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("settings", [{}, {"lora_rank": 4}, {"dtype": "float32"}])
def test_cuda(model_dir: Path, tmp_path: Path, parrot: Any, settings: dict[str, Any]) -> None:
    of = job(model_dir, tmp_path, device="cuda", **settings)
    steps = train(parrot, of)
    assert len(steps) == 6
    assert not same(weights(of.output_dir), weights(model_dir))


def test_a_kill_around_the_saving_of_the_model(
    model_dir: Path, tmp_path: Path, parrot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    of = job(model_dir, tmp_path, epochs=1)
    for place in ("training.write_folder", "checkpoint.Checkpoints.remove"):
        with monkeypatch.context() as patched:
            patched.setattr(f"dsrl_transformers.{place}", killed)
            with pytest.raises(KeyboardInterrupt):
                train(parrot, of)
    assert train(parrot, of) == [], "no step is done again"
    assert weights(of.output_dir)
    assert [path.name for path in of.work_dir.iterdir()] == ["finished"]


def test_the_check_leaves_nothing_and_says_what_is_missing(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = job(model_dir, tmp_path / "run", items=())
    GRPOTrainer().check(of)
    assert not (tmp_path / "run").exists()
    with pytest.raises(DsrlError, match="256 tokens"):
        GRPOTrainer().check(replace(of, max_completion_tokens=256))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(DsrlError, match="pip install"):
        GRPOTrainer().check(replace(of, lora_rank=4))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(StoreError, match="symbolic link"):
        GRPOTrainer().check(replace(of, output_dir=tmp_path / "link"))


def test_parts_of_rewards_are_metrics(model_dir: Path, tmp_path: Path) -> None:
    def reward(output: str, label: str, input: str) -> float:
        right, short = float(output.startswith(label)), float(len(output) < 3)
        return Reward(right + short, {"right": right, "short": short}) if input != "say a" else right

    parts = SimpleNamespace(hook=SimpleNamespace(reward=reward))
    without_a = tuple(item for item in ITEMS if item.label != "a")
    for items, is_sum in ((without_a, True), (ITEMS, False)):
        steps = train(parts, job(model_dir, tmp_path / str(is_sum), items=items, epochs=1))
        sums = [step.metrics["reward/right"] + step.metrics["reward/short"] for step in steps]
        equal = [math.isclose(total, step.metrics["reward"]) for total, step in zip(sums, steps, strict=True)]
        assert all(equal) == is_sum


def test_the_number_of_parts_is_limited() -> None:
    from dsrl_transformers.objective import Group
    from dsrl_transformers.training import average_parts

    many = [Reward(1.0, {f"{answer}-{part}" * 100: 1.0 for part in range(90)}) for answer in range(2)]
    parts = average_parts([Group((3,), ((4,), (5,)), (1, 3), tuple(many))])
    assert len(parts) == 100
    assert max(map(len, parts)) == len("reward/") + 100
    halves = [Reward(1.0, {"a": 1.0}), Reward(0.0, {"a": 0.0, "b": 3.0}), 0.5]
    (group,) = [Group((3,), ((4,), (5,), (6,)), (1, 3, 9), tuple(halves))]
    assert average_parts([group]) == {"reward/a": 0.25, "reward/b": 3.0}


def test_a_checkpoint_belongs_to_what_the_weights_depend_on(model_dir: Path, tmp_path: Path) -> None:
    from dsrl_transformers.checkpoint import make_fingerprint

    of = job(model_dir, tmp_path)
    item = ITEMS[0]
    counted = replace(item, attempts=4, passed=2)
    for same in (replace(of, dev_items=ITEMS, device="cpu"), replace(of, items=(counted, *ITEMS[1:]))):
        assert make_fingerprint(same) == make_fingerprint(of)
    system = replace(item, prompt=Prompt(item.prompt, system="Be short."))
    for other in (replace(of, seed=2), replace(of, items=(system, *ITEMS[1:]))):
        assert make_fingerprint(other) != make_fingerprint(of)
    # A run that an older version of dsrl began can be continued.
    old = replace(of, model="m", items=(TrainItem("1-0", Prompt("ask a"), "a", "x"),))
    assert make_fingerprint(old) == "f375e02249ca3b7123522d5c6eac9d6c"


@pytest.mark.parametrize(("equal_groups", "has_kl"), [("skip", False), ("keep", True)])
def test_equal_groups_cost_no_pass(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, equal_groups: str, has_kl: bool
) -> None:
    from dsrl_transformers import training

    passes: list[int] = []

    def count(part: Any, *args: Any) -> Any:
        passes.append(len(part))
        return backward(part, *args)

    backward = training.backward
    monkeypatch.setattr(training, "backward", count)
    task = SimpleNamespace(hook=SimpleNamespace(reward=lambda output, label, input: 0.1))
    steps = train(task, job(model_dir, tmp_path, kl_coef=0.1), equal_groups=equal_groups)
    assert {step.metrics["equal_groups"] for step in steps} == {1.0}
    assert bool(passes) == has_kl


def test_a_judge_that_gives_the_same_points_trains_the_same_model(model_dir: Path, tmp_path: Path) -> None:
    """The rewards of a step are asked for together; those of a judge have the part ``judge``."""
    from dsrl.plugins.several_tasks import join_tasks

    def reward(output: str, label: str, input: str) -> float:
        return float(output.startswith(label))

    task = SimpleNamespace(
        name="parrot",
        hook=SimpleNamespace(
            reward=reward,
            process_prediction=lambda output, input: output,
            eval=lambda prediction, label, input: reward(prediction, label, input) >= 0.5,
        ),
    )
    calls: list[int] = []

    def judge(answers: Any) -> list[float]:
        calls.append(len(answers))
        return [reward(output, item.label, item.input) for item, output in answers]

    plain, judged = (job(model_dir, tmp_path / name, dev_items=ITEMS[:8], eval_every=4) for name in ("plain", "judged"))
    by_rules = train(task, plain)
    by_judge = train(join_tasks({"": task}, [""], judge), judged)
    assert same(weights(plain.output_dir), weights(judged.output_dir))
    assert [step.rewards for step in by_judge] == [step.rewards for step in by_rules]
    accuracies = [[step.metrics.get("dev_accuracy") for step in steps] for steps in (by_rules, by_judge)]
    assert accuracies[0] == accuracies[1]
    assert all(step.metrics["reward/judge"] == pytest.approx(step.metrics["reward"]) for step in by_judge)
    evaluations = sum("dev_accuracy" in step.metrics for step in by_judge)
    assert len(calls) == len(by_judge) + evaluations, "one call for a step, and one for an evaluation"
