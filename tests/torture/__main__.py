"""The long form: ``python -m tests.torture --runs 300 --seed 0``."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from torture.commands import make_index
from torture.plan import plan_of
from torture.random_runs import Outcome, run_seed

_ROWS = {
    "runs": "runs",
    "sittings": "sittings",
    "requests": "requests",
    "faults": "faults",
    "kills": "kill -9",
    "sigterms": "SIGTERM",
    "sigints": "SIGINT",
    "billed_usd": "dollars billed",
    "over_the_cap_usd": "dollars over the cap",
    "lost": "replies lost",
    "twice": "replies paid twice",
    "cut_by_kill": "replies cut off by kill -9",
    "strangers": "requests sent to another host by a redirect",
    "different": "samples other than in an undisturbed run",
    "tracebacks": "tracebacks",
    "hangs": "hangs",
}


def main() -> int:
    """Run the command; give its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--runs", type=int, default=40, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the first run; the others count up from it")
    parser.add_argument("--only", type=int, metavar="SEED", help="make the run of this seed alone")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="with --only: work there and leave all as it is")
    parser.add_argument("--workers", type=int, default=2 * (os.cpu_count() or 1), help="runs at the same time")
    parser.add_argument("--json", action="store_true", help="the summary as JSON")
    given = parser.parse_args()
    seeds = [given.only] if given.only is not None else list(range(given.seed, given.seed + given.runs))
    total, failed = Outcome(), {}
    with tempfile.TemporaryDirectory(prefix="torture-index-") as temporary:
        index = make_index(Path(temporary))
        if given.only is not None:
            print(plan_of(given.only), file=sys.stderr)
        keep = given.keep.absolute() if given.keep else None
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(given.workers, len(seeds)), mp_context=spawn) as pool:
            runs = {pool.submit(run_seed, seed, index, keep if len(seeds) == 1 else None): seed for seed in seeds}
            for done, run in enumerate(as_completed(runs), 1):
                outcome = run.result()
                total.add(outcome)
                if outcome.failures:
                    failed[runs[run]] = outcome.failures
                    for failure in outcome.failures:
                        print(f"\r\033[Kseed {runs[run]}: {failure}", file=sys.stderr)
                print(f"\r{done}/{len(seeds)} runs, {len(failed)} failed", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    figures = {name: round(value, 4) for name, value in vars(total).items() if name in _ROWS}
    if given.json:
        print(json.dumps({**figures, "failed": failed}, indent=2))
    else:
        for name, label in _ROWS.items():
            print(f"| {label} | {figures[name]:,} |")
        for seed in sorted(failed):
            print(f"failed: python -m tests.torture --only {seed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
