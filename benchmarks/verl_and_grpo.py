"""Claim: `--trainer verl` learns what `--trainer grpo` learns; on a CPU it costs much more, which is why it is a rehearsal.

    make test-verl          # makes the environment
    OMP_NUM_THREADS=1 .venv-verl/bin/python benchmarks/verl_and_grpo.py

The same task (mednli), base model (tiny), items, steps, batch, learning rate and seeds through both trainers, each training
in a process of its own, in the environment of verl. Both keep groups whose answers have equal rewards. Prints both curves,
the mean reward of the last five steps, seconds of a step (the median without the first one) and of the whole training, and
the peak of the memory of all processes together (proportional set size, looked at every two seconds). CPU seconds are those
of the process and of all below it, Ray's among them.

    .venv-verl/bin/python benchmarks/verl_and_grpo.py --rewards 5000

prints rewards per CPU second and per second instead: in one process, in the child that can be killed, and as verl's worker
asks for them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

LAST = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--trainers", nargs="+", default=["grpo", "verl"])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--rewards", type=int, default=0, help="measure this many rewards instead")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        train(json.loads(options.child))
        return
    if options.rewards:
        show_rewards(measure_rewards(options.rewards))
        return
    results = {name: [measure(name, seed, options) for seed in options.seeds] for name in options.trainers}
    if options.json:
        print(json.dumps(results))
    else:
        show(results, options.seeds)


def train(facts: dict[str, Any]) -> None:
    """Train in this process; print the rewards and seconds of each step."""
    from dsrl import PluginRef, Prompt, TrainItem, TrainJob, load
    from dsrl.plugins.base_models import resolve_model

    task = load(PluginRef("task", "mednli"), "task")
    items = []
    for n in range(facts["steps"] * facts["batch"]):
        sample = task.hook.procedural_sample(seed=n, difficulty=1 + n % 3, passage="")
        prompt = Prompt(f"{sample.input} {task.hook.output_instruction()}")
        items.append(TrainItem(f"1-{n:05d}", prompt, sample.input, task.hook.process_label(output=sample.output)))
    folder = Path(facts["folder"])
    job = TrainJob(
        model=str(resolve_model("tiny").location),
        items=tuple(items),
        output_dir=folder / "model",
        work_dir=folder / "work",
        learning_rate=facts["learning_rate"],
        epochs=1,
        batch_size=facts["batch"],
        group_size=facts["group"],
        temperature=1.0,
        top_p=1.0,
        kl_coef=0.001,
        max_completion_tokens=48,
        max_prompt_tokens=192,
        seed=facts["seed"],
        device="cpu",
    )
    plugin_options = {"equal_groups": "keep"} if facts["trainer"] == "grpo" else {}
    trainer = load(PluginRef("trainer", facts["trainer"], plugin_options), "trainer")
    clock, last, last_cpu = CpuClock(os.getpid()), time.monotonic(), 0.0

    def tell(step: Any) -> None:
        nonlocal last, last_cpu
        now, cpu = time.monotonic(), clock.read()
        facts = {"seconds": now - last, "cpu": cpu - last_cpu, "total_cpu": cpu}
        print(json.dumps({"step": step.step, "reward": step.metrics["reward"], **facts}), flush=True)
        last, last_cpu = now, cpu

    trainer.hook.train(job=job, task=task, on_step=tell)


def measure(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train in a child process and watch the memory of it and of all that it starts."""
    import psutil

    with tempfile.TemporaryDirectory() as folder:
        facts = {"trainer": name, "seed": seed, "folder": folder, "steps": options.steps, "batch": options.batch}
        facts |= {"group": options.group, "learning_rate": options.learning_rate}
        start = time.monotonic()
        # In a file, because a pipe that nobody reads becomes full.
        with Path(folder, "told").open("w+") as told:
            child = subprocess.Popen([sys.executable, __file__, "--child", json.dumps(facts)], stdout=told)
            process, peak = psutil.Process(child.pid), 0
            while child.poll() is None:
                peak = max(peak, sum_memory(process))
                time.sleep(2.0 if name == "verl" else 0.2)
            seconds = time.monotonic() - start
            told.seek(0)
            steps = [json.loads(line) for line in told if line.startswith('{"step"')]
    if child.returncode or len(steps) != options.steps:
        raise SystemExit(f"{name} with seed {seed} ended with {child.returncode} after {len(steps)} steps")
    rewards = [step["reward"] for step in steps]
    return {
        "seed": seed,
        "rewards": rewards,
        "last": statistics.fmean(rewards[-LAST:]),
        "step_seconds": statistics.median(step["seconds"] for step in steps[1:]),
        "step_cpu": statistics.median(step["cpu"] for step in steps[1:]),
        "seconds": seconds,
        "cpu": steps[-1]["total_cpu"],
        "peak_mb": peak / 1e6,
    }


