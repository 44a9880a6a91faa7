"""What voting in rounds saves, and whether it changes a label.

    python benchmarks/votes.py [RUN.DB ...]

Simulated samples: a teacher that is right with some probability and else picks one of 3 or 10 wrong answers, the nearer ones
more often; the sample's own answer comes from the same teacher. Recorded ones: of each scored sample of a run, 17 of the
answers that the base model gave to it, in a drawn order. A Markdown table of 16 votes
against rounds.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from random import Random

from dsrl.pipeline.stages.verified import count_needed_votes, find_majority
from dsrl.types import UNREADABLE, Answer

VOTES = 16
SAMPLES = 2000
MODES = {"exact": 0.0, "0.99": 0.99, "0.95": 0.95}


def simulated(accuracy: float, wrong: int, rng: Random) -> list[Answer]:
    """Give the own answer and all votes of one sample; one of 50 is unreadable."""
    names: list[Answer] = ["right", *(f"wrong {i}" for i in range(wrong)), UNREADABLE]
    shares = [1 / (i + 1) for i in range(wrong)]
    weights = [accuracy, *((1 - accuracy) * share / sum(shares) for share in shares), 0.02]
    return rng.choices(names, weights, k=VOTES + 1)


def recorded(path: str) -> list[list[Answer]]:
    """Give 17 of the base model's answers to each sample of a run."""
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    rows = database.execute("SELECT sample, answer, times FROM attempts ORDER BY sample, number").fetchall()
    database.close()
    found: dict[str, list[Answer]] = {}
    for sample, answer, times in rows:
        found.setdefault(sample, []).extend([UNREADABLE if answer is None else answer] * times)
    rng = Random(0)
    return [rng.sample(answers, VOTES + 1) for answers in found.values() if len(answers) > VOTES]


def row(name: str, samples: list[list[Answer]]) -> str:
    """Compare every mode with all votes."""
    cells = [name, str(len(samples))]
    for confidence in MODES.values():
        replies = calls = changed = 0
        for answers in samples:
            taken = 1
            while more := count_needed_votes(answers[:taken], len(answers) - 1, confidence):
                taken, calls = taken + more, calls + 1
            replies += taken - 1
            changed += find_majority(answers[:taken])[0] != find_majority(answers)[0]
        every = sum(len(answers) - 1 for answers in samples) or 1
        cells += [f"{1 - replies / every:.0%}", f"{calls / len(samples):.2f}", f"{changed / len(samples):.2%}"]
    return f"| {' | '.join(cells)} |"


def main(paths: list[str]) -> None:
    head = ["votes", "samples"]
    for mode in MODES:
        head += [f"{mode}: replies saved", "calls a sample", "labels changed"]
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for wrong in (3, 10):
        for accuracy in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99):
            rng = Random(f"{accuracy} {wrong}")
            samples = [simulated(accuracy, wrong, rng) for _ in range(SAMPLES)]
            print(row(f"simulated, {accuracy:.0%} right, {wrong} wrong answers", samples))
    for path in paths:
        samples = recorded(path)
        first = sum(answers.count(find_majority(answers)[0]) for answers in samples) / (len(samples) * (VOTES + 1) or 1)
        print(row(f"{Path(path).parent.name}, {first:.0%} for the first place", samples))


if __name__ == "__main__":
    main(sys.argv[1:])
