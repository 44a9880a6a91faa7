"""What a report shows, read from the store of a run. Every number is that of ``dsrl show --json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from random import Random
from typing import Any, TypeVar

from dsrl.pipeline.funnel import list_funnel
from dsrl.pipeline.summary import describe_attempts, load_notes, load_result, load_settings, summarise_attempts
from dsrl.pipeline.suspects import find_suspects
from dsrl.pipeline.workspace import Workspace
from dsrl.settings import to_toml
from dsrl.storage.listing import ItemRow, SampleRow
from dsrl.storage.metrics import Metrics
from dsrl.storage.run_store import RunStore
from dsrl.text import replace_surrogates
from dsrl.types import DEV_ACCURACY

T = TypeVar("T")

#: Samples and test items that one page holds at most, and characters of a text in it.
MOST_ROWS = 2_000
LONGEST_TEXT = 700
#: Characters of a warning, a note, a label or a setting in it.
LONGEST_NOTE = 2_000
#: More different labels than these are no classes: no table of confusion is shown.
MOST_LABELS = 12
#: A label that a smaller share of the votes agrees with may be wrong; so many samples with such a label are listed at most.
DOUBTFUL_AGREEMENT, MOST_DOUBTFUL = 0.7, 20
#: Classes of the pass-rate histogram.
BINS = 10
#: A budget of characters for all rows of a page, so that it stays below 3 MB.
_MOST_CHARACTERS = 2_000_000


def collect(store: RunStore, workspace: Workspace) -> dict[str, Any]:
    """Return what the report of a run shows; what does not exist yet is empty or None.

    Raises:
        StoreError, SettingsError: the run cannot be read.
    """
    result, settings = load_result(store, workspace), load_settings(store)
    samples, items = store.list_sample_rows(), store.list_item_rows()
    shown_samples, shown_items = _choose(samples, _get_stratum), _choose(items, lambda row: row.task)
    length = _fit_length(len(shown_samples) + len(shown_items))
    attempts = summarise_attempts(store, settings)
    report = {
        "result": result,
        "started": datetime.fromtimestamp(store.created).strftime("%Y-%m-%d %H:%M"),
        "verdict": describe_verdict(result),
        "is_finished": result["trained_accuracy"] is not None,
        "funnel": list_funnel(result["samples"]),
        "histogram": count_pass_rates(samples, store.list_last_rewards()),
        "attempts": describe_attempts(attempts) if attempts else "",
        "training": read_training(store, settings.iterations),
        "confusion": [count_confusion(items, model) for model in ("base", "trained")],
        "labels": count_labels(samples),
        "agreement": count_agreement(samples),
        "forecast": compare_forecast(store.forecast or [], result["spending"]),
        "doubtful": list_doubtful(samples),
        "suspects": list_suspects(samples, store),
        "matches": [asdict(match) for match in store.list_matches()][:MOST_ROWS],
        "notes": [note for note in load_notes(store, workspace) if note not in result["warnings"]],
        "settings": to_toml(settings),
        "versions": store.read_table("versions"),
        "definition": store.definition() or {},
        "n_samples": len(samples),
        "n_items": len(items),
    }
    return {
        **_cut_all(report),
        "sample_rows": list(_describe_samples(store, shown_samples, length)),
        "item_rows": [_describe_item(row, length) for row in shown_items],
    }


def describe_verdict(result: Mapping[str, Any]) -> str:
    """Return one sentence about the result that needs no knowledge of the method."""
    base, trained, gain = result["base_accuracy"], result["trained_accuracy"], result["gain_ci95"]
    if trained is None or base is None or gain is None:
        if result["model_path"]:
            return "The model is trained, but it was not evaluated, so nobody knows yet whether it is better."
        return "The run is not finished: there is no trained model yet."
    counts = f"{trained * 100:.0f} of 100 test questions are answered correctly, {base * 100:.0f} before the training"
    if gain[0] > 0:
        return f"The training made the model better: {counts}."
    if gain[1] < 0:
        return f"The training made the model worse: {counts}."
    return f"No improvement is shown: {counts}. That can be chance."


def count_pass_rates(samples: Sequence[SampleRow], last_rewards: Mapping[str, float]) -> dict[str, list[int]]:
    """Count samples by their pass rate, in ten classes from 0-10% to 90-100%: initial, rewritten and selected ones.

    Args:
        samples: the samples.
        last_rewards: id of a sample -> mean reward of its answers when it was last trained on. They are the group
            ``trained``, which is left out if nothing was trained; a reward beyond 0 to 1 counts in the class at that end.
    """
    groups = {"initial": [0] * BINS, "rewritten": [0] * BINS, "selected": [0] * BINS}
    if last_rewards:
        groups["trained"] = [0] * BINS
    for reward in last_rewards.values():
        groups["trained"][min(BINS - 1, max(0, int(reward * BINS)))] += 1
    for row in samples:
        if not row.attempts:
            continue
        place = min(BINS - 1, (row.passed or 0) * BINS // row.attempts)
        groups["rewritten" if row.parent else "initial"][place] += 1
        if row.place is not None:
            groups["selected"][place] += 1
    return groups


def read_training(store: RunStore, iterations: int) -> list[dict[str, Any]]:
    """Return, for each iteration that was trained, the reward and the accuracy on development items by step."""
    metrics = Metrics(store.folder / "metrics.jsonl") if (store.folder / "metrics.jsonl").is_file() else None
    if metrics is None:
        return []
    curves = []
    for iteration in range(1, iterations + 1):
        reward = metrics.read_values(iteration, "reward")
        if reward:
            accuracy = metrics.read_values(iteration, DEV_ACCURACY)
            curves.append({"iteration": iteration, "reward": reward, "dev_accuracy": accuracy})
    return curves


def count_confusion(items: Sequence[ItemRow], model: str) -> dict[str, Any]:
    """Count the answers of a model by the right label.

    Returns:
        ``model``, ``answered``, ``unreadable`` (numbers of items), and ``table``: label -> answer -> number. The table is
        empty if there are more than :data:`MOST_LABELS` labels.
    """
    answers = [
        (row.label, getattr(row, f"{model}_answer")) for row in items if getattr(row, f"{model}_correct") is not None
    ]
    labels = sorted({row.label for row in items})
    table: dict[str, Counter[str]] = {label: Counter() for label in labels} if len(labels) <= MOST_LABELS else {}
    for label, answer in answers if table else ():
        table[label]["unreadable" if answer is None else answer if answer in table else "another answer"] += 1
    unreadable = sum(answer is None for _, answer in answers)
    return {
        "model": model,
        "answered": len(answers),
        "unreadable": unreadable,
        "table": {label: dict(counts) for label, counts in table.items()},
        "columns": [*labels, "another answer", "unreadable"] if table else [],
    }


def compare_forecast(
    stages: Sequence[Mapping[str, Any]], spending: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return what was expected of the teachers for each purpose when the run began, and what it was; empty if unknown.

    Args:
        stages: the forecast, as :class:`dsrl.pipeline.forecast.StageForecast`.
        spending: the lines of ``spending`` in the result.

    Returns:
        ``purpose``; ``calls`` and ``dollars``: the forecast, each with ``low``, ``expected`` and ``high``, dollars None if a
        price was not known; ``actual_calls``; ``actual_dollars``, None if a bill is not known.
    """
    rows = []
    for purpose in dict.fromkeys(stage["purpose"] for stage in stages):
        expected = [stage for stage in stages if stage["purpose"] == purpose]
        lines = [line for line in spending if line["purpose"] == purpose]
        costs = [line["cost_usd"] for line in lines]
        rows.append(
            {
                "purpose": purpose,
                "calls": _add_ranges([stage["calls"] for stage in expected]),
                "dollars": _add_ranges([stage["dollars"] for stage in expected]),
                "actual_calls": sum(line["calls"] for line in lines),
                "actual_dollars": None if None in costs else sum(costs),
            }
        )
    return rows


