"""Claim: on a CPU the sampler `transformers` is the fast one, and `vllm` and `ray` cost what they cost.

    .venv-vllm/bin/python benchmarks/engines.py --model tiny                      # in the environment of make test-vllm
    .venv-ray/bin/python benchmarks/engines.py --model tiny --engines transformers ray-1 ray-2      # of make test-ray

Short answers have at most 16 tokens, long ones 64, or fewer where the model ends them. Each engine answers the same prompts
in a process of its own, after a short call that loads the model. CPU seconds are those of the process and of all its
children, without loading. `generate` is a plain loop over `model.generate` with rows of 64. For the figures by the clock,
nothing else may run on the machine.

    .venv-ray/bin/python benchmarks/engines.py --model tiny --kill-node

prints instead how many attempts are computed again if one of two nodes is killed in the middle.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

#: case -> prompts, attempts at each, tokens of an answer at most
CASES = {"short": (32, 16, 16), "long": (16, 8, 64)}
ENGINES = ("transformers", "generate", "vllm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="name or folder of the model")
    parser.add_argument(
        "--engines", nargs="+", default=list(ENGINES), help="also ray-N: the sampler ray with N workers"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the prompts")
    parser.add_argument("--kill-node", action="store_true", help="count the attempts that a killed node costs instead")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.kill_node:
        kill_node(options.model, options.scale)
        return
    if options.child:
        print(json.dumps(measure(options.model, options.child, options.scale)))
        return
    print("| engine | answers | attempts | per second | per CPU second | start, s |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for engine in options.engines:
        command = [sys.executable, __file__, "--model", options.model, "--scale", str(options.scale), "--child", engine]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        for row in json.loads(output.strip().splitlines()[-1]):
            print(
                f"| {engine} | {row['case']} | {row['attempts']} | {row['attempts'] / row['wall']:.1f} | "
                f"{row['attempts'] / row['cpu']:.1f} | {row['start']:.0f} |",
                flush=True,
            )


def measure(model: str, engine: str, scale: float) -> list[dict[str, Any]]:
    """Let one engine answer all cases."""
    from dsrl.plugins.base_models import resolve_model

    folder = resolve_model(model).location
    name = engine.partition("-")[0]
    make = {"generate": make_generate, "ray": make_ray}.get(name, make_sampler)
    begin = time.perf_counter()
    sample, close = make(folder, engine)
    sample(make_prompts(2), 2, 4)
    start = time.perf_counter() - begin
    rows = []
    for case, (count, n, max_tokens) in CASES.items():
        prompts = make_prompts(max(1, round(count * scale)))
        wall, cpu = time.perf_counter(), read_cpu_seconds()
        texts = sample(prompts, n, max_tokens)
        wall, cpu = time.perf_counter() - wall, read_cpu_seconds() - cpu
        attempts = sum(map(len, texts))
        assert attempts == len(prompts) * n
        rows.append({"case": case, "attempts": attempts, "wall": wall, "cpu": cpu, "start": start})
    close()
    return rows


def make_prompts(count: int) -> list[str]:
    """Return questions of the task gsm8k, as a run asks them."""
    from dsrl import PluginRef, load

    task = load(PluginRef("task", "gsm8k"), "task")
    samples = [task.hook.procedural_sample(seed=seed, difficulty=1, passage="") for seed in range(count)]
    return [f"{sample.input}\n\n{task.hook.output_instruction()}" for sample in samples]


#: Process and its start -> its CPU seconds when it was seen last; Ray ends processes that have nothing to do.
SEEN: dict[tuple[int, float], float] = {}


def read_cpu_seconds() -> float:
    """Return the CPU seconds of this process and of all below it, also of those that have ended since they were seen."""
    import psutil

    own = psutil.Process()
    for process in [own, *own.children(recursive=True)]:
        try:
            times = process.cpu_times()
            SEEN[process.pid, process.create_time()] = times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return sum(SEEN.values())


def make_sampler(folder: str, engine: str) -> tuple[Any, Any]:
    """Return a function that samples with a sampler of dsrl, and one that closes it."""
    from dsrl import PluginRef, Prompt, load

    options = {"cache_gb": 1.0, "context": 1024} if engine == "vllm" else {}
    plugin = load(PluginRef("sampler", engine, {"model": folder, "device": "cpu", **options}), "sampler")

    def sample(texts: list[str], n: int, max_tokens: int) -> Any:
        return asyncio.run(
            plugin.hook.sample(
                prompts=[*map(Prompt, texts)], n=n, temperature=1.0, top_p=1.0, max_tokens=max_tokens, seed=1
            )
        )

    return sample, lambda: asyncio.run(plugin.hook.aclose())


def make_ray(folder: str, engine: str) -> tuple[Any, Any]:
    """Return a function that samples with N workers of Ray, which have all loaded the model, and one that ends them."""
    from dsrl_ray.sampler import RaySampler

    from dsrl import Prompt

    count = int(engine.partition("-")[2] or 1)
    # Small chunks, so that each worker has several.
    sampler = RaySampler(model=folder, device="cpu", actors=count, chunk=4)

    def sample(texts: list[str], n: int, max_tokens: int) -> Any:
        return asyncio.run(sampler.sample([*map(Prompt, texts)], n, 1.0, 1.0, max_tokens, 1, 0, None))

    sample(make_prompts(1), 1, 1)
    while sampler._pool is None or not all(place.node for place in sampler._pool._places):
        sample(make_prompts(1), 1, 1)
        time.sleep(1)
    sample(make_prompts(16 * count), 1, 4)  # each loads the model with its first chunk
    return sample, lambda: asyncio.run(sampler.aclose())


def make_generate(folder: str, engine: str) -> tuple[Any, Any]:
    """Return a function that samples with ``model.generate``."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id

    def sample(texts: list[str], n: int, max_tokens: int) -> list[list[str]]:
        prompts = [tokenizer(text)["input_ids"] for text in texts for _ in range(n)]
        answers: list[str] = []
        for first in range(0, len(prompts), 64):
            rows = prompts[first : first + 64]
            longest = max(map(len, rows))
            ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows])
            mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
            with torch.inference_mode():
                out = model.generate(
                    ids, attention_mask=mask, do_sample=True, top_k=0, max_new_tokens=max_tokens, pad_token_id=pad
                )
            answers += tokenizer.batch_decode(out[:, longest:], skip_special_tokens=True)
        return [answers[first : first + n] for first in range(0, len(answers), n)]

    return sample, lambda: None


