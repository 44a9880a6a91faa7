"""The default run over seeds, and the ablations of the paper's Table 4 on the same seeds.

    python benchmarks/default_run.py                    # seeds 0 to 4, all variants
    python benchmarks/default_run.py --variants default --seeds 0

Each run is a process of its own, one after the other; seconds are those of the whole process, memory is its peak.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VARIANTS = {
    "default": [],
    "random": ["--selection", "random"],
    "easy": ["--selection", "easy"],
    "hard": ["--selection", "hard"],
    "full": ["--selection", "full"],
    "without adaptation": ["--no-adapt"],
}


def run(folder: Path, seed: int, flags: list[str], task: str) -> dict:
    command = [
        str(Path(sys.executable).with_name("dsrl")),
        "run",
        "--task",
        task,
        "--seed",
        str(seed),
        "--json",
        *flags,
    ]
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, (command, status)
    result = json.loads(out)
    result["wall_seconds"] = time.perf_counter() - started
    result["peak_mb"] = usage.ru_maxrss / 1024
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--task", default="mednli")
    parser.add_argument("--out", type=Path, help="Write every run's JSON object here, one a line.")
    args = parser.parse_args()
    print("| variant | seed | base | trained | gain | 95% interval | selected | seconds | peak MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    gains: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        for seed in args.seeds:
            for variant in args.variants:
                result = run(Path(name), seed, VARIANTS[variant], args.task)
                base, trained = result["base_accuracy"], result["trained_accuracy"]
                low, high = result["gain_ci95"]
                gains.setdefault(variant, []).append(trained - base)
                print(
                    f"| {variant} | {seed} | {base:.1%} | {trained:.1%} | {trained - base:+.1%} | {low:+.1%} to {high:+.1%} "
                    f"| {result['samples']['selected']} | {result['wall_seconds']:.0f} | {result['peak_mb']:.0f} |",
                    flush=True,
                )
                if args.out:
                    with args.out.open("a") as file:
                        file.write(json.dumps({"variant": variant, "seed": seed, **result}) + "\n")
    print("\n| variant | mean gain | least |\n| --- | --- | --- |")
    for variant, found in gains.items():
        print(f"| {variant} | {statistics.mean(found):+.1%} | {min(found):+.1%} |")


if __name__ == "__main__":
    main()
