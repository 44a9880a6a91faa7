"""Claim: a kill -9 loses at most one minute of training with a real small model, with LoRA and with all weights.

    python benchmarks/kill.py --model SMOLLM2    # a folder that make_smollm2.py made; 10 to 20 minutes

The training of tests/real/findings.py is killed at random moments and goes on with the same command. What a kill loses is
the time from the end of the last step that the next process does not repeat to the kill. Prints one line for each kill.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TASK = Path(__file__).parents[1] / "tests" / "real" / "findings.py"
SETTINGS = (
    "run --task mednli --name killed --samples 48 --select 48 --attempts 4 --no-adapt --test-size 8 --batch-size 16 "
    "--group-size 16 --epochs 60 --learning-rate 1e-6 --max-completion-tokens 4 --dtype bfloat16 --json --force"
).split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=os.environ.get("DSRL_SMOLLM2"), help="folder of the model")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seconds", type=float, nargs=2, default=[20.0, 90.0], help="from the first step to the kill")
    options = parser.parse_args()
    rng = random.Random(0)
    print("| weights | last step before the kill | continues after step | seconds lost |\n| --- | --- | --- | --- |")
    for weights, flags in (("LoRA", ["--lora-rank", "8"]), ("all", [])):
        with tempfile.TemporaryDirectory() as name:
            command = [sys.executable, "-m", "dsrl", "-v", *SETTINGS, *flags, "--override", str(TASK)]
            command += ["--base-model", str(Path(options.model).resolve())]
            killed_at = 0.0
            ends: dict[int, float] = {}  # step -> the time at which it ended
            for _ in range(options.kills + 1):
                process = subprocess.Popen(command, cwd=name, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                run = Path(name) / "runs" / "killed"
                steps = watch(process, run, rng.uniform(*options.seconds), len(ends))
                if ends:
                    step = read_resumed_step(run)
                    print(
                        f"| {weights} | {max(ends)} | {step} | {killed_at - ends.get(step, killed_at):.1f} |",
                        flush=True,
                    )
                ends.update(steps)
                killed_at = time.monotonic()


def watch(process: subprocess.Popen[bytes], run: Path, seconds: float, old: int) -> dict[int, float]:
    """Kill a process ``seconds`` after its first new step. Return step -> the time at which it ended."""
    ends: dict[int, float] = {}
    while process.poll() is None and (not ends or time.monotonic() < min(ends.values()) + seconds):
        lines = (run / "metrics.jsonl").read_bytes().splitlines() if (run / "metrics.jsonl").is_file() else []
        for line in lines[old + len(ends) :]:
            ends[json.loads(line)["step"]] = time.monotonic()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if not ends:
        raise SystemExit("the training ended before it could be killed")
    return ends


def read_resumed_step(run: Path) -> int:
    """Return the step after which the training continued last, by the run's log."""
    return int(re.findall(r"The training continues after step (\d+)", (run / "log.txt").read_text())[-1])


if __name__ == "__main__":
    main()
