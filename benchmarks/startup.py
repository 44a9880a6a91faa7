"""Start of the command line: `dsrl --help` against an empty interpreter, wall time, median of many.

python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 21


def milliseconds(command: list[str]) -> float:
    times = []
    for _ in range(RUNS + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:]) * 1000


def main() -> None:
    dsrl = milliseconds([str(Path(sys.executable).with_name("dsrl")), "--help"])
    python = milliseconds([sys.executable, "-c", "pass"])
    click = milliseconds([sys.executable, "-c", "import click"])
    print(f"| dsrl --help | import click | empty interpreter |\n| {dsrl:.0f} ms | {click:.0f} ms | {python:.0f} ms |")


if __name__ == "__main__":
    main()
