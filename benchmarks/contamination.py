"""How long it takes to compare samples with test items, and whether planted copies are found.

    python benchmarks/contamination.py [--items 10000] [--samples 1500] [--words 90] [--data test.jsonl]

Made-up items and samples have Zipf-distributed words and a common form. One of a hundred samples is a copy of an item with
other letter case and one other word. With ``--data`` (JSONL with "input" or "question"), the items are the texts of a file.
A Markdown table of CPU seconds and of what was found; the last row is one sample of 11 MB with a copy in its middle.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from random import Random

from dsrl.pipeline.duplicates import find_duplicates
from dsrl.similarity.copies import CopyIndex
from dsrl.types import Sample

FORM = "Read the following report with care and decide whether the claim at its end is true or false. Report:"


def make_texts(n: int, words: int, rng: Random) -> list[str]:
    vocabulary = [f"word{i}" for i in range(20_000)]
    weights = [1 / (i + 1) for i in range(20_000)]
    return [f"{FORM} {' '.join(rng.choices(vocabulary, weights, k=words))}" for _ in range(n)]


def read_texts(path: Path) -> list[str]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [row.get("input") or row["question"] for row in rows]


def plant(text: str, rng: Random) -> str:
    """Copy an item with other letter case and one other word, which is not the first."""
    words = text.upper().split()
    words[rng.randrange(len(words) * 3 // 4, len(words))] = "other"
    return " ".join(words)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=1_500)
    parser.add_argument("--words", type=int, default=90)
    parser.add_argument("--data", type=Path)
    args = parser.parse_args()
    rng = Random(0)
    items = read_texts(args.data) if args.data else make_texts(args.items, args.words, rng)
    samples = make_texts(args.samples, args.words, rng)
    planted = range(0, len(samples), 100)
    for i in planted:
        samples[i] = plant(items[rng.randrange(len(items))], rng)

    rows = []
    start = time.process_time()
    index = CopyIndex(items)
    rows.append((f"index of {len(items)} items", time.process_time() - start, ""))
    start = time.process_time()
    found = {i for i, text in enumerate(samples) if index.find(text)}
    result = f"{len(found & set(planted))} of {len(planted)} copies found, {len(found - set(planted))} others"
    rows.append((f"{len(samples)} samples", time.process_time() - start, result))
    pool = [Sample(str(i), 1, i, "initial", text, "", "yes") for i, text in enumerate([*samples, *samples[1:11]])]
    start = time.process_time()
    duplicates = find_duplicates(pool)
    rows.append((f"duplicates among {len(pool)}", time.process_time() - start, f"{len(duplicates)} found, 10 planted"))
    half = " ".join(make_texts(1, 700_000, rng))
    huge = f"{half} {items[7]} {half}"
    start = time.process_time()
    copies = [copy.number for copy in index.find(huge)]
    result = "copy found" if 7 in copies else "copy missed"
    rows.append((f"one sample of {len(huge) / 1e6:.0f} MB", time.process_time() - start, result))

    print("| what | CPU seconds | result |\n| --- | --- | --- |")
    for name, seconds, result in rows:
        print(f"| {name} | {seconds:.1f} | {result} |")
    print(f"\nPeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    main()
