"""The tables and plots of `benchmarks/method.py`, from its results: paired bootstrap over seeds and test items.

The base models and the worlds are not resampled: an interval says what other seeds and other items of the same worlds would
give. With three seeds, such an interval is too narrow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from dsrl.pipeline.compare import adjust_holm

RESAMPLES = 4000
DOCS = Path(__file__).parents[1] / "docs"
#: The worlds of the primary comparison, and those where all labels are right.
PRIMARY_WORLDS, CLEAN_WORLDS = ("classes-10", "classes-20"), ("chains", "classes-0")
REFERENCE, CANDIDATE, FILTERED, AGAIN = "potential", "online", "filtered", "potential again"
SECOND, THIRD = "potential, filtered, 8 attempts", "potential, filtered, early stop"
LOWER = "potential, filtered at 0.6"
#: The third and fourth comparisons have the seeds from here on.
FIRST_NEW_SEED = 10


@dataclass(frozen=True)
class Difference:
    """A mean difference of accuracies in points, with its 95% interval and a two-sided p-value.

    Attributes:
        seeds: lowest number of paired seeds of a base model.
    """

    mean: float
    low: float
    high: float
    p: float
    seeds: int

    def __str__(self) -> str:
        return f"{self.mean:+.1f} ({self.low:+.1f} to {self.high:+.1f})"


class Table:
    """The results of some seeds by world, base model, rule and seed."""

    def __init__(self, records: Mapping[str, Mapping[str, Any]], seeds: range = range(FIRST_NEW_SEED)) -> None:
        self.runs: dict[str, dict[str, dict[str, dict[int, Mapping[str, Any]]]]] = {}
        self.bases: dict[tuple[str, str], Mapping[str, Any]] = {}
        for key, record in records.items():
            match json.loads(key):
                case [world, base, "base"]:
                    self.bases[world, base] = record
                case [world, base, int(seed), rule, None] if seed in seeds:
                    rules = self.runs.setdefault(world, {}).setdefault(base, {})
                    rules.setdefault(rule, {})[seed] = record

    def list_rules(self, world: str) -> list[str]:
        return list(dict.fromkeys(rule for rules in self.runs[world].values() for rule in rules))

    def list_records(self, world: str, rule: str) -> Iterator[Mapping[str, Any]]:
        for rules in self.runs[world].values():
            yield from rules.get(rule, {}).values()

    def pair(self, world: str, rule: str, reference: str = REFERENCE) -> dict[str, np.ndarray]:
        """Return base -> the difference of both rules, 1, 0 or -1, for each common seed (row) and test item (column)."""
        pairs = {}
        for base, rules in self.runs.get(world, {}).items():
            own, other = rules.get(rule, {}), rules.get(reference, {})
            if seeds := sorted(own.keys() & other.keys()):
                pairs[base] = np.array([read_bits(own[seed]) - read_bits(other[seed]) for seed in seeds])
        return pairs


def read_bits(record: Mapping[str, Any]) -> np.ndarray:
    """Return for each test item 1 if it was answered rightly, else 0."""
    return np.array([int(bit) for bit in f"{int(record['right'], 16):b}"[1:]], dtype=np.int8)


def bootstrap(worlds: Sequence[Mapping[str, np.ndarray]]) -> Difference | None:
    """Resample the seeds and the items of each base model; average over the bases of a world, then over the worlds."""
    if not worlds or not all(worlds):
        return None
    rng = np.random.default_rng(0)
    mean, resampled = 0.0, np.zeros(RESAMPLES)
    for pairs in worlds:
        for matrix in pairs.values():
            share = 1 / (len(worlds) * len(pairs))
            seeds, items = matrix.shape
            seed_weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
            item_weights = rng.multinomial(items, np.full(items, 1 / items), RESAMPLES) / items
            resampled += share * ((seed_weights @ matrix) * item_weights).sum(axis=1)
            mean += share * float(matrix.mean())
    low, high = np.quantile(resampled, [0.025, 0.975])
    tail = min(float((resampled <= 0).mean()), float((resampled >= 0).mean()))
    seeds = min(len(matrix) for pairs in worlds for matrix in pairs.values())
    return Difference(100 * mean, 100 * float(low), 100 * float(high), min(1.0, max(2 * tail, 1 / RESAMPLES)), seeds)


def average(records: Iterator[Mapping[str, Any]] | Sequence[Mapping[str, Any]], name: str) -> float:
    return float(np.mean([record[name] for record in records]))


def write_report(records: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the tables in Markdown, and draw the plots in `docs/`."""
    table, new = Table(records), Table(records, range(FIRST_NEW_SEED, 1 << 31))
    if not table.runs:
        print("There is no result on a test split yet.")
        return
    primary = bootstrap([table.pair(world, CANDIDATE) for world in PRIMARY_WORLDS])
    print(f"\nPrimary, {CANDIDATE} - {REFERENCE}, mean of {' and '.join(PRIMARY_WORLDS)}: {primary}")
    if primary:
        print(f"{primary.seeds} paired seeds for each base model at least, p = {primary.p:.4f}")
    _print_tables(table, (CANDIDATE, FILTERED, SECOND, AGAIN))
    if new.runs:
        print("\nThird comparison, on new seeds:")
        _print_tables(new, (THIRD,))
        _print_fourth(new)
    _print_rates(records)
    _draw_forest(table, new, DOCS / "method-differences.svg")
    _draw_levels(table, DOCS / "method-difficulty.svg")


