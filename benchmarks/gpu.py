"""On a GPU: answers a second of the samplers and of `model.generate`, and the time and memory of a step of the trainers.

    python benchmarks/gpu.py model --size 0.5b --output m05             # a random model of the shape of Qwen2.5-0.5B
    python benchmarks/gpu.py sampler --model m05 --dtype bfloat16       # add --ways vllm where vLLM is installed
    python benchmarks/gpu.py trainer --model m05 --case bfloat16 --case float32 --case lora
    python benchmarks/gpu.py trainer --model m05 --case bfloat16 --trainer trl

A random model never ends its answers and shares no beginnings between them: the worst case for dsrl's sampler and trainer,
which compute a common beginning once. All answers have the same number of tokens, so the work of all ways is the same.
Prints one JSON object for each measurement.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

#: Size -> the shape of Qwen2.5: hidden, layers, inner, heads, key-value heads, vocabulary, whether the head is tied.
SIZES: dict[str, tuple[int, int, int, int, int, int, bool]] = {
    "toy": (64, 2, 128, 2, 1, 8192, True),
    "0.5b": (896, 24, 4864, 14, 2, 151936, True),
    "1.5b": (1536, 28, 8960, 12, 2, 151936, True),
    "3b": (2048, 36, 11008, 16, 2, 151936, True),
    "7b": (3584, 28, 18944, 28, 4, 152064, False),
}
#: Name -> dtype, rank of the adapters, weight of the KL term, options of the trainer.
CASES: dict[str, dict[str, Any]] = {
    "bfloat16": {"dtype": "bfloat16", "lora_rank": 0, "kl": 0.001},
    "float32": {"dtype": "float32", "lora_rank": 0, "kl": 0.001},
    "no-kl": {"dtype": "bfloat16", "lora_rank": 0, "kl": 0.0},
    "lora": {"dtype": "bfloat16", "lora_rank": 16, "kl": 0.001},
    "lora-float32": {"dtype": "float32", "lora_rank": 16, "kl": 0.001},
    "recomputed": {"dtype": "bfloat16", "lora_rank": 0, "kl": 0.001, "option": {"gradient_checkpointing": "on"}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("model", help="make a random model")
    make.add_argument("--size", choices=SIZES, default="0.5b")
    make.add_argument("--output", required=True, help="its folder")
    sampler = commands.add_parser("sampler", help="answers a second")
    ways = ("transformers", "generate", "vllm")
    sampler.add_argument("--ways", nargs="+", choices=ways, default=["transformers", "generate"])
    sampler.add_argument("--rows", type=int, nargs="+", default=[128, 512, 1024], help="rows of a call of generate")
    sampler.add_argument("--own-rows", type=int, nargs="+", default=[0], help="rows of the sampler; 0: as it comes")
    sampler.add_argument("--prompts", type=int, default=64)
    sampler.add_argument("--answers", type=int, default=16, help="answers to each prompt")
    sampler.add_argument("--dtype", default="bfloat16")
    trainer = commands.add_parser("trainer", help="time and memory of a step")
    trainer.add_argument("--trainer", choices=("grpo", "trl"), default="grpo")
    trainer.add_argument("--case", action="append", choices=CASES, required=True)
    trainer.add_argument("--steps", type=int, default=4)
    trainer.add_argument("--prompts", type=int, default=16, help="prompts of a step")
    trainer.add_argument("--answers", type=int, default=8, help="answers to each prompt")
    trainer.add_argument("--trl-rows", type=int, default=32, help="rows of a pass of TRL")
    trainer.add_argument("--profile", help="write where the time of the last step goes to this file")
    for command in (sampler, trainer):
        command.add_argument("--model", required=True, help="folder of the model")
        command.add_argument("--tokens", type=int, default=128, help="tokens of an answer")
        command.add_argument("--device", default="cuda")
    options = parser.parse_args()
    {"model": make_model, "sampler": measure_samplers, "trainer": measure_trainer}[options.command](options)


def make_model(options: argparse.Namespace) -> None:
    """Make a random model with the tokenizer of the tiny one, stored in bfloat16."""
    import dsrl_transformers
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    tiny = Path(next(iter(dsrl_transformers.__path__))) / "tiny"
    hidden, layers, inner, heads, pairs, vocabulary, is_tied = SIZES[options.size]
    config = Qwen2Config(
        hidden_size=hidden, num_hidden_layers=layers, intermediate_size=inner, num_attention_heads=heads,
        num_key_value_heads=pairs, vocab_size=vocabulary, tie_word_embeddings=is_tied, max_position_embeddings=4096,
        eos_token_id=0, bos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = Qwen2ForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(options.output)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(options.output)
    show(what="model", size=options.size, weights=model.num_parameters())


def measure_samplers(options: argparse.Namespace) -> None:
    """Draw the same number of answers in each way, and show the answers and tokens of a second."""
    import dsrl_transformers.chains
    from dsrl_transformers.decode import DecodeSettings
    from dsrl_transformers.language_model import load_model

    texts = make_prompts(options.prompts)
    facts = {"what": "sampler", "dtype": options.dtype, "tokens": options.tokens}
    if {"transformers", "generate"} & set(options.ways):
        lm = load_model(options.model, options.device, options.dtype)
        lm.stop = frozenset()
        prompts = [lm.encode(text) for text in texts]

        def draw(prompts: list[list[int]], tokens: int) -> int:
            drawn = lm.complete(prompts, DecodeSettings(options.answers, 1.0, 1.0, tokens, 1, 0))
            return sum(len(completions.indices) for completions in drawn)

        for rows in options.own_rows if "transformers" in options.ways else ():
            if rows:
                dsrl_transformers.chains._MOST_ROWS["cuda"] = rows
            with measured(
                way="transformers", rows=rows or dsrl_transformers.chains._MOST_ROWS["cuda"], **facts
            ) as told:
                draw(prompts[:4], 10)
                told.begin()
                told.answers = draw(prompts, options.tokens)
        copies = [prompt for prompt in prompts for _ in range(options.answers)]
        for rows in options.rows if "generate" in options.ways else ():
            with measured(way="generate", rows=rows, **facts) as told:
                generate(lm, copies[:rows], 10)
                told.begin()
                for start in range(0, len(copies[: 2 * rows]), rows):
                    told.answers += generate(lm, copies[: 2 * rows][start : start + rows], options.tokens)
        del lm
        gc.collect()
    if "vllm" in options.ways:
        with measured(way="vllm", **facts) as told:
            asyncio.run(sample_with_vllm(options, texts, told))


async def sample_with_vllm(options: argparse.Namespace, texts: list[Any], told: Measure) -> None:
    from dsrl_vllm.sampler import VllmSampler

    sampler = VllmSampler(options.model, options.device, options.dtype, max_sequences=1024)
    settings = {"temperature": 1.0, "top_p": 1.0, "seed": 0, "first": 0, "adapter": None}
    start = time.perf_counter()
    await sampler.sample(texts[:4], options.answers, max_tokens=10, **settings)
    told.extra["start_seconds"] = round(time.perf_counter() - start, 1)
    told.begin()
    drawn = await sampler.sample(texts, options.answers, max_tokens=options.tokens, **settings)
    told.answers = sum(map(len, drawn))
    told.end()
    await sampler.aclose()


def generate(lm: Any, prompts: list[list[int]], tokens: int) -> int:
    """Draw an answer to each of ``prompts`` with ``model.generate``, as one writes it by hand."""
    import torch

    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=lm.model.device)
    mask = torch.tensor(
        [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=lm.model.device
    )
    with torch.inference_mode():
        out = lm.model.generate(
            ids, attention_mask=mask, do_sample=True, temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=tokens,
            min_new_tokens=tokens, eos_token_id=0, pad_token_id=0,
        )  # fmt: skip
    lm.tokenizer.batch_decode(out[:, longest:], skip_special_tokens=True)
    return len(out)


def measure_trainer(options: argparse.Namespace) -> None:
    """Train some steps in each case, and show the time of a step, without the first, and the peak memory."""
    train = train_with_grpo if options.trainer == "grpo" else train_with_trl
    for name in options.case:
        case = CASES[name]
        facts = {"what": "trainer", "trainer": options.trainer, "case": name, "tokens": options.tokens}
        with measured(**facts) as told, tempfile.TemporaryDirectory() as folder:
            told.begin()
            train(options, case, Path(folder), told)
            told.answers = options.prompts * options.answers


def train_with_grpo(options: argparse.Namespace, case: dict[str, Any], folder: Path, told: Measure) -> None:
    from types import SimpleNamespace

    import dsrl_transformers.training as training
    from dsrl_transformers.grpo import GRPOTrainer
    from dsrl_transformers.memory_estimate import TrainingKind, estimate_memory
    from dsrl_transformers.model_files import check_model

    from dsrl import TrainItem, TrainJob, TrainStep

    luck = random.Random(0)
    task: Any = SimpleNamespace(hook=SimpleNamespace(reward=lambda output, label, input: luck.choice((0.0, 1.0))))
    prompts = make_prompts(options.prompts * options.steps)
    items = tuple(TrainItem(str(i), prompt, str(prompt), "") for i, prompt in enumerate(prompts))
    job = TrainJob(
        model=options.model, items=items, output_dir=folder / "model", work_dir=folder / "work", learning_rate=1e-6,
        epochs=1, batch_size=options.prompts, group_size=options.answers, temperature=1.0, top_p=1.0, kl_coef=case["kl"],
        max_completion_tokens=options.tokens, max_prompt_tokens=512, seed=0, device=options.device, dtype=case["dtype"],
        lora_rank=case["lora_rank"],
    )  # fmt: skip
    steps: list[TrainStep] = []
    parts: dict[str, list[float]] = {}
    planned: list[Any] = []
    plan = training.Training._plan_passes

    def remember(self: Any, shape: Any) -> None:
        plan(self, shape)
        planned[:] = [self.batch_tokens, self.is_recomputed, self.lm.has_trees]

    names = ("_answer", "_compute_gradient", "_update", "_prepare", "_save_model")
    profile = profiled(options.profile, training.Training, options.steps) if options.profile else nullcontext()
    training.Training._plan_passes = remember  # type: ignore[method-assign]
    try:
        with timed_parts(training.Training, names, parts), profile:
            GRPOTrainer(checkpoint_seconds=1e6, **case.get("option", {})).train(job, task, steps.append)
    finally:
        training.Training._plan_passes = plan  # type: ignore[method-assign]
    facts = check_model(options.model)
    kind = TrainingKind(case["lora_rank"], case["kl"] > 0, False, case["dtype"] == "bfloat16", facts.is_bfloat16)
    needs = estimate_memory(facts.weights or 0, facts.shape, kind)
    tokens, is_recomputed, has_trees = planned
    is_narrow = case["dtype"] == "bfloat16"
    told.extra |= {
        "step_seconds": [round(step.metrics["seconds"], 3) for step in steps],
        "parts": {name: [round(value, 3) for value in values] for name, values in parts.items()},
        "estimate_gb": round(needs.total / 1e9, 2),
        "pass_estimate_gb": round(facts.shape.get_pass_bytes(tokens, is_recomputed, is_narrow) / 1e9, 2),
        "pass_tokens": tokens,
        "is_recomputed": is_recomputed,
        "has_trees": has_trees,
        "completion_length": steps[-1].metrics["completion_length"],
        "grad_norm": [round(step.metrics["grad_norm"], 4) for step in steps],
        "kl": [step.metrics["kl"] for step in steps],
    }


def train_with_trl(options: argparse.Namespace, case: dict[str, Any], folder: Path, told: Measure) -> None:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    marks: list[float] = []
    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            synchronize()
            marks.append(time.perf_counter())

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            synchronize()
            ends.append(time.perf_counter())

    luck = random.Random(0)
    adapters = None
    if case["lora_rank"]:
        from peft import LoraConfig

        rank = case["lora_rank"]
        adapters = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    is_narrow = case["dtype"] == "bfloat16"
    rows = options.prompts * options.answers
    dtype = torch.bfloat16 if is_narrow and adapters else torch.float32
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype),
        processing_class=AutoTokenizer.from_pretrained(options.model),
        reward_funcs=lambda completions, **_: [luck.choice((0.0, 1.0)) for _ in completions],
        peft_config=adapters,
        train_dataset=Dataset.from_list([{"prompt": str(p)} for p in make_prompts(options.prompts * options.steps)]),
        args=GRPOConfig(
            output_dir=str(folder), use_cpu=options.device == "cpu", bf16=is_narrow,
            tf32=None if options.device == "cpu" else False,
            per_device_train_batch_size=min(options.trl_rows, rows),
            gradient_accumulation_steps=max(1, rows // options.trl_rows), gradient_checkpointing=False,
            num_generations=options.answers, max_completion_length=options.tokens, temperature=1.0, beta=case["kl"],
            loss_type="grpo", learning_rate=1e-6, lr_scheduler_type="constant", max_grad_norm=1.0,
            max_steps=options.steps, seed=0, logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True,
        ),
        callbacks=[Clock()],
    )  # fmt: skip
    trainer.train()
    # A random model may draw the end token; nearly all answers are full.
    told.extra["step_seconds"] = [round(end - mark, 3) for mark, end in zip(marks, ends, strict=True)]
    lengths = [log["completions/mean_length"] for log in trainer.state.log_history if "completions/mean_length" in log]
    told.extra["completion_length"] = lengths[-1] if lengths else None


class Measure:
    """One measurement: from :meth:`begin` to the end of its context, or to :meth:`end`."""

    def __init__(self) -> None:
        self.answers, self.start, self.seconds = 0, 0.0, 0.0
        self.extra: dict[str, Any] = {}

    def begin(self) -> None:
        synchronize()
        self.start = time.perf_counter()

    def end(self) -> None:
        if not self.seconds:
            synchronize()
            self.seconds = time.perf_counter() - self.start


@contextmanager
def measured(**facts: Any) -> Any:
    """Show a measurement, or the error that ended it."""
    import torch

    told = Measure()
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        yield told
    except Exception as error:  # noqa: BLE001 - the other measurements go on
        traceback.print_exc()
        show(**facts, error=f"{type(error).__name__}: {error}"[:500], **told.extra)
        return
    told.end()
    result = {**facts, "answers": told.answers, "seconds": round(told.seconds, 2), **told.extra}
    steps = told.extra.get("step_seconds")
    seconds = statistics.median(steps[1:] or steps) if steps else told.seconds
    result["answers_per_second"] = round(told.answers / seconds, 1)
    result["tokens_per_second"] = round(told.answers * facts["tokens"] / seconds)
    if torch.cuda.is_available():
        result["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        result["reserved_gb"] = round(torch.cuda.max_memory_reserved() / 1e9, 2)
    show(**result)


@contextmanager
def timed_parts(owner: Any, names: tuple[str, ...], parts: dict[str, list[float]]) -> Any:
    """Note the seconds of each call of some methods of a class."""
    originals = {name: getattr(owner, name) for name in names}

    def wrap(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **settings: Any) -> Any:
            synchronize()
            start = time.perf_counter()
            try:
                return method(*arguments, **settings)
            finally:
                synchronize()
                parts.setdefault(name.strip("_"), []).append(time.perf_counter() - start)

        return timed

    for name, method in originals.items():
        setattr(owner, name, wrap(name, method))
    try:
        yield
    finally:
        for name, method in originals.items():
            setattr(owner, name, method)


@contextmanager
def profiled(path: str, owner: Any, last: int) -> Any:
    """Write a profile of Python's functions in the last step."""
    import cProfile
    import pstats

    original, count = owner._step, itertools.count(1)

    def step(*arguments: Any) -> Any:
        if next(count) != last:
            return original(*arguments)
        profile = cProfile.Profile()
        try:
            return profile.runcall(original, *arguments)
        finally:
            with open(path, "w") as file:
                for order in ("tottime", "cumulative"):
                    pstats.Stats(profile, stream=file).sort_stats(order).print_stats(35)

    owner._step = step
    try:
        yield
    finally:
        owner._step = original


def synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def make_prompts(count: int) -> list[Any]:
    """Return different prompts of about 50 tokens."""
    from dsrl_tasks import mednli
    from dsrl_tasks.mednli import procedural

    from dsrl import Prompt

    rng = random.Random(0)
    inputs = [procedural.write(rng, 1 + i % 4, "")[0] for i in range(count)]
    return [Prompt(f"{text} Number {i}. {mednli.output_instruction()}") for i, text in enumerate(inputs)]


def show(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    sys.exit(main())
