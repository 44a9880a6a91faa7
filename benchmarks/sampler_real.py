"""Claim: the sampler `transformers` takes less CPU time than `model.generate`, whatever the answers are like.

    OMP_NUM_THREADS=1 python benchmarks/sampler_real.py --model SMOLLM2   # a folder that make_smollm2.py made

Three kinds of answers, each drawn at temperature 1 by the sampler's `decode` and by `model.generate` with rows of 16, 32, 64
and 128 prompts x answers, of which the best counts:

    limit   no end tokens: all answers have 64 tokens
    spread  end tokens, up to 256 tokens: single words, sentences and stories, so that the lengths spread widely
    short   end tokens, up to 8 tokens, 16 answers to each prompt

The prompts go through the chat template. Each measurement is a process of its own with one thread, one after the other. It
counts CPU seconds (time.process_time) without loading and a short call. Prints answers per CPU second and the ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

THINGS = "a lighthouse, an old clock, the sea, a lost dog, winter, a market, a train, the moon".split(", ")
WORDS = "good, slow, bright, empty, warm, early, rough, quiet".split(", ")
CASES: dict[str, dict[str, Any]] = {
    "limit": {"prompts": 16, "n": 8, "max_tokens": 64, "has_stop": False},
    "spread": {"prompts": 48, "n": 8, "max_tokens": 256, "has_stop": True},
    "short": {"prompts": 32, "n": 16, "max_tokens": 8, "has_stop": True},
}
BATCHES = (16, 32, 64, 128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of the model")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--dtypes", nargs="+", choices=("bfloat16", "float32"), default=["bfloat16", "float32"])
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES), help="rows of generate")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the prompts")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each measurement instead")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.model, **json.loads(options.child))))
        return
    if not options.json:
        print("| answers | dtype | mean, longest length | sampler, answers/CPU s | generate, best (rows) | ratio |")
        print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for case in options.cases:
        for dtype in options.dtypes:
            ours, *others = (
                run_child(options, {"case": case, "dtype": dtype, "rows": rows, "scale": options.scale})
                for rows in (0, *options.batches)
            )
            best = max(others, key=lambda result: result["speed"])
            if options.json:
                continue
            print(
                f"| {case} | {dtype} | {ours['mean']:.0f}, {ours['longest']} | {ours['speed']:.2f} | "
                f"{best['speed']:.2f} ({best['rows']}) | {ours['speed'] / best['speed']:.2f} |",
                flush=True,
            )


def run_child(options: argparse.Namespace, job: dict[str, Any]) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, "--model", options.model, "--child", json.dumps(job)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    if options.json:
        print(json.dumps(result), flush=True)
    return result


def make_prompts(case: str, count: int) -> list[str]:
    """Return questions: their answers are short and long in turn, unless the case has only one kind."""
    texts = []
    for i in range(count):
        thing, word = THINGS[i % 8], WORDS[(i // 8 + i) % 8]
        if case == "short":
            texts.append(
                f"Is the mood of this sentence positive or negative? 'The day was {word} near {thing}.' One word."
            )
        elif case == "limit" or i % 3 == 0:
            texts.append(f"Write a short story about {thing} that begins with the word '{word}'.")
        elif i % 3 == 1:
            texts.append(f"What is the opposite of '{word}'? Answer with a single word.")
        else:
            texts.append(f"Write one {word} sentence about {thing}.")
    return texts


def measure(folder: str, case: str, dtype: str, rows: int, scale: float) -> dict[str, Any]:
    """Draw all answers of a case: ``rows`` is the batch of generate, or 0 for the sampler."""
    import torch
    from dsrl_transformers.decode import DecodeSettings
    from dsrl_transformers.language_model import load_model

    torch.set_num_threads(1)
    torch.manual_seed(0)
    lm = load_model(folder, "cpu", dtype)
    settings = CASES[case]
    n, max_tokens = settings["n"], settings["max_tokens"]
    if not settings["has_stop"]:
        lm.stop = frozenset()
    texts = make_prompts(case, max(1, round(settings["prompts"] * scale)))
    prompts = [
        lm.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"]
        for text in texts
    ]

    def draw(prompts: list[list[int]], n: int, max_tokens: int) -> list[int]:
        if not rows:
            drawn = lm.complete(prompts, DecodeSettings(n, 1.0, 1.0, max_tokens, 1, 0))
            return [len(completions.distinct[i]) for completions in drawn for i in completions.indices]
        return generate(lm, [prompt for prompt in prompts for _ in range(n)], rows, max_tokens)

    draw(prompts[:2], 2, 4)
    start, wall = time.process_time(), time.perf_counter()
    lengths = draw(prompts, n, max_tokens)
    seconds, wall = time.process_time() - start, time.perf_counter() - wall
    return {
        "case": case,
        "dtype": dtype,
        "rows": rows,
        "cpu_seconds": round(seconds, 2),
        "wall_seconds": round(wall, 2),
        "answers": len(lengths),
        "mean": statistics.mean(lengths),
        "longest": max(lengths),
        "speed": len(lengths) / seconds,
    }


def generate(lm: Any, prompts: list[list[int]], rows: int, max_tokens: int) -> list[int]:
    """Draw an answer to each of ``prompts`` with ``model.generate``. Return their lengths."""
    import torch

    lengths = []
    for start in range(0, len(prompts), rows):
        part = prompts[start : start + rows]
        longest = max(map(len, part))
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in part])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in part])
        with torch.inference_mode():
            out = lm.model.generate(
                ids,
                attention_mask=mask,
                do_sample=True,
                temperature=1.0,
                top_p=1.0,
                top_k=0,
                max_new_tokens=max_tokens,
                eos_token_id=sorted(lm.stop) or -1,
                pad_token_id=0,
            )
        for row in out[:, longest:].tolist():
            lengths.append(next((i + 1 for i, token in enumerate(row) if token in lm.stop), len(row)))
    return lengths


if __name__ == "__main__":
    main()
