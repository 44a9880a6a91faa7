"""Claim: a real small language model learns a task of short answers in a few minutes of processor time, with every seed.

    python benchmarks/short_answers.py --model SMOLLM2        # a folder that make_smollm2.py made; 30 to 60 minutes

The task is tests/real/findings.py: does a sentence of a record say that the patient has a finding, yes or no? Its 96 test
items are 8 wordings of 12 findings, and neither occurs in the samples. Items with the same wording or the same finding are
not independent. The intervals therefore draw wordings and findings with replacement, both at a time (Owen 2007, the
pigeonhole bootstrap), and not single items; the interval of single items stands beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

TASK = Path(__file__).parents[1] / "tests" / "real" / "findings.py"
SETTINGS = (
    "run --task mednli --samples 64 --select 64 --attempts 8 --attempt-temperature 1.0 --train-temperature 1.0 "
    "--batch-size 16 --group-size 16 --epochs 12 --learning-rate 1.5e-5 --kl-coef 0 "
    "--max-completion-tokens 4 --dtype bfloat16 --json"
).split()
DRAWS = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=os.environ.get("DSRL_SMOLLM2"), help="folder of the model")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--selections", nargs="+", default=["potential", "random", "full"])
    options = parser.parse_args()
    if not options.model:
        parser.error("give the folder of a model with --model or DSRL_SMOLLM2")
    print("| selection | seed | trained on | base | trained | gain | 95%, clusters | 95%, items | CPU s | peak GB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for selection in options.selections:
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as folder:
                result = run(Path(folder), options.model, seed, selection)
                items = read_items(next(Path(folder).glob("runs/*/run.db")))
            low, high = compute_cluster_interval(items)
            plain_low, plain_high = result["gain_ci95"]
            base, trained = result["base_accuracy"], result["trained_accuracy"]
            print(
                f"| {selection} | {seed} | {result['samples']['selected']} | {base:.1%} | {trained:.1%} | "
                f"{trained - base:+.1%} | {low:+.1%} to {high:+.1%} | {plain_low:+.1%} to {plain_high:+.1%} | "
                f"{result['cpu_seconds']:.0f} | {result['peak_gb']:.1f} |",
                flush=True,
            )


def run(folder: Path, model: str, seed: int, selection: str) -> dict[str, Any]:
    """Do one run in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "dsrl",
        *SETTINGS,
        "--override",
        str(TASK),
        "--base-model",
        str(Path(model).resolve()),
    ]
    command += ["--seed", str(seed), "--selection", selection]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{err[-2000:]}")
    result: dict[str, Any] = json.loads(out)
    return {**result, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_gb": usage.ru_maxrss / 1e6}


def read_items(database: Path) -> list[tuple[str, str, int]]:
    """Return wording, finding and gain (trained minus base: 1, 0 or -1) of every test item."""
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "SELECT i.input, t.correct - b.correct FROM items i JOIN evaluations t ON t.item = i.number "
            "JOIN evaluations b ON b.item = i.number WHERE t.model = 'trained' AND b.model = 'base'"
        ).fetchall()
    items = []
    for text, gain in rows:
        finding = text.rpartition("Does the patient have ")[2].rstrip("?")
        items.append((text.partition(" Does the patient have ")[0].replace(finding, "{}"), finding, gain))
    return items


def compute_cluster_interval(items: list[tuple[str, str, int]]) -> tuple[float, float]:
    """Return the 95% interval of the mean gain; wordings and findings are drawn with replacement."""
    wordings, findings = sorted({w for w, _, _ in items}), sorted({f for _, f, _ in items})
    rng, means = random.Random(0), []
    for _ in range(DRAWS):
        rows, columns = rng.choices(wordings, k=len(wordings)), rng.choices(findings, k=len(findings))
        weights = [(rows.count(wording) * columns.count(finding), gain) for wording, finding, gain in items]
        means.append(sum(weight * gain for weight, gain in weights) / sum(weight for weight, _ in weights))
    means.sort()
    return means[round(DRAWS * 0.025)], means[round(DRAWS * 0.975) - 1]


if __name__ == "__main__":
    main()
