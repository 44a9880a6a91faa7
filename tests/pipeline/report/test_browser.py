"""The report in a real browser, headless Chromium (`make test-report`). Every request but that of the file is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dsrl.pipeline.report.data import collect
from dsrl.pipeline.report.page import make_page, write_report
from dsrl.pipeline.workspace import Workspace
from dsrl.storage.attempts import Attempt
from dsrl.storage.evaluations import EvalItem, Evaluation
from dsrl.storage.run_store import RunStore
from dsrl.types import Passage, Sample, Score

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: make test-report")
CHROMIUM = os.environ.get("DSRL_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: apt-get install chromium")

#: Each would show itself: by a dialog, a request, a changed title, or an error of the script.
HOSTILE = (
    "</script><script>alert(1)</script><img src=http://127.0.0.1:9/x onerror=alert(2)><svg onload=alert(3)>"
    "<style>*{display:none}</style>\u202e\u2028\x1b[31m{{ 7*7 }} ${alert(4)} & ' \" ` <!-- <script>"
)
WIDTHS = (400, 900, 1600)


@dataclass
class Watch:
    """What must not happen while a page is open."""

    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def check(self) -> None:
        assert self.requests == []
        assert self.messages == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(browser: Any, path: Path, width: int = 900, **options: Any) -> tuple[Any, Watch]:
    watch = Watch()
    page = browser.new_page(viewport={"width": width, "height": 900}, **options)

    def refuse(route: Any) -> None:
        if route.request.url == path.absolute().as_uri():
            route.continue_()
        else:
            watch.requests.append(route.request.url)
            route.abort()

    def close(dialog: Any) -> None:
        watch.messages.append(f"dialog {dialog.message}")
        dialog.dismiss()

    page.route("**/*", refuse)
    page.on("console", lambda message: watch.messages.append(message.text))
    page.on("pageerror", lambda error: watch.messages.append(str(error)))
    page.on("dialog", close)
    page.goto(path.absolute().as_uri())
    return page, watch


def read_table(page: Any, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading."""
    table = page.locator("section", has=page.locator("h2", has_text=heading)).locator("table").first
    rows = table.locator("tbody tr").all()
    return [row.locator("td").all_inner_texts() for row in rows]


def browse(page: Any, kind: str) -> Any:
    return page.locator(f".browser[data-kind={kind}]")


