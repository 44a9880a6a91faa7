"""The progress bars of the stages from ``initial`` to ``scored``, and their results in a few words."""

from __future__ import annotations

from collections.abc import Collection

from dsrl.pipeline.runtime import OpenRun


def start_bars(run: OpenRun, iteration: int, stages: Collection[str]) -> None:
    """Show a bar for each stage; rows that are already stored count as done."""
    samples = run.store.samples(iteration)
    rewritten = sum(sample.parent is not None for sample in samples)
    slots = run.settings.samples
    both = slots * 2 if "adapted" in stages else slots
    bars = {
        "initial": (slots, len(samples) - rewritten),
        "verified": (both, sum(sample.label is not None or sample.dropped is not None for sample in samples)),
        "attempted": (slots, len(run.store.greedy_attempts(iteration))),
        "adapted": (slots, rewritten),
        "scored": (both, len(run.store.scores(iteration))),
    }
    for stage, (total, done) in bars.items():
        if stage in stages:
            run.progress.start(stage, total, done)


def _describe_attempts(run: OpenRun, iteration: int) -> str:
    """Return how many attempts were made, if they stopped before all of them."""
    total, most = run.store.count_attempts(iteration), run.settings.attempts
    if not total.samples or total.least >= most:
        return ""
    return f", {total.attempts} attempts ({total.attempts / (total.samples * most):.0%} of {most} each)"


def finish_bars(run: OpenRun, iteration: int, stages: Collection[str]) -> None:
    """Show the result of each stage."""
    counts = run.store.count_samples(iteration)
    dropped = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in counts["dropped"].items())
    verified = counts["verified"] + counts["harder"] + counts["easier"]
    outcomes = {
        "initial": f"{counts['initial']} written",
        "verified": f"{verified} verified; dropped: {dropped or 'none'}",
        "attempted": f"{counts['solved']} solved, {counts['unsolved']} unsolved",
        "adapted": f"{counts['harder']} harder, {counts['easier']} easier",
        "scored": f"{counts['scored']} samples{_describe_attempts(run, iteration)}",
    }
    for stage, outcome in outcomes.items():
        if stage in stages:
            run.progress.finish(stage, outcome)
