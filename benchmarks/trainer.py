"""Claim: for one machine the trainer `grpo` costs the user plainly less than TRL's GRPOTrainer, and learns as much.

    python -m venv trl && trl/bin/pip install torch==2.13.0 trl==1.16.0 peft accelerate datasets
    OMP_NUM_THREADS=1 python benchmarks/trainer.py --trl-python trl/bin/python

The same model, items, reward, steps, batch (64 prompts of 16 answers, temperature 1.2), learning rate, KL weight and
clipping; one process each, one after the other, in as many rounds as there are seeds. Prints seconds a step (the median,
without the first step), peak memory, import time, and the accuracy on held-out items (greedy, development split) before
and after, all evaluated by the same sampler.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

MAX_TOKENS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl-python", help="interpreter of an environment with TRL; without it only ours is run")
    parser.add_argument("--model", help="folder of a model; without it the tiny one that is shipped")
    parser.add_argument("--items", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--kl", type=float, default=0.001)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--trl-batch", type=int, default=256, help="rows of TRL's forward and backward passes")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--child", choices=("dsrl", "trl"), help=argparse.SUPPRESS)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        job = json.loads(Path(options.job).read_text())
        print(json.dumps({"dsrl": train_dsrl, "trl": train_trl}[options.child](job)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        result = compare(options, Path(scratch))
    if options.json:
        print(json.dumps(result))
        return
    print("| trainer | s a step | peak memory, MB | import, s | whole training, s | accuracy before | after |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, runs in result["runs"].items():
        step, memory, imports, whole = (
            statistics.median(run[key] for run in runs) for key in ("step", "memory_mb", "import", "seconds")
        )
        after = ", ".join(f"{run['after']:.1%}" for run in runs)
        print(
            f"| {name} | {step:.2f} | {memory:.0f} | {imports:.1f} | {whole:.1f} | {result['before']:.1%} | {after} |"
        )


def compare(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Run both trainers for every seed."""
    import dsrl_transformers

    model = options.model or str(Path(next(iter(dsrl_transformers.__path__))) / "tiny")
    train, test = items(options.items)
    result: dict[str, Any] = {"before": accuracy(model, test), "n_test": len(test), "runs": {"dsrl": []}}
    interpreters = {"dsrl": sys.executable}
    if options.trl_python:
        interpreters["trl"] = options.trl_python
        result["runs"]["trl"] = []
    for seed in options.seeds:
        for name, python in interpreters.items():
            job = {
                "model": model,
                "items": train,
                "output": str(scratch / f"{name}-{seed}"),
                "epochs": options.epochs,
                "learning_rate": options.learning_rate,
                "kl": options.kl,
                "seed": seed,
                "trl_batch": options.trl_batch,
            }
            file = scratch / "job.json"
            file.write_text(json.dumps(job))
            start = time.perf_counter()
            done = subprocess.run(
                [python, __file__, "--child", name, "--job", str(file)], check=True, stdout=subprocess.PIPE, text=True
            )
            run = json.loads(done.stdout.splitlines()[-1])
            run["process_seconds"] = time.perf_counter() - start
            run["after"] = accuracy(job["output"], test)
            result["runs"][name].append(run)
    return result