def _print_tables(table: Table, rules: Sequence[str]) -> None:
    _print_comparisons(table, rules)
    _print_rules(table)
    _print_levels(table)


def _print_comparisons(table: Table, rules: Sequence[str]) -> None:
    """Print the differences to `potential`: those of some rules over worlds, then all, with Holm's correction among them."""
    print("\n| rule | classes-10 and classes-20 | chains and classes-0 |\n| --- | --- | --- |")
    for rule in rules:
        noisy, clean = (bootstrap([table.pair(w, rule) for w in worlds]) for worlds in (PRIMARY_WORLDS, CLEAN_WORLDS))
        print(f"| {rule} | {noisy} | {clean} |")
    found: list[tuple[str, str, Difference]] = []
    for world in table.runs:
        for rule in table.list_rules(world):
            difference = bootstrap([table.pair(world, rule)]) if rule not in (REFERENCE, LOWER) else None
            if difference:
                found.append((world, rule, difference))
    corrected = dict(
        zip(
            [(world, rule) for world, rule, _ in found if rule != AGAIN],
            adjust_holm([difference.p for _, rule, difference in found if rule != AGAIN]),
            strict=True,
        )
    )
    print("\n| world | rule | seeds | difference to `potential`, points | by base model | p, Holm |")
    print("| --- | --- | --- | --- | --- | --- |")
    for world, rule, difference in found:
        bases = ", ".join(f"{100 * matrix.mean():+.1f}" for matrix in table.pair(world, rule).values())
        p = f"{corrected[world, rule]:.3f}" if rule != AGAIN else "A/A"
        print(f"| {world} | {rule} | {difference.seeds} | {difference} | {bases} | {p} |")


def _print_fourth(table: Table) -> None:
    """Print the differences of the rule with the lower threshold to that with the higher one."""
    pairs = {world: pair for world in table.runs if (pair := table.pair(world, LOWER, THIRD))}
    if not pairs:
        return
    print(f"\nFourth comparison, {LOWER} - {THIRD}, mean of {', '.join(pairs)}: {bootstrap(list(pairs.values()))}")
    print("\n| world | difference |\n| --- | --- |")
    for world, pair in pairs.items():
        print(f"| {world} | {bootstrap([pair])} |")


