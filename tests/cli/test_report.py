from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def test_a_run_leaves_its_report(dsrl: Any, small: Any) -> None:
    result = json.loads(dsrl(*small, "--json").out)
    page = Path("runs/small/report.html").read_text(encoding="utf-8")
    assert f"<dd>{result['trained_accuracy']:.1%}</dd>" in page
    assert f"<dd>{result['base_accuracy']:.1%}</dd>" in page
    assert f'<td>selected</td><td class="n">{result["samples"]["selected"]}</td>' in page
    Path("runs/small/report.html").unlink()
    assert dsrl("report", "small").out.strip() == "runs/small/report.html"
    assert dsrl("report", "small", "small", "--out", "both.html").out.strip() == "both.html"
    assert Path("both.html").read_text(encoding="utf-8").count("<main") == 2
    assert "there is no run 'nothing'" in dsrl("report", "nothing").err