def items(count: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Give training and held-out items: prompt and label."""
    from dsrl_tasks import mednli
    from dsrl_tasks.mednli import procedural

    rng = random.Random(0)
    ask = mednli.output_instruction()
    written = [procedural.write(rng, 1 + i % 4, "") for i in range(count)]
    heldout = procedural.make_held_out_items("dev", 300)
    train, test = ([(f"{text} {ask}", answer(output) or "") for text, output in part] for part in (written, heldout))
    return train, test


def answer(text: str) -> str | None:
    """Read the label in the last ``<answer>``."""
    for label in ("entailment", "neutral", "contradiction"):
        if text.rpartition("<answer>")[2].split("</answer>")[0].strip() == label and "<answer>" in text:
            return label
    return None


def reward(output: str, label: str) -> float:
    """1 right, 0.1 readable, 0 unreadable."""
    got = answer(output)
    return 0.0 if got is None else 1.0 if got == label else 0.1


def accuracy(model: str, test: list[tuple[str, str]]) -> float:
    """Give the share of held-out items that the model solves greedily."""
    from dsrl_transformers.sampler import TransformersSampler

    from dsrl import Prompt

    sampler = TransformersSampler(model)
    settings = {"temperature": 0.0, "top_p": 1.0, "max_tokens": MAX_TOKENS, "seed": 0, "first": 0, "adapter": None}
    texts = asyncio.run(sampler.sample([Prompt(prompt) for prompt, _ in test], 1, **settings))
    asyncio.run(sampler.aclose())
    return sum(answer(text) == label for (text,), (_, label) in zip(texts, test, strict=True)) / len(test)


def report(imports: float, seconds: float, steps: list[float], rewards: list[float]) -> dict[str, Any]:
    return {
        "import": imports,
        "seconds": seconds,
        "step": statistics.median(steps[1:]),
        "steps": len(steps),
        "rewards": rewards,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def train_dsrl(job: dict[str, Any]) -> dict[str, Any]:
    start = time.perf_counter()
    from types import SimpleNamespace

    import dsrl_transformers.training  # noqa: F401  its imports are what is timed
    from dsrl_transformers.grpo import GRPOTrainer

    from dsrl import Prompt, TrainItem, TrainJob, TrainStep

    imports = time.perf_counter() - start
    task: Any = SimpleNamespace(hook=SimpleNamespace(reward=lambda output, label, input: reward(output, label)))
    steps: list[TrainStep] = []
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        GRPOTrainer().train(
            TrainJob(
                model=job["model"],
                items=tuple(
                    TrainItem(str(i), Prompt(prompt), prompt, label) for i, (prompt, label) in enumerate(job["items"])
                ),
                output_dir=Path(job["output"]),
                work_dir=Path(work),
                learning_rate=job["learning_rate"],
                epochs=job["epochs"],
                batch_size=64,
                group_size=16,
                temperature=1.2,
                top_p=1.0,
                kl_coef=job["kl"],
                max_completion_tokens=MAX_TOKENS,
                max_prompt_tokens=512,
                seed=job["seed"],
            ),
            task,
            steps.append,
        )
    seconds = time.perf_counter() - start
    return report(imports, seconds, [s.metrics["seconds"] for s in steps], [s.metrics["reward"] for s in steps])


def train_trl(job: dict[str, Any]) -> dict[str, Any]:
    start = time.perf_counter()
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    imports = time.perf_counter() - start
    marks: list[float] = []
    rewards: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            marks.append(time.perf_counter())

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if "reward" in (logs or {}):
                rewards.append(float(logs["reward"]))

    def graded(completions: list[str], label: list[str], **_: Any) -> list[float]:
        return [reward(text, gold) for text, gold in zip(completions, label, strict=True)]

    steps = len(job["items"]) // 64 * job["epochs"]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32),
            processing_class=AutoTokenizer.from_pretrained(job["model"]),
            reward_funcs=graded,
            train_dataset=Dataset.from_list([{"prompt": p, "label": gold} for p, gold in job["items"]]),
            args=GRPOConfig(
                output_dir=work,
                use_cpu=True,
                bf16=False,
                per_device_train_batch_size=job["trl_batch"],
                gradient_accumulation_steps=1024 // job["trl_batch"],
                gradient_checkpointing=False,
                num_generations=16,
                max_completion_length=MAX_TOKENS,
                temperature=1.2,
                beta=job["kl"],
                loss_type="grpo",
                learning_rate=job["learning_rate"],
                lr_scheduler_type="constant_with_warmup",
                warmup_steps=min(10, steps // 10),
                max_grad_norm=1.0,
                max_steps=steps,
                seed=job["seed"],
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            callbacks=[Clock()],
        )
        trainer.train()
        trainer.save_model(job["output"])
    end = time.perf_counter()
    bounds = [*marks, end]
    # TRL makes a step's rollouts in its first micro-batch, after on_step_begin.
    return report(imports, end - start, [b - a for a, b in itertools.pairwise(bounds)], rewards)


if __name__ == "__main__":
    main()