def read_seconds(page: Any) -> float:
    """Return the seconds that the processor has worked for a page since it was opened."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    return float(metrics["ProcessTime"])


def make_store(folder: Path, samples: int, items: int, text: str = "word " * 60) -> RunStore:
    """Make a run of so many samples and test items, every part of which holds a text."""
    store = RunStore(folder)
    store.keep_settings({"run": {"name": folder.name}, "task": {"task": "mednli"}, "versions": {"dsrl": text[:200]}})
    store.add_keywords(1, {"": {"d": ["k"]}})
    store.add_passages(1, {"": {"d": [Passage("p", text[:100], text)]}})
    rows = [
        Sample(f"1-{n:05}", 1, n, "initial", f"{n} {text}", text, label=text[:80], passage="p", domain="d")
        for n in range(samples)
    ]
    store.add_samples(rows)
    store.add_verdicts([(row, [str(row.label)] * 3) for row in rows])
    store.add_greedy_attempts([Attempt(row.id, text, row.label or "", True) for row in rows])
    store.add_scores([(Score(row.id, 8, n % 9, n % 9 / 8), {text: (8, True)}) for n, row in enumerate(rows)])
    store.add_selected(1, [row.id for row in rows[: samples // 2]])
    store.replace_items([EvalItem(f"{n} {text}", "yes") for n in range(items)])
    for model, right in (("base", 3), ("trained", 2)):
        store.add_evaluations([Evaluation(model, n, text, "yes", n % right == 0) for n in range(items)])
    store.add_event("warning", text, "x-1:y")
    return store


def test_the_report_of_a_real_run_holds_the_numbers_of_show(browser: Any, tmp_path: Path) -> None:
    def dsrl(*args: str) -> str:
        # In a process of its own: the browser's driver has an event loop in this one.
        command = [sys.executable, "-m", "dsrl", *args]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    run = "run --task mednli --name small --samples 16 --select 6 --attempts 4 --votes 4 --epochs 1 --batch-size 6"
    dsrl(*run.split(), "--group-size", "4", "--test-size", "12")
    result = json.loads(dsrl("show", "small", "--json"))
    items = json.loads(dsrl("items", "small", "--limit", "0", "--json"))
    page, watch = open_page(browser, tmp_path / "runs/small/report.html")
    figures = dict(zip(page.locator("dt").all_inner_texts(), page.locator("dd").all_inner_texts(), strict=True))
    assert figures["base model"] == f"{result['base_accuracy']:.1%}"
    assert figures["trained model"] == f"{result['trained_accuracy']:.1%}"
    assert figures["test items"] == str(result["n_test"])
    low, high = result["gain_ci95"]
    assert figures["gain, 95% interval"] == f"{low * 100:+.1f} to {high * 100:+.1f}"
    funnel = {row[0]: row[1] for row in read_table(page, "What became of the samples")}
    assert funnel["initial"] == str(result["samples"]["initial"])
    assert funnel["selected"] == str(result["samples"]["selected"])
    assert funnel["dropped"] == str(sum(result["samples"]["dropped"].values()))
    spending = {row[0]: row for row in read_table(page, "Spending")}
    for line in result["spending"]:
        assert spending[line["purpose"]][2:6] == [
            str(line[name]) for name in ("calls", "replies", "prompt_tokens", "completion_tokens")
        ]
    fixed = [item for item in items if item["base_correct"] is False and item["trained_correct"] is True]
    root = browse(page, "items")
    root.locator("select").select_option("fixed")
    assert root.locator(".count").inner_text() == f"{len(fixed)} of {len(items)}, {len(fixed)} shown"
    assert browse(page, "samples").locator(".row").count() >= result["samples"]["scored"]
    watch.check()


def test_filters_and_search_work_by_click_and_by_key(browser: Any, tmp_path: Path) -> None:
    store = make_store(tmp_path / "runs" / "one", samples=70, items=12)
    page, watch = open_page(browser, write_report(store, Workspace(tmp_path / "runs", tmp_path / "cache")))
    store.close()
    samples = browse(page, "samples")
    assert samples.locator(".count").inner_text() == "70 of 70, 50 shown"
    samples.locator("button").click()
    assert samples.locator(".row").count() == 70
    samples.locator("select").focus()
    page.keyboard.press("ArrowDown")  # selected
    assert samples.locator(".count").inner_text().startswith("35 of 70")
    page.keyboard.press("Tab")
    page.keyboard.type("1-00012")
    assert samples.locator(".row").count() == 1
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # opens the row
    details = samples.locator(".row .part").all_inner_texts()
    assert any(text.startswith("Passage") for text in details)
    samples.locator("input").fill("nothing has this text")
    assert samples.locator(".count").inner_text().startswith("0 of 70")
    items = browse(page, "items")
    for name, count in (("fixed", 4), ("broken", 2), ("both wrong", 4), ("both right", 2)):
        items.locator("select").select_option(name)
        assert items.locator(".row").count() == count
    watch.check()


@pytest.mark.parametrize(
    "text", [HOSTILE, "A" * 1_000_000, "\u202e\u2066\x1b]8;;x\x07" * 100], ids=["html", "long", "bidi"]
)
def test_hostile_texts_run_nothing(browser: Any, tmp_path: Path, text: str) -> None:
    store = make_store(tmp_path / "runs" / "one", samples=3, items=3, text=text)
    page, watch = open_page(browser, write_report(store, Workspace(tmp_path / "runs", tmp_path / "cache")))
    store.close()
    for kind in ("samples", "items"):
        browse(page, kind).locator("summary").first.click()
    shown = browse(page, "samples").locator(".part pre").first.text_content()
    assert shown.startswith(f"0 {text}"[:600])
    assert page.locator("img, iframe, object, body style, main script").count() == 0
    assert page.locator("main").evaluate("node => getComputedStyle(node).display") == "block"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    watch.check()


def test_twenty_thousand_samples_open_within_two_seconds(browser: Any, tmp_path: Path) -> None:
    store = make_store(tmp_path / "runs" / "large", samples=20_000, items=2_000)
    path = write_report(store, Workspace(tmp_path / "runs", tmp_path / "cache"))
    store.close()
    assert path.stat().st_size < 3_000_000
    page, watch = open_page(browser, path)
    # Processor time, so that other work on the machine does not count.
    assert 0 < read_seconds(page) < 2
    browse(page, "samples").locator("input").fill("word 1")
    assert browse(page, "samples").locator(".count").inner_text()
    assert read_seconds(page) < 3
    watch.check()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    """DSRL_SCREENSHOTS names a folder for pictures, to be looked at."""
    store = make_store(tmp_path / "runs" / "one", samples=30, items=20)
    other = make_store(tmp_path / "runs" / "a-second-run-with-a-long-name", samples=5, items=20)
    workspace = Workspace(tmp_path / "runs", tmp_path / "cache")
    path = tmp_path / "report.html"
    path.write_text(make_page([collect(store, workspace), collect(other, workspace)]), encoding="utf-8")
    store.close()
    other.close()
    page, watch = open_page(browser, path, width, color_scheme=scheme)
    page.locator("summary").nth(1).click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if folder := os.environ.get("DSRL_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{width}-{scheme}.png", full_page=True)
    watch.check()
