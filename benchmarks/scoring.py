"""Claim: the sampler `transformers` scores many times faster than a loop over `model.generate`.

    OMP_NUM_THREADS=1 python benchmarks/scoring.py

Attempts per second on the same prompts, model and settings, all ways in this process, in turns, the median of the rounds:
the sampler; `generate(num_return_sequences=64)` prompt by prompt; and the same with eight prompts a call, padded.
Two cases: short answers as the road has them, and the worst one for the sampler, long completions at so high a
temperature that no two of them share a beginning.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from dsrl_transformers.language_model import load_model
from dsrl_transformers.sampler import TransformersSampler

from dsrl import Prompt

CASES = {
    "short": {"prompts": 96, "plain": 16, "temperature": 1.2, "max_tokens": 32},
    "diverse": {"prompts": 8, "plain": 8, "temperature": 5.0, "max_tokens": 96},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder of a model; without it the tiny one that is shipped")
    parser.add_argument("--attempts", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.model or shipped() or stand_in(Path(scratch))
        result = {name: measure(folder, options.attempts, options.rounds, **case) for name, case in CASES.items()}
    if options.json:
        print(json.dumps({"model": str(folder), "attempts": options.attempts, "cases": result}))
        return
    print("| case | tokens: prompt, answer | sampler | generate | generate, 8 prompts a call | ratio | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, r in result.items():
        print(
            f"| {name} | {r['prompt_tokens']:.0f}, {r['completion_tokens']:.1f} | {r['sampler']:,.0f}/s "
            f"| {r['generate']:,.0f}/s | {r['generate_8']:,.0f}/s "
            f"| {r['sampler'] / r['generate']:.1f} | {r['sampler'] / r['generate_8']:.1f} |"
        )


def measure(
    folder: str, attempts: int, rounds: int, prompts: int, plain: int, temperature: float, max_tokens: int
) -> dict[str, float]:
    """Give attempts per second of each way, and the sizes they were measured at."""
    lm = load_model(folder)
    texts = [Prompt(text) for text in questions(prompts)]
    sampler = TransformersSampler(folder)
    settings = {"temperature": temperature, "top_p": 1.0, "max_tokens": max_tokens}

    def ours(seed: int) -> int:
        drawn = asyncio.run(sampler.sample(texts, attempts, **settings, seed=seed, first=0, adapter=None))
        return sum(map(len, drawn))

    def generate(seed: int, at_once: int = 1) -> int:
        torch.manual_seed(seed)
        return sum(
            len(plain_completions(lm, texts[i : i + at_once], attempts, temperature, max_tokens))
            for i in range(0, plain, at_once)
        )

    ways: dict[str, Callable[[int], int]] = {
        "sampler": ours,
        "generate": generate,
        "generate_8": lambda seed: generate(seed, at_once=8),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for seed in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            count = way(seed)
            if seed:  # the first round warms up
                rates[name].append(count / (time.perf_counter() - start))
    asyncio.run(sampler.aclose())
    lengths = [len(ids) for t in texts[:plain] for ids in plain_completions(lm, [t], 8, temperature, max_tokens)]
    return {
        **{name: statistics.median(values) for name, values in rates.items()},
        "prompt_tokens": statistics.mean(len(lm.encode(text)) for text in texts),
        "completion_tokens": statistics.mean(lengths),
    }


def plain_completions(lm: Any, texts: list[Prompt], n: int, temperature: float, max_tokens: int) -> list[list[int]]:
    """Give ``n`` completions of each text, as one writes it by hand; their texts are made and thrown away."""
    pad = min(lm.stop)
    rows = [lm.encode(text) for text in texts]
    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    out = lm.model.generate(
        ids,
        attention_mask=mask,
        do_sample=True,
        temperature=temperature,
        top_k=0,
        top_p=1.0,
        num_return_sequences=n,
        max_new_tokens=max_tokens,
        eos_token_id=sorted(lm.stop),
        pad_token_id=pad,
    )[:, longest:]
    lm.tokenizer.batch_decode(out, skip_special_tokens=True)
    completions = []
    for row in out.tolist():
        end = next((i + 1 for i, token in enumerate(row) if token in lm.stop), len(row))
        completions.append(row[:end])
    return completions


def questions(count: int) -> list[str]:
    """Give prompts of the task `mednli`, with its output instruction."""
    from dsrl_tasks import mednli
    from dsrl_tasks.mednli import procedural

    rng = random.Random(0)
    inputs = [procedural.write(rng, 1 + i % 4, "")[0] for i in range(count)]
    return [f"{text} {mednli.output_instruction()}" for text in inputs]


def shipped() -> str | None:
    """Find the tiny model."""
    import dsrl_transformers

    folder = Path(next(iter(dsrl_transformers.__path__))) / "tiny"
    return str(folder) if (folder / "model.safetensors").exists() else None


def stand_in(folder: Path) -> str:
    """Make a random model of the tiny one's size."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    print("Warning: the tiny model is not here; a random one of its size is measured.", file=sys.stderr)
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(questions(200), vocab_size=600, special_tokens=["<eos>"], show_progress=False)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, eos_token="<eos>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=128, intermediate_size=384, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, head_dim=32, max_position_embeddings=2048,
        tie_word_embeddings=True, eos_token_id=0, pad_token_id=0, bos_token_id=0, initializer_range=0.15,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


if __name__ == "__main__":
    main()