def kill_node(model: str, scale: float) -> None:
    """Kill one of two nodes while both work; print what was computed again, and whether the texts are the same."""
    from dsrl_ray.sampler import RaySampler
    from ray.cluster_utils import Cluster

    from dsrl import Prompt
    from dsrl.plugins.base_models import resolve_model

    # A dead node is noticed after three seconds instead of half a minute.
    os.environ |= {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}
    node = {"num_cpus": 1, "object_store_memory": 150 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    count, n, max_tokens = CASES["short"]
    prompts, rules = [*map(Prompt, make_prompts(max(8, round(count * scale))))], (1.0, 1.0, max_tokens, 1, 0, None)

    async def answer(victim: Any) -> tuple[list[list[str]], int]:
        folder = resolve_model(model).location
        sampler = RaySampler(model=folder, device="cpu", ray_address=cluster.address, chunk=4)
        call = asyncio.create_task(sampler.sample(prompts, n, *rules))
        while victim and (sampler._pool is None or not all(place.node for place in sampler._pool._places)):
            await asyncio.sleep(0.02)
        if victim:
            cluster.remove_node(victim, allow_graceful=False)
        texts = await call
        repeated = sampler._pool.repeated if sampler._pool else 0
        await sampler.aclose()
        return texts, repeated

    victim = cluster.add_node(**node)
    cluster.wait_for_nodes()
    begin = time.perf_counter()
    disturbed, repeated = asyncio.run(answer(victim))
    seconds = time.perf_counter() - begin
    quiet, _ = asyncio.run(answer(None))
    cluster.shutdown()
    print(
        f"{len(prompts) * n} attempts in chunks of {4 * n}: {repeated * 4 * n} computed again; {seconds:.0f} s in all; "
        f"texts {'equal' if disturbed == quiet else 'DIFFERENT'} to those of one undisturbed worker"
    )


if __name__ == "__main__":
    main()