class CpuClock:
    """The CPU seconds of a process and of all that it has started, also of those that have ended since they were looked at.

    Args:
        pid: the process.
    """

    def __init__(self, pid: int) -> None:
        import psutil

        self._process = psutil.Process(pid)
        self._seen: dict[tuple[int, float], float] = {}

    def read(self) -> float:
        """Return the seconds until now."""
        import psutil

        for one in [self._process, *self._process.children(recursive=True)]:
            try:
                times = one.cpu_times()
                self._seen[one.pid, one.create_time()] = times.user + times.system
            except psutil.Error:
                continue
        return sum(self._seen.values())


def sum_memory(process: Any) -> int:
    """Return the proportional set size of a process and all below it in bytes."""
    import psutil

    total = 0
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    for one in family:
        try:
            total += one.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def show(results: dict[str, list[dict[str, Any]]], seeds: list[int]) -> None:
    """Print the tables."""
    print("| trainer | seed | reward of each step | mean of the last five |\n| --- | --- | --- | --- |")
    for name, runs in results.items():
        for run in runs:
            curve = " ".join(f"{reward:.3f}" for reward in run["rewards"])
            print(f"| {name} | {run['seed']} | {curve} | {run['last']:.3f} |")
    print("\n| trainer | mean over the seeds | CPU s a step | s a step | whole training, CPU s | s | peak memory, MB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, runs in results.items():
        mean = statistics.fmean(run["last"] for run in runs)
        keys = ("step_cpu", "step_seconds", "cpu", "seconds", "peak_mb")
        step_cpu, step, cpu, whole, peak = (statistics.median(run[key] for run in runs) for key in keys)
        print(f"| {name} | {mean:.3f} | {step_cpu:.2f} | {step:.2f} | {cpu:.0f} | {whole:.0f} | {peak:.0f} |")


def measure_rewards(count: int) -> dict[str, tuple[float, float]]:
    """Return rewards per CPU second and per second by the clock, by each way."""
    from dsrl_verl.reward import Guard, compute_score
    from dsrl_verl.reward_setup import RewardSetup, copy_task

    from dsrl import PluginRef, compute_reward, load

    task = load(PluginRef("task", "mednli"), "task")
    answers = [
        f"<think> It says so. </think> <answer> {word} </answer>" for word in ("entailment", "neutral", "perhaps")
    ]
    outputs = [answers[n % 3] for n in range(count)]
    found: dict[str, tuple[float, float]] = {}
    processor = CpuClock(os.getpid())

    def clock(name: str, work: Any) -> None:
        start, cpu = time.monotonic(), processor.read()
        work()
        found[name] = (count / (processor.read() - cpu), count / (time.monotonic() - start))

    clock(
        "the hook, guarded by dsrl, in this process", lambda: [compute_reward(task, o, "neutral", "i") for o in outputs]
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "reward.json")
        RewardSetup({"": copy_task(task)}, Path(folder, "log"), 1, 10.0, 2048).write(path)
        guard = Guard(path)
        question = {"task": "", "label": "neutral", "input": "i", "is_graded": False}
        guard.compute(output="", **question)
        clock("in the child that can be killed", lambda: [guard.compute(output=o, **question) for o in outputs])
        guard.close()

        async def ask_all() -> None:
            facts = {"split": "train", "task": "", "input": "i", "index": 0}
            await asyncio.gather(*(compute_score("mednli", o, "neutral", facts, setup=str(path)) for o in outputs))

        asyncio.run(compute_score("mednli", "", "neutral", {"task": ""}, setup=str(path)))  # starts the child
        clock("the same as verl calls it, with its log", lambda: asyncio.run(ask_all()))
    return found


def show_rewards(found: dict[str, tuple[float, float]]) -> None:
    """Print the table of rewards a second."""
    print("| way | rewards per CPU second | per second |\n| --- | --- | --- |")
    for name, (per_cpu, per_second) in found.items():
        print(f"| {name} | {per_cpu:,.0f} | {per_second:,.0f} |")


if __name__ == "__main__":
    main()
