"""Labels that `dsrl samples --suspect` names: how many are wrong (precision), and how many wrong ones are named (recall).

    python benchmarks/suspects.py [--seeds 0 1]        # 18 runs for each seed, about 20 seconds each

Runs of `chain_classes` with the teacher `noisy`, up to the stage `scored`, over the three base models. The rules of the
world say which labels are really wrong. `votes alone` names as many samples: those whose label has the smallest share of the
votes. Means over the base models and seeds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from statistics import fmean
from typing import Any

from dsrl.plugins.binding import Plugin, load
from dsrl.storage.run_store import RunStore
from dsrl.types import PluginRef

TEACHERS = {
    "10% wrong": ("wrong=0.1",),
    "20% wrong": ("wrong=0.2",),
    "20% unanimously wrong": ("wrong=0.2", "unanimous=true"),
}
WORLDS = (1, 2, 3)


def call(folder: Path, *arguments: str) -> Any:
    """Run the command ``dsrl`` in a process of its own; return its JSON."""
    command = [sys.executable, "-m", "dsrl", *arguments, "--json"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{result.stderr[-2000:]}")
    return json.loads(result.stdout)


def is_wrong(task: Plugin[Any], text: str, label: str) -> bool:
    """Return whether the rules of the world give another label."""
    right = task.hook.procedural_solve(input=text).output
    return bool(task.hook.process_label(output=right, input=text) != label)


def measure(folder: Path, world: int, teacher: tuple[str, ...], attempts: int, seed: int) -> dict[str, float]:
    """Make the samples and attempts of one run, and compare what is suspected with what is wrong."""
    name = f"{world}-{'-'.join(teacher)}-{attempts}-{seed}".replace("=", "")
    options = [flag for option in teacher for flag in ("--teacher-option", option)]
    call(
        folder,
        *("run", "--task", "chain_classes", "--task-option", f"world={world}", "--base-model", f"chains-{world}"),
        *("--teacher", "noisy", *options, "--seed", str(seed)),
        *("--attempts", str(attempts), "--attempt-confidence", "0"),
        *("--name", name, "--stop-after", "scored"),
    )
    suspects = [row["id"] for row in call(folder, "samples", name, "--suspect", "--limit", "0")]
    task = load(PluginRef("task", "chain_classes", {"world": world}), "task")
    store = RunStore(folder / "runs" / name, work=False)
    labelled = {sample.id: sample for sample in store.samples(1) if sample.label is not None}
    votes = {id_: details.votes for id_, details in store.list_details(list(labelled)).items()}
    store.close()
    wrong = {id_ for id_, sample in labelled.items() if is_wrong(task, sample.input, str(sample.label))}
    least = sorted(labelled, key=lambda id_: (votes[id_][str(labelled[id_].label)] / sum(votes[id_].values()), id_))
    return {
        "labels": len(labelled),
        "wrong": len(wrong) / len(labelled),
        "suspected": len(suspects) / len(labelled),
        **_rate("", suspects, wrong),
        **_rate("votes alone: ", least[: len(suspects)], wrong),
    }


def _rate(name: str, found: Collection[str], wrong: Collection[str]) -> dict[str, float]:
    hits = len(set(found) & set(wrong))
    return {f"{name}precision": hits / max(1, len(found)), f"{name}recall": hits / max(1, len(wrong))}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    names = ("labels", "wrong", "suspected", "precision", "recall", "votes alone: precision", "votes alone: recall")
    print(f"| teacher | attempts | {' | '.join(names)} |\n| --- | --- |{' --- |' * len(names)}")
    for teacher, flags in TEACHERS.items():
        for attempts in (64, 8):
            with tempfile.TemporaryDirectory() as folder:
                runs = [measure(Path(folder), w, flags, attempts, seed) for w in WORLDS for seed in options.seeds]
            means = {name: fmean(run[name] for run in runs) for name in names}
            cells = [f"{means['labels']:,.0f}", *(f"{means[name]:.1%}" for name in names[1:])]
            print(f"| {teacher} | {attempts} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
