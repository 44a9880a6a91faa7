"""What voting in rounds saves, and whether it changes a label.

    python benchmarks/votes.py [RUN.DB ...]

Simulated samples: a teacher that is right with some probability and else picks one of 3 or 10 wrong answers, the nearer ones
more often; the sample's own answer comes from the same teacher. Recorded ones: the votes of runs (made with all votes or in
rounds; rounds are replayed only where all votes are there). A Markdown table of 16 votes against rounds.
"""

from __future__ import annotations

import sqlite3
import sys
from random import Random

from dsrl.records import UNREADABLE, Answer
from dsrl.stages.verified import majority, votes_wanted

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
    """Give the answers to every sample of a run that all votes are there for."""
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    rows = database.execute("SELECT sample, answer FROM votes ORDER BY sample, number").fetchall()
    database.close()
    found: dict[str, list[Answer]] = {}
    for sample, answer in rows:
        found.setdefault(sample, []).append(UNREADABLE if answer is None else answer)
    most = max(map(len, found.values()), default=0)
    return [answers for answers in found.values() if len(answers) == most]


def row(name: str, samples: list[list[Answer]]) -> str:
    """Compare every mode with all votes."""
    cells = [name, str(len(samples))]
    for confidence in MODES.values():
        replies = calls = changed = 0
        for answers in samples:
            taken = 1
            while more := votes_wanted(answers[:taken], len(answers) - 1, confidence):
                taken, calls = taken + more, calls + 1
            replies += taken - 1
            changed += majority(answers[:taken])[0] != majority(answers)[0]
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
        if samples := recorded(path):
            print(row(path, samples))


if __name__ == "__main__":
    main(sys.argv[1:])
