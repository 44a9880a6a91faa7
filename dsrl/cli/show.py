"""``dsrl show``: what came out of a run; where one sample came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dsrl.cli.common import Command, echo, folder_options, json_option, print_json, table
from dsrl.pipeline.budget import describe_unknown_bills
from dsrl.teaching.pricing import dollars
from dsrl.text import printable


@click.command("show", cls=Command)
@click.argument("run")
@click.option("--sample", help="Show the lineage of one sample, by its id.")
@folder_options
@json_option
def command(run: str, sample: str | None, runs_dir: Path, cache_dir: Path, as_json: bool) -> None:
    """Show a run: where its samples went, accuracy, time and cost, settings. With --sample: one sample's lineage.

    \b
        dsrl show mednli-3f9a1c
        dsrl show mednli-3f9a1c --sample 1-00042h
    """
    from dsrl.pipeline.summary import load_notes, load_result, load_settings
    from dsrl.pipeline.workspace import Workspace
    from dsrl.settings import to_toml
    from dsrl.storage.lineage import lineage
    from dsrl.storage.run_store import RunStore

    workspace = Workspace(runs_dir, cache_dir)
    store = RunStore(runs_dir / run, work=False)
    try:
        if sample is not None:
            found = lineage(store, sample)
            print_json(found) if as_json else print_lineage(found)
            return
        outcome = load_result(store, workspace)
        outcome["settings"] = to_toml(load_settings(store))
        outcome["definition"] = store.definition()
        outcome["notes"] = load_notes(store, workspace)
    finally:
        store.close()
    if as_json:
        print_json(outcome)
        return
    print_run(outcome)
    if outcome["spending"]:
        columns = ["for", "teacher", "calls", "replies", "tokens in", "tokens out", "cost"]
        table("spending", columns, _lines(outcome), lines=False)
        echo()
    for note in outcome["notes"]:
        echo(f"note: {note}")
    definition = outcome["definition"]
    if definition:
        demos = len(definition.pop("demos"))
        rows = [[key.replace("_", " "), value or "none"] for key, value in definition.items()]
        table("definition", ["", ""], [*rows, ["demonstrations", str(demos)]])
    settings = [
        [section, key, str(value)] for section, keys in outcome["settings"].items() for key, value in keys.items()
    ]
    table("settings", ["section", "setting", "value"], settings)


def print_run(outcome: dict[str, Any]) -> None:
    """Print a run's result for a person."""
    samples = outcome["samples"]
    dropped = samples["dropped"]
    rows = [
        ["initial", str(samples["initial"]), "written by the teacher"],
        ["verified", str(samples["verified"]), "label agreed on by the votes"],
        ["solved / unsolved", f"{samples['solved']} / {samples['unsolved']}", "greedy attempt of the base model"],
        ["harder / easier", f"{samples['harder']} / {samples['easier']}", "rewritten from these and verified"],
        ["scored", str(samples["scored"]), "verified, harder and easier"],
        ["selected", str(samples["selected"]), "training set"],
        [
            "dropped",
            str(sum(dropped.values())),
            ", ".join(f"{n} {why.replace('_', ' ')}" for why, n in dropped.items()),
        ],
    ]
    table(f"run {outcome['run']} (task {outcome['task']})", ["samples", "", ""], rows)
    base, trained, gain = outcome["base_accuracy"], outcome["trained_accuracy"], outcome["gain_ci95"]
    if base is not None:
        echo(f"base model      {base:7.1%}  on {outcome['n_test']} test items")
    if trained is not None and gain is not None:
        echo(f"trained model   {trained:7.1%}")
        words = "" if gain[0] > 0 else "  (no gain is shown: the interval holds zero)" if gain[1] >= 0 else "  (worse)"
        echo(f"gain            {trained - base:+7.1%}  95% interval {gain[0]:+.1%} to {gain[1]:+.1%}{words}")
    echo(f"teacher         {outcome['teacher_calls']} calls, {_cost(outcome)}")
    if outcome["uncertain_usd"]:
        most = dollars(outcome["uncertain_usd"])
        echo(f"                and {most} at most for calls under way, or whose bill is not known")
    if outcome["budget_usd"] is not None:
        echo(f"budget          {dollars(outcome['budget_usd'])}")
    seconds = outcome["seconds"]
    if seconds:
        told = f"  ({stages}; stages overlap)" if (stages := _stages(seconds)) else ""
        echo(f"time            {seconds.get('total', 0):.0f} s{told}")
    if outcome["model_path"]:
        echo(f"trained model   {outcome['model_path']}")


def _cost(outcome: dict[str, Any]) -> str:
    if outcome["cost_usd"] is not None:
        return dollars(outcome["cost_usd"])
    parts = [dollars(outcome["known_usd"])] if outcome["known_usd"] else []
    if unpriced := dict.fromkeys(_teacher(line) for line in outcome["spending"] if line["unpriced"]):
        parts.append(f"{'and calls of unknown price' if parts else 'price unknown'} ({', '.join(unpriced)})")
    if outcome["unknown_bills"]:
        parts.append(describe_unknown_bills(outcome["unknown_bills"]))
    return ", ".join(parts) or f"{dollars(0)}, and calls that are lost"  # not in the reply store


def _teacher(line: dict[str, Any]) -> str:
    return f"{line['teacher']}:{line['model']}".rstrip(":")


def _lines(outcome: dict[str, Any]) -> list[list[str]]:
    return [
        [
            line["purpose"],
            _teacher(line),
            str(line["calls"]),
            str(line["replies"]),
            str(line["prompt_tokens"]),
            str(line["completion_tokens"]),
            _line_cost(line),
        ]
        for line in outcome["spending"]
    ]


def _line_cost(line: dict[str, Any]) -> str:
    if line["cost_usd"] is not None:
        return dollars(line["cost_usd"])
    return f"{dollars(line['known_usd'])} and unknown" if line["known_usd"] else "unknown"


def print_lineage(found: dict[str, Any]) -> None:
    """Print where a sample came from and what became of it, for a person."""
    for key, value in found.items():
        if isinstance(value, list):
            value = "; ".join(_short(item) for item in value)
        elif isinstance(value, dict):
            value = _short(value)
        echo(click.style(f"{key}: ", bold=True) + printable(str(value)))


def _short(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _stages(seconds: dict[str, float]) -> str:
    return ", ".join(f"{stage} {s:.0f}" for stage, s in seconds.items() if stage != "total" and s >= 0.5)
