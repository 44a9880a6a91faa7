"""The page of a report: a template with autoescape, and a policy that allows nothing but its own style and script."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dsrl.errors import DataError
from dsrl.pipeline.compare import Comparison, compare_runs, format_p
from dsrl.pipeline.report.charts import draw_histogram, draw_lines
from dsrl.pipeline.report.data import MOST_ROWS, collect
from dsrl.pipeline.workspace import Workspace
from dsrl.storage.files import replace_file
from dsrl.storage.run_store import RunStore
from dsrl.teaching.pricing import dollars

#: Name of the report in the folder of a run.
REPORT = "report.html"


def write_report(store: RunStore, workspace: Workspace, path: Path | None = None) -> Path:
    """Write the report of a run.

    Args:
        store: the run; it need not be finished.
        workspace: the folders of runs and replies.
        path: the file; None: ``report.html`` in the folder of the run.

    Raises:
        StoreError, SettingsError: the run cannot be read, or the file cannot be written.
    """
    path = path or store.folder / REPORT
    replace_file(path, make_page([collect(store, workspace)]).encode("utf-8"))
    return path


def compare(stores: Mapping[str, RunStore], workspace: Workspace) -> Comparison | str | None:
    """Compare the runs of one page; return a sentence if they cannot be compared, and None if there is only one.

    Raises:
        StoreError, SettingsError: a run cannot be read.
    """
    if len(stores) < 2:
        return None
    try:
        return compare_runs(stores, workspace)
    except DataError as error:
        return str(error)


def make_page(
    reports: Sequence[Mapping[str, Any]],
    comparison: Comparison | str | None = None,
    links: Mapping[str, str] | None = None,
    reload_seconds: int = 0,
) -> str:
    """Return the HTML of one or more runs.

    Args:
        reports: what :func:`dsrl.pipeline.report.data.collect` returns, for each run.
        comparison: what :func:`compare` returns.
        links: name -> address of other pages; none in a file.
        reload_seconds: reload the page after this time, and show what was shown; 0: never.
    """
    from jinja2 import Environment, StrictUndefined

    style, script = _read("page.css"), _read("page.js")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = lambda value: "" if value is None else f"{value * 100:.1f}%"
    environment.filters["dollars"] = lambda value: "not known" if value is None else dollars(value)
    environment.filters["p_value"] = format_p
    environment.filters["signed"] = lambda value: f"{value * 100:+.1f}"
    template = environment.from_string(_read("page.html.j2"))
    return template.render(
        reports=[_prepare(report) for report in reports],
        compared={run.run: run for run in comparison.runs} if isinstance(comparison, Comparison) else {},
        differences=comparison.differences if isinstance(comparison, Comparison) else (),
        refusal=comparison if isinstance(comparison, str) else "",
        links=links or {},
        reload_seconds=reload_seconds,
        most_rows=MOST_ROWS,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        data=_embed([{"samples": report["sample_rows"], "items": report["item_rows"]} for report in reports]),
    )


def _prepare(report: Mapping[str, Any]) -> dict[str, Any]:
    training = [
        {
            "iteration": curve["iteration"],
            "chart": draw_lines(
                {
                    "reward": curve["reward"],
                    **({"held-out accuracy": curve["dev_accuracy"]} if curve["dev_accuracy"] else {}),
                }
            ),
            "has_accuracy": bool(curve["dev_accuracy"]),
        }
        for curve in report["training"]
    ]
    return {
        **report,
        "histogram_has_trained": "trained" in report["histogram"],
        "histogram": draw_histogram(report["histogram"], "pass rate of the base model"),
        "has_scores": any(map(sum, report["histogram"].values())),
        "agreement": draw_histogram({"samples": report["agreement"]}, "share of the votes for the label"),
        "has_votes": sum(report["agreement"]) > 0,
        "training": training,
    }


def _embed(value: Any) -> Markup:
    """Return JSON for a script block: nothing in it can end the block or begin a tag."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _read(name: str) -> str:
    return files("dsrl.pipeline.report").joinpath(name).read_text(encoding="utf-8")
