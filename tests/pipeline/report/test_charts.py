from __future__ import annotations

from xml.etree import ElementTree

from dsrl.pipeline.report.charts import draw_histogram, draw_lines


def test_bars_are_as_high_as_their_counts() -> None:
    chart = ElementTree.fromstring(draw_histogram({"a": [1, 0, 4], "b": [2, 2, 2]}, "pass <rate>"))
    heights = [float(bar.get("height") or 0) for bar in chart.iter("rect")]
    assert [round(height / max(heights), 2) for height in heights] == [0.25, 0, 1, 0.5, 0.5, 0.5]
    assert chart.get("aria-label") == "Histogram of the pass <rate>"


def test_curves_share_one_axis() -> None:
    chart = ElementTree.fromstring(draw_lines({"reward": {1: 0.0, 3: 1.0}, "accuracy": {2: 0.5}}))
    points = [
        [float(number) for number in pair.split(",")]
        for line in chart.iter("polyline")
        for pair in str(line.get("points")).split()
    ]
    (x1, y1), (x3, y3), (x2, y2) = points
    assert x1 < x2 < x3
    assert y1 > y2 > y3
    assert draw_lines({"reward": {}}) == ""
    assert "<circle" in draw_lines({"reward": {5: 2.5}})