def _add_ranges(ranges: Sequence[Mapping[str, float] | None]) -> dict[str, float] | None:
    known = [each for each in ranges if each is not None]
    if len(known) < len(ranges):
        return None
    return {end: sum(each[end] for each in known) for end in ("low", "expected", "high")}


def count_labels(samples: Sequence[SampleRow]) -> list[tuple[str, int, int]]:
    """Count the labels of scored samples and of the training set, most frequent first; empty if there are too many."""
    pool = Counter(row.label for row in samples if row.label is not None and row.score is not None)
    selected = Counter(row.label for row in samples if row.label is not None and row.place is not None)
    return [] if len(pool) > MOST_LABELS else [(str(label), n, selected[label]) for label, n in pool.most_common()]


def count_agreement(samples: Sequence[SampleRow]) -> list[int]:
    """Count the samples by the share of their votes that agree with the label, in ten classes up to 100%."""
    counts = [0] * BINS
    for row in samples:
        if row.label is not None and row.agreement is not None:
            counts[min(BINS - 1, int(row.agreement * BINS))] += 1
    return counts


def list_doubtful(samples: Sequence[SampleRow]) -> list[dict[str, Any]]:
    """Return the samples whose label may be wrong, most doubtful first: few of the readable votes agree with it."""
    doubtful = [row for row in samples if row.label is not None and (row.agreement or 1.0) < DOUBTFUL_AGREEMENT]
    doubtful.sort(key=lambda row: (row.agreement or 0.0, row.id))
    return [
        {
            "id": row.id,
            "label": row.label,
            "agreement": row.agreement,
            "place": row.place,
            "input": _cut(row.input, 200),
        }
        for row in doubtful[:MOST_DOUBTFUL]
    ]


