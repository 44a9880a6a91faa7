"""Charts as inline SVG. They hold numbers and names of our own only; colours come from the style sheet of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from markupsafe import Markup

#: Below the axis is room for two lines of text, also for the larger one of narrow windows.
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 234, 44, 48, 12


def draw_histogram(groups: Mapping[str, Sequence[int]], unit: str) -> Markup:
    """Draw groups of bars, one class beside the other.

    Args:
        groups: name -> the number in each class; all have the same number of classes.
        unit: what the classes are, e.g. ``pass rate``; they go from 0% to 100%.
    """
    bins = len(next(iter(groups.values())))
    highest = max(1, *(count for counts in groups.values() for count in counts))
    inner, tall = _WIDTH - _LEFT - 8, _HEIGHT - _BOTTOM - _TOP
    step = inner / bins
    width = step * 0.8 / len(groups)
    parts = [_draw_axis([f"{value:g}" for value in (0, highest / 2, highest)])]
    for number, (name, counts) in enumerate(groups.items()):
        for place, count in enumerate(counts):
            x, height = _LEFT + place * step + step * 0.1 + number * width, tall * count / highest
            low, high = place * 100 // bins, (place + 1) * 100 // bins
            title = f"{name}, {low} to {high}%: {count}"
            parts.append(
                f'<rect class="s{number}" x="{x:.1f}" y="{_TOP + tall - height:.1f}" width="{width:.1f}" '
                f'height="{height:.1f}"><title>{escape(title)}</title></rect>'
            )
    for place in range(0, bins + 1, 2):
        x = _LEFT + place * step
        anchor = "end" if place == bins else "middle"  # the last one would be cut off at the edge
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 27}" text-anchor="{anchor}">{place * 100 // bins}%</text>')
    parts.append(f'<text x="{_LEFT + inner / 2:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(unit)}</text>')
    return _wrap(parts, f"Histogram of the {unit}")


def draw_lines(curves: Mapping[str, Mapping[int, float]]) -> Markup:
    """Draw curves over the steps of a training on one axis from 0 to 1, or to the largest value.

    Args:
        curves: name -> step -> value.
    """
    steps = [step for curve in curves.values() for step in curve]
    if not steps:
        return Markup("")
    first, last = min(steps), max(steps)
    highest = max(1.0, *(value for curve in curves.values() for value in curve.values()))
    lowest = min(0.0, *(value for curve in curves.values() for value in curve.values()))
    inner, tall = _WIDTH - _LEFT - 8, _HEIGHT - _BOTTOM - _TOP

    def place(step: int, value: float) -> tuple[float, float]:
        x = _LEFT + (inner * (step - first) / (last - first) if last > first else inner / 2)
        return x, _TOP + tall * (1 - (value - lowest) / (highest - lowest))

    parts = [_draw_axis([f"{value:.2g}" for value in (lowest, (lowest + highest) / 2, highest)])]
    for number, (name, curve) in enumerate(curves.items()):
        points = [place(step, value) for step, value in sorted(curve.items())]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline class="l{number}" points="{line}"/>')
        for (x, y), (step, value) in zip(points, sorted(curve.items()), strict=True):
            title = f"{name}, step {step}: {value:.3f}"
            parts.append(
                f'<circle class="s{number}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"><title>{escape(title)}</title></circle>'
            )
    for step in sorted({first, (first + last) // 2, last}):
        x, _ = place(step, 0)
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 27}" text-anchor="middle">{step}</text>')
    parts.append(f'<text x="{_LEFT + inner / 2:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">step</text>')
    return _wrap(parts, f"{' and '.join(curves)} over the steps of the training")


def _draw_axis(labels: Sequence[str]) -> str:
    tall = _HEIGHT - _BOTTOM - _TOP
    parts = []
    for number, label in enumerate(labels):
        y = _TOP + tall * (1 - number / (len(labels) - 1))
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(label)}</text>')
    return "".join(parts)


def _wrap(parts: Sequence[str], title: str) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )
