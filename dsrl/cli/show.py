"""``dsrl show``: show the result of a run, or the history of one sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsrl.cli.common import Command, folder_options, json_option, print_json, print_line, print_table, run_argument
from dsrl.pipeline.budget import describe_unknown_bills
from dsrl.pipeline.funnel import list_funnel
from dsrl.teaching.pricing import dollars
from dsrl.text import printable

if TYPE_CHECKING:
    from dsrl.api import RunResult
    from dsrl.pipeline.task_results import PartResult
    from dsrl.storage.matches import Match
    from dsrl.teaching.reply_store import SpendingLine

#: Matches that are shown to a person, and characters of what both texts share; ``--json`` has all of them.
_SHOWN_MATCHES, _SHOWN_SPAN = 10, 160
#: Characters of the longest bar of a histogram.
_BAR_WIDTH = 20
#: Reason for which a reply held no sample -> what to do. Such a sample has the text of the reply in place of its output.
_MENDS = {
    "truncated": "the reply was cut off at --teacher-max-tokens {}; give a larger one to a new run",
    "not_json": "the reply holds no JSON object; --retries-unreadable 2 asks again, or try another teacher",
    "no_input_or_output": "the reply lacks an input or an output; --retries-unreadable 2 asks again, or try another teacher",
}


@click.command("show", cls=Command)
@run_argument
@click.option("--sample", metavar="ID", help="Show the history of this sample.")
@folder_options
@json_option
def command(run: str, sample: str | None, runs_dir: Path, cache_dir: Path, as_json: bool) -> None:
    """Show a run: what became of its samples, accuracy, time, cost and settings. With --sample: one sample's history.

    \b
        dsrl show mednli-3f9a1c
        dsrl show mednli-3f9a1c --sample 1-00042h
    """
    from dsrl.api import read_result
    from dsrl.pipeline.report.data import compare_forecast, count_labels, count_pass_rates
    from dsrl.pipeline.summary import (
        describe_attempts,
        load_notes,
        load_settings,
        summarise_attempts,
        summarise_held_out,
    )
    from dsrl.pipeline.workspace import Workspace
    from dsrl.settings import to_toml
    from dsrl.storage.lineage import lineage
    from dsrl.storage.run_store import RunStore

    workspace = Workspace(runs_dir, cache_dir)
    store = RunStore(runs_dir / run, work=False)
    try:
        if sample is not None:
            history = lineage(store, sample)
            if history["dropped"] in _MENDS:
                mend = _MENDS[history["dropped"]].format(load_settings(store).teacher_max_tokens)
                history = {**history, "output": "", "reply": history["output"], "mend": mend}
            print_json(history) if as_json else _print_history(history)
            return
        result = read_result(store, workspace)
        settings_of_run = load_settings(store)
        settings = to_toml(settings_of_run)
        definition = store.definition()
        run_notes = load_notes(store, workspace)
        sample_rows = list(store.list_sample_rows())
        pass_rates = count_pass_rates(sample_rows, store.list_last_rewards())
        stages = store.forecast or []
        held_out = summarise_held_out(store, settings_of_run.iterations)
        attempts = summarise_attempts(store, settings_of_run)
        matches = store.list_matches()
    finally:
        store.close()
    if as_json:
        counts = {
            "pass_rates": pass_rates,
            "labels": count_labels(sample_rows),
            "held_out": held_out,
            "attempts": attempts,
            "forecast": compare_forecast(stages, [asdict(line) for line in result.spending]),
        }
        details = {"settings": settings, "definition": definition, "notes": run_notes, **counts}
        print_json({**asdict(result), "matches": [asdict(match) for match in matches], **details})
        return
    print_result(result)
    if held_out:
        print_line(
            f"held-out samples  {held_out['items']} samples of the teacher (no test set): the base model is right in "
            f"{held_out['base_pass_rate']:.1%} of its attempts, the trained model in {held_out['accuracy']:.1%}"
        )
    if attempts:
        print_line(f"attempts        {describe_attempts(attempts)}")
    _print_pass_rates(pass_rates)
    if labels := count_labels(sample_rows):
        print_table(
            "labels",
            ["label", "scored", "selected"],
            [[label, str(n), str(m)] for label, n, m in labels],
            borders=False,
        )
        print_line()
    if result.spending:
        columns = ["for", "teacher", "calls", "replies", "tokens in", "tokens out", "cost"]
        print_table("spending", columns, [_make_spending_row(line) for line in result.spending], borders=False)
        print_line()
    if matches:
        columns = ["sample", "meaning", "copy of", "rule", "both share"]
        title = "copies" if len(matches) <= _SHOWN_MATCHES else f"copies ({_SHOWN_MATCHES} of {len(matches)})"
        print_table(title, columns, [_make_match_row(match) for match in matches[:_SHOWN_MATCHES]], borders=False)
        print_line()
    for note in run_notes:
        if note not in result.warnings:
            print_line(f"note: {note}")
    for task, own in (definition.get("tasks", {"": definition}) if definition else {}).items():
        _print_definition(f"definition of {task}" if task else "definition", own)
    rows = [[table, key, str(value)] for table, values in settings.items() for key, value in values.items()]
    print_table("settings", ["table", "setting", "value"], rows)


def _print_pass_rates(groups: Mapping[str, Sequence[int]]) -> None:
    """Print how many samples the base model solves in which share of its attempts, one row for each tenth."""
    if not any(map(sum, groups.values())):
        return
    most = max(map(max, groups.values())) or 1
    rows = []
    for place, counts in enumerate(zip(*groups.values(), strict=True)):
        bars = (f"{count:>4} {'█' * round(_BAR_WIDTH * count / most)}" for count in counts)
        rows.append([f"{place * 10}-{place * 10 + 10}%", *bars])
    rewards = " (trained: mean rewards in the last epoch)" if "trained" in groups else ""
    print_table(f"pass rates of the base model{rewards}", ["solved", *groups], rows, borders=False)
    print_line()


def _print_definition(title: str, definition: Mapping[str, Any]) -> None:
    demos = ("demos", "domain_demos")
    texts = {key: "yes" if value is True else str(value or "none") for key, value in definition.items()}
    rows = [[key.replace("_", " "), text] for key, text in texts.items() if key not in demos]
    rows.append(["demonstrations", str(len(definition["demos"]))])
    rows += [[f"demonstrations of {d}", str(len(own))] for d, own in definition.get("domain_demos", {}).items()]
    print_table(title, ["part", "text"], rows)


def print_result(result: RunResult) -> None:
    """Print the result of a run for a person."""
    is_one = "," not in result.task
    title = f"run {result.run} (task{'' if is_one else 's'} {result.task})"
    print_table(title, ["samples", "number", "meaning"], list_funnel(result.samples))
    if result.parts:
        _print_parts(result.parts)
    base, trained, gain = result.base_accuracy, result.trained_accuracy, result.gain_ci95
    if base is not None:
        of_tasks = "" if is_one else " (mean over the tasks)"
        print_line(f"base model      {base:7.1%}  on {result.n_test} test items{of_tasks}")
    if trained is not None:
        print_line(f"trained model   {trained:7.1%}")
    if base is not None and trained is not None and gain is not None:
        verdict = (
            "" if gain[0] > 0 else "  (no gain is shown: the interval includes zero)" if gain[1] >= 0 else "  (worse)"
        )
        print_line(f"gain            {trained - base:+7.1%}  95% interval {gain[0]:+.1%} to {gain[1]:+.1%}{verdict}")
    if trained is None and result.model_path:
        print_line("not evaluated   give a test set with --dataset-path, in the same command or with `dsrl eval`")
    clean_base, clean_trained = result.clean_base_accuracy, result.clean_trained_accuracy
    if clean_base is not None and clean_trained is not None:
        print_line(
            f"without copies  {clean_base:7.1%}  base, {clean_trained:.1%} trained: without the {result.n_contaminated} "
            "test items that training samples copy"
        )
    print_line(f"teacher         {result.teacher_calls} calls, {_format_cost(result)}")
    if result.uncertain_usd:
        maximum = dollars(result.uncertain_usd)
        print_line(f"                and at most {maximum} for calls in flight or with an unknown bill")
    if result.budget_usd is not None:
        print_line(f"budget          {dollars(result.budget_usd)}")
    if result.seconds:
        stages = _format_stages(result.seconds)
        detail = f"  ({stages}; stages overlap)" if stages else ""
        print_line(f"time            {result.seconds.get('total', 0):.0f} s{detail}")
    if result.model_path:
        print_line(f"trained model   {result.model_path}")
    for warning in result.warnings:
        print_line(f"warning: {printable(warning)}")


def _print_parts(parts: Sequence[PartResult]) -> None:
    """Print a row for each task and each domain."""
    columns = ["task, domain", "initial", "verified", "selected", "test", "base", "trained", "gain, 95%"]
    rows = []
    for part in parts:
        gain = part.gain_ci95
        shares = ["" if share is None else f"{share:.1%}" for share in (part.base_accuracy, part.trained_accuracy)]
        counts = map(str, (part.initial, part.verified, part.selected, part.n_test))
        bounds = f"{gain[0]:+.1%} to {gain[1]:+.1%}" if gain else ""
        rows.append([f"{part.task}, {part.domain}" if part.domain else part.task, *counts, *shares, bounds])
    print_table("tasks and domains", columns, rows, borders=False)
    print_line()


def _format_cost(result: RunResult) -> str:
    if result.cost_usd is not None:
        return dollars(result.cost_usd)
    parts = [dollars(result.known_usd)] if result.known_usd else []
    if unpriced := dict.fromkeys(_format_teacher(line) for line in result.spending if line.unpriced):
        parts.append(f"{'and calls of unknown price' if parts else 'price unknown'} ({', '.join(unpriced)})")
    if result.unknown_bills:
        parts.append(describe_unknown_bills(result.unknown_bills))
    return ", ".join(parts) or f"{dollars(0)}, and calls that are missing in the reply store"


def _format_teacher(line: SpendingLine) -> str:
    return f"{line.teacher}:{line.model}".rstrip(":")


def _make_spending_row(line: SpendingLine) -> list[str]:
    numbers = (line.calls, line.replies, line.prompt_tokens, line.completion_tokens)
    return [line.purpose, _format_teacher(line), *map(str, numbers), _format_line_cost(line)]


def _make_match_row(match: Match) -> list[str]:
    original = f"test item {match.item}" if match.other is None else match.other
    rule = match.rule if match.similarity is None else f"{match.rule} ({match.similarity:.2f})"
    span = match.span if len(match.span) <= _SHOWN_SPAN else f"{match.span[: _SHOWN_SPAN - 1]}…"
    return [match.sample, match.meaning, original, rule, printable(span)]


def _format_line_cost(line: SpendingLine) -> str:
    if line.cost_usd is not None:
        return dollars(line.cost_usd)
    return f"{dollars(line.known_usd)} and unknown" if line.known_usd else "unknown"


def _print_history(history: Mapping[str, Any]) -> None:
    for key, value in history.items():
        text = "; ".join(map(_format_value, value)) if isinstance(value, list) else _format_value(value)
        print_line(click.style(f"{key}: ", bold=True) + printable(text))


def _format_value(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _format_stages(seconds: Mapping[str, float]) -> str:
    return ", ".join(f"{stage} {s:.0f}" for stage, s in seconds.items() if stage != "total" and s >= 0.5)
