"""Claim: with a real model the trainer `grpo` takes at most TRL's memory and at most half of its processor time a step.

    OMP_NUM_THREADS=1 python benchmarks/trainer_real.py --model SMOLLM2            # a folder in Hugging Face form
    OMP_NUM_THREADS=1 python benchmarks/trainer_real.py --model SMOLLM2 --trl-python trl/bin/python

The same model (its folder may also come from the environment variable DSRL_SMOLLM2), the same prompts in its chat
template, 4 prompts of 8 answers a step, all weights in float32 with a KL term; one process for each trainer and length of
answers. Prints the processor seconds of a step (the last of ``--steps``, with its rollouts) and the peak of the resident
memory. Prompts whose answers all have the same reward are computed, as TRL
does it (`equal_groups=keep`). TRL runs only if ``--trl-python`` names an interpreter that has it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

PROMPTS, ANSWERS = 4, 8
THINGS = ("apples", "stamps", "books", "coins", "shells")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=os.environ.get("DSRL_SMOLLM2"), help="folder of the model")
    parser.add_argument("--tokens", type=int, nargs="+", default=[24, 48], help="maximum lengths of an answer")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--dtype", default="float32", help="type of the forward pass")
    parser.add_argument("--lora-rank", type=int, default=0, help="0: all weights")
    parser.add_argument("--kl", type=float, default=0.01)
    parser.add_argument("--option", action="append", default=[], help="NAME=VALUE of the trainer grpo")
    parser.add_argument("--trl-python", help="interpreter of an environment with TRL; without it only grpo is run")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--child", choices=("dsrl", "trl"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.model:
        parser.error("give the folder of a model with --model or DSRL_SMOLLM2")
    if options.child:
        print(json.dumps({"dsrl": train_dsrl, "trl": train_trl}[options.child](options)))
        return
    interpreters = {"dsrl": sys.executable, **({"trl": options.trl_python} if options.trl_python else {})}
    runs = [
        {"trainer": name, "tokens": tokens, **run_child(options, name, python, tokens)}
        for tokens in options.tokens
        for name, python in interpreters.items()
    ]
    if options.json:
        print(json.dumps(runs))
        return
    print("| trainer | tokens of an answer | CPU s a step | peak memory, GB |")
    print("| --- | --- | --- | --- |")
    for run in runs:
        print(f"| {run['trainer']} | {run['tokens']} | {run['cpu_seconds'][-1]:.1f} | {run['peak_gb']:.2f} |")


def run_child(options: argparse.Namespace, name: str, python: str, tokens: int) -> dict[str, Any]:
    """Run one training in a process of its own."""
    command = [python, __file__, "--child", name, "--model", options.model, "--tokens", str(tokens)]
    command += ["--steps", str(options.steps), "--dtype", options.dtype, "--lora-rank", str(options.lora_rank)]
    command += ["--kl", str(options.kl), *(part for option in options.option for part in ("--option", option))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def make_items(steps: int) -> list[tuple[str, str]]:
    """Return questions with their answers."""
    rng = random.Random(0)
    items = []
    for _ in range(steps * PROMPTS):
        a, b, c = rng.randint(2, 20), rng.randint(2, 20), rng.randint(2, 9)
        thing = rng.choice(THINGS)
        items.append(
            (
                f"Ann has {a} {thing}. She buys {b} more and gives {c} away. How many {thing} does Ann have now? Show "
                "the calculation in short steps, and write the resulting number after #### at the end.",
                str(a + b - c),
            )
        )
    return items


def reward(output: str, label: str) -> float:
    return 1.0 if label in output else 0.1 if "####" in output else 0.0


def report(marks: list[float]) -> dict[str, Any]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"cpu_seconds": [b - a for a, b in itertools.pairwise(marks)], "peak_gb": peak}


def train_dsrl(options: argparse.Namespace) -> dict[str, Any]:
    from types import SimpleNamespace

    from dsrl_transformers.grpo import GRPOTrainer
    from transformers import AutoTokenizer

    from dsrl import Prompt, TrainItem, TrainJob

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    settings: dict[str, Any] = {name: json.loads(text) for name, _, text in (o.partition("=") for o in options.option)}
    items = []
    for i, (question, label) in enumerate(make_items(options.steps)):
        chat = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        items.append(TrainItem(str(i), Prompt(text), question, label))
    task: Any = SimpleNamespace(hook=SimpleNamespace(reward=lambda output, label, input: reward(output, label)))
    with tempfile.TemporaryDirectory() as folder:
        job = TrainJob(
            model=options.model,
            items=tuple(items),
            output_dir=Path(folder) / "model",
            work_dir=Path(folder) / "work",
            learning_rate=1e-6,
            epochs=1,
            batch_size=PROMPTS,
            group_size=ANSWERS,
            temperature=1.0,
            top_p=1.0,
            kl_coef=options.kl,
            max_completion_tokens=options.tokens[0],
            max_prompt_tokens=512,
            seed=0,
            device="cpu",
            dtype=options.dtype,
            lora_rank=options.lora_rank,
        )
        # The time before the first step, when the model is loaded, is left out; the first step itself is longer by it.
        marks = [time.process_time()]
        GRPOTrainer(**{"checkpoint_seconds": 1e6, "equal_groups": "keep", **settings}).train(
            job, task, lambda step: marks.append(time.process_time())
        )
    return report(marks)


def train_trl(options: argparse.Namespace) -> dict[str, Any]:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    marks: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            marks.append(time.process_time())

    def grade(completions: list[Any], label: list[str], **_: Any) -> list[float]:
        return [reward(answer[0]["content"], gold) for answer, gold in zip(completions, label, strict=True)]

    adapters = None
    if options.lora_rank:
        from peft import LoraConfig

        rank = options.lora_rank
        adapters = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    rows = [{"prompt": [{"role": "user", "content": text}], "label": gold} for text, gold in make_items(options.steps)]
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32),
            processing_class=AutoTokenizer.from_pretrained(options.model),
            reward_funcs=grade,
            peft_config=adapters,
            train_dataset=Dataset.from_list(rows),
            args=GRPOConfig(
                output_dir=folder,
                use_cpu=True,
                bf16=options.dtype == "bfloat16",
                per_device_train_batch_size=ANSWERS,
                gradient_accumulation_steps=PROMPTS,
                gradient_checkpointing=False,
                num_generations=ANSWERS,
                max_completion_length=options.tokens[0],
                temperature=1.0,
                beta=options.kl,
                loss_type="grpo",
                learning_rate=1e-6,
                lr_scheduler_type="constant",
                max_steps=options.steps,
                seed=0,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            callbacks=[Clock()],
        )
        trainer.train()
    return report([*marks, time.process_time()])


if __name__ == "__main__":
    main()
