from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from evaluated_runs import make_run


def test_a_run_leaves_its_report(dsrl: Any, small: Any) -> None:
    result = json.loads(dsrl(*small, "--json").out)
    page = Path("runs/small/report.html").read_text(encoding="utf-8")
    assert f"<dd>{result['trained_accuracy']:.1%}</dd>" in page
    assert f"<dd>{result['base_accuracy']:.1%}</dd>" in page
    assert f'<td>selected</td><td class="n">{result["samples"]["selected"]}</td>' in page
    Path("runs/small/report.html").unlink()
    assert dsrl("report", "small").out.strip() == "runs/small/report.html"
    assert "<td>solve</td>" in page.partition("Forecast when the run began")[2]
    assert "there is no run 'nothing'" in dsrl("report", "nothing").err


def test_two_runs_on_one_page(dsrl: Any) -> None:
    make_run("one", (True,) * 4 + (False,) * 16)
    make_run("two", (True,) * 14 + (False,) * 6)
    assert dsrl("report", "one", "two").out.strip() == "report.html"
    page = Path("report.html").read_text(encoding="utf-8")
    assert page.count("<main") == 2
    assert "+50.0" in page.partition("Differences between the trained models")[2]


def test_a_place_that_cannot_be_written(dsrl: Any) -> None:
    make_run("one", (True,) * 4)
    Path("file").write_text("")
    Path("folder.html").mkdir()
    for place in ("file/report.html", "folder.html"):
        outcome = dsrl("report", "one", "--out", place)
        assert outcome.code == 1, outcome.err
        assert place in outcome.err
    assert [path.name for path in Path().iterdir() if path.suffix] == ["folder.html"]


def test_a_port_in_use(dsrl: Any) -> None:
    make_run("one", (True,) * 4)
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        outcome = dsrl("report", "one", "--serve", "--port", str(used.getsockname()[1]))
    assert outcome.code == 1
    assert "cannot be used" in outcome.err
    assert "--port" in outcome.err


def test_a_damaged_run(dsrl: Any) -> None:
    make_run("one", (True,) * 4)
    Path("runs/one/run.db").write_bytes(b"no database " * 100)
    outcome = dsrl("report", "one")
    assert outcome.code == 1
    assert "run.db" in outcome.err