def list_suspects(samples: Sequence[SampleRow], store: RunStore) -> list[dict[str, Any]]:
    """Return the samples whose label is suspected to be wrong (:mod:`dsrl.pipeline.suspects`), most suspected first."""
    scored = [row for row in samples if row.attempts]
    suspects = find_suspects(scored, store.list_details(row.id for row in scored))
    return [{**asdict(each), "input": _cut(each.input, 200)} for each in suspects[:MOST_DOUBTFUL]]


def _choose(rows: Sequence[T], get_stratum: Any) -> list[T]:
    """Return all rows, or a part in which every stratum has its share; the same rows each time."""
    if len(rows) <= MOST_ROWS:
        return list(rows)
    strata: dict[Any, list[int]] = {}
    for number, row in enumerate(rows):
        strata.setdefault(get_stratum(row), []).append(number)
    rng, chosen = Random(0), []
    for numbers in strata.values():
        chosen += rng.sample(numbers, max(1, MOST_ROWS * len(numbers) // len(rows)))
    return [rows[number] for number in sorted(chosen)[:MOST_ROWS]]


def _get_stratum(row: SampleRow) -> tuple[str, bool, bool]:
    return row.kind, row.place is not None, row.dropped is not None


def _fit_length(rows: int) -> int:
    """Return how many characters each text of a row may have."""
    return min(LONGEST_TEXT, _MOST_CHARACTERS // max(1, 4 * rows))


def _cut(text: str | None, length: int) -> str | None:
    if text is None:
        return None
    text = replace_surrogates(text)
    return text if len(text) <= length else text[: length - 1] + "…"


def _cut_all(value: Any) -> Any:
    """Return a value in which no text is longer than :data:`LONGEST_NOTE`: a browser takes minutes for one of a megabyte."""
    if isinstance(value, str):
        return _cut(value, LONGEST_NOTE)
    if isinstance(value, Mapping):
        return {_cut_all(key): _cut_all(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_cut_all, value))
    return value


def _describe_samples(store: RunStore, rows: Sequence[SampleRow], length: int) -> Iterator[dict[str, Any]]:
    passages = {
        passage.id: passage
        for iteration in {row.iteration for row in rows}
        for domains in store.passages(iteration).values()
        for found in domains.values()
        for passage in found
    }
    details = store.list_details(row.id for row in rows)
    for row in rows:
        passage = passages.get(row.passage or "")
        yield {
            "id": row.id,
            "kind": row.kind,
            "domain": row.domain,
            "input": _cut(row.input, length),
            "output": _cut(row.output, length),
            "label": _cut(row.label, 100),
            "dropped": row.dropped,
            "parent": row.parent,
            "passage": _cut(f"{passage.title} {passage.text}".strip(), length) if passage else row.passage,
            "passed": row.passed,
            "attempts": row.attempts,
            "score": row.score,
            "place": row.place,
            "agreement": row.agreement,
            "votes": {_cut(answer, 60): count for answer, count in details[row.id].votes.items()},
            "answers": [[_cut(answer, 60), times, right] for answer, times, right in details[row.id].answers[:6]],
            "rewards": [round(reward, 3) for reward in details[row.id].rewards],
        }


def _describe_item(row: ItemRow, length: int) -> dict[str, Any]:
    return {
        "number": row.number,
        "domain": row.domain,
        "input": _cut(row.input, length),
        "label": _cut(row.label, 100),
        "base": _cut(row.base_output, length),
        "trained": _cut(row.trained_output, length),
        "base_answer": _cut(row.base_answer, 100),
        "trained_answer": _cut(row.trained_answer, 100),
        "base_right": row.base_correct,
        "trained_right": row.trained_correct,
    }
