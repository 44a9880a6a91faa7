"""Is the teacher's latency hidden? Wall time of initial-to-scored against the larger of its two parts alone.

The teacher waits one second a reply, 32 in flight. Alone, the teacher's part is the same road with one attempt of one
token (the samples, verdicts and rewritings are the same ones: greedy attempts are kept). Alone, the sampler's part is the
same road with a reply store that has every reply.

    python benchmarks/latency.py [--samples 500] [--attempts 64] [--wait 1.0]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

STAGES = ("initial", "verified", "attempted", "adapted", "scored")


def run(folder: Path, *flags: str) -> dict:
    command = [
        str(Path(sys.executable).with_name("dsrl")),
        "run",
        "--task",
        "mednli",
        "--name",
        "bench",
        "--json",
        *flags,
    ]
    shutil.rmtree(folder / "runs", ignore_errors=True)
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", default="500")
    parser.add_argument("--attempts", default="64")
    parser.add_argument("--wait", default="1.0")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        common = ["--samples", args.samples, "--stop-after", "scored"]
        common += ["--teacher-option", f"wait={args.wait}", "--concurrency", "32"]
        scored = ["--attempts", args.attempts, "--attempt-confidence", "0"]
        together = run(folder, *common, *scored)
        sampler = run(folder, *common, *scored)  # every reply is in the store now
        assert sampler["teacher_calls"] == 0, sampler
        assert sampler["samples"] == together["samples"]
        shutil.rmtree(folder / ".dsrl")
        teacher = run(folder, "--samples", args.samples, "--stop-after", "adapted", *common[4:])
        seconds = {
            "together": together["seconds"]["initial_to_scored"],
            "teacher alone": teacher["seconds"]["initial_to_scored"],
            "sampler alone": sampler["seconds"]["initial_to_scored"],
        }
    larger = max(seconds["teacher alone"], seconds["sampler alone"])
    print(json.dumps({**seconds, "together / larger part": round(seconds["together"] / larger, 3)}))


if __name__ == "__main__":
    main()