def _print_rules(table: Table) -> None:
    print("\n| world | rule | accuracy | live groups | selected | wrong labels | teacher replies | base answers |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for world in table.runs:
        bases = [record for (own, _), record in table.bases.items() if own == world]
        wrong = average(list(table.list_records(world, REFERENCE)), "pool_wrong")
        print(f"| {world} | base model | {average(bases, 'accuracy'):.1%} | - | - | pool: {wrong:.1%} | - | - |")
        for rule in table.list_rules(world):
            own = list(table.list_records(world, rule))
            names = ("accuracy", "live", "selected", "wrong", "teacher_replies", "base_answers")
            accuracy, live, selected, wrong, replies, answers = (average(own, name) for name in names)
            print(
                f"| {world} | {rule} | {accuracy:.1%} | {live:.2f} | {selected:.0f} | {wrong:.1%} | {replies:,.0f} | "
                f"{answers:,.0f} |"
            )
    for world in table.runs:
        if again := list(table.list_records(world, AGAIN)):
            print(f"{world}: two scorings share {average(again, 'overlap'):.1%} of the selected samples")


def _average_levels(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {level: float(np.mean([r["by_level"][level] for r in records])) for level in records[0]["by_level"]}


def _print_levels(table: Table) -> None:
    print("\n| world | model | accuracy by difficulty |\n| --- | --- | --- |")
    for world in table.runs:
        bases = [record for (own, _), record in table.bases.items() if own == world]
        rows = [("base model", bases)]
        rows += [(rule, list(table.list_records(world, rule))) for rule in table.list_rules(world)]
        for name, own in rows:
            levels = _average_levels(own)
            print(f"| {world} | {name} | {', '.join(f'{level}: {share:.0%}' for level, share in levels.items())} |")


def _print_rates(records: Mapping[str, Mapping[str, Any]]) -> None:
    rates: dict[tuple[str, str], dict[float, list[float]]] = {}
    for key, record in records.items():
        match json.loads(key):
            case [world, _, _, rule, float(rate)]:
                rates.setdefault((world, rule), {}).setdefault(rate, []).append(record["accuracy"])
    print("\n| world | rule | accuracy on the development split by learning rate |\n| --- | --- | --- |")
    for (world, rule), own in rates.items():
        print(f"| {world} | {rule} | {', '.join(f'{rate:g}: {np.mean(found):.1%}' for rate, found in own.items())} |")


# -- plots ------------------------------------------------------------------------------------------------------------

_STYLE = 'font-family="sans-serif" font-size="12" fill="#333"'
_COLOURS = {
    "base model": "#999999",
    REFERENCE: "#1f77b4",
    CANDIDATE: "#d62728",
    FILTERED: "#2ca02c",
    SECOND: "#9467bd",
}


def _write_svg(path: Path, width: int, height: int, parts: Sequence[str]) -> None:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    background = f'<rect width="{width}" height="{height}" fill="white"/>'
    path.write_text("\n".join([head, background, *parts, "</svg>"]) + "\n", encoding="utf-8")


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {_STYLE}>{escape(text)}</text>'


def _draw_forest(table: Table, new: Table, path: Path) -> None:
    """Draw the differences of the rules with 10 seeds, and of the A/A, to `potential`, with their intervals."""
    rows: list[tuple[str, Difference, str]] = []
    colours = {**_COLOURS, THIRD: "#ff7f0e"}
    if primary := bootstrap([table.pair(world, CANDIDATE) for world in PRIMARY_WORLDS]):
        rows.append(("primary: " + ", ".join(PRIMARY_WORLDS), primary, _COLOURS[CANDIDATE]))
    for rule, own in [(THIRD, new), *((rule, table) for rule in (CANDIDATE, SECOND, FILTERED, AGAIN))]:
        for world in table.runs:
            if difference := bootstrap([own.pair(world, rule)]):
                rows.append((f"{rule}: {world}", difference, colours.get(rule, "#999999")))
    if not rows:
        return
    low = min(-1.0, *(row[1].low for row in rows))
    high = max(1.0, *(row[1].high for row in rows))
    left, right, top, step = 300, 700, 40, 22
    bottom = top + step * len(rows)

    def place(value: float) -> float:
        return left + (right - left) * (value - low) / (high - low)

    parts = [_text(10, 20, "Accuracy minus that of `potential`, points, with 95% intervals")]
    for tick in range(int(np.ceil(low)), int(np.floor(high)) + 1):
        colour = "#333" if tick == 0 else "#ddd"
        parts.append(f'<path d="M{place(tick):.1f} {top - 8}V{bottom}" stroke="{colour}"/>')
        parts.append(_text(place(tick), bottom + 16, f"{tick:+d}" if tick else "0", "middle"))
    for number, (name, difference, colour) in enumerate(rows):
        y = top + step * number + 6
        parts.append(_text(10, y + 4, name))
        parts.append(
            f'<path d="M{place(difference.low):.1f} {y}H{place(difference.high):.1f}" stroke="{colour}" stroke-width="2"/>'
        )
        parts.append(f'<circle cx="{place(difference.mean):.1f}" cy="{y}" r="4" fill="{colour}"/>')
    _write_svg(path, 720, bottom + 30, parts)


def _draw_levels(table: Table, path: Path) -> None:
    """Draw the accuracy by difficulty, from 40%, of the base models and of the rules with 10 seeds, a panel for a world."""
    parts = []
    for number, (name, colour) in enumerate(_COLOURS.items()):
        parts += [
            f'<circle cx="{20 + 130 * number}" cy="16" r="4" fill="{colour}"/>',
            _text(30 + 130 * number, 20, name),
        ]
    size, gap, lowest = 180, 55, 0.4
    for number, world in enumerate(table.runs):
        x, y = 40 + number % 3 * (size + gap), 60 + number // 3 * (size + gap)
        parts.append(_text(x, y - 8, world))
        for share in (lowest, 0.6, 0.8, 1):
            height = y + size * (1 - share) / (1 - lowest)
            parts += [
                f'<path d="M{x} {height}h{size}" stroke="#ddd"/>',
                _text(x - 4, height + 4, f"{share:.0%}", "end"),
            ]
        bases = [record for (own, _), record in table.bases.items() if own == world]
        for name, colour in _COLOURS.items():
            own = bases if name == "base model" else list(table.list_records(world, name))
            if not own:
                continue
            levels = _average_levels(own)
            points = [
                (x + size * (i + 0.5) / len(levels), y + size * (1 - share) / (1 - lowest))
                for i, share in enumerate(levels.values())
            ]
            line = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
            parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>' for px, py in points]
        for i, level in enumerate(_average_levels(bases)):
            parts.append(_text(x + size * (i + 0.5) / len(_average_levels(bases)), y + size + 16, level, "middle"))
    rows = (len(table.runs) + 2) // 3
    _write_svg(path, 40 + 3 * (size + gap), 60 + rows * (size + gap), parts)
