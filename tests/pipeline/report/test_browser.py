"""The report in a real browser, headless Chromium (`make test-report`). Every request but that of the file is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dsrl.pipeline.report.data import collect
from dsrl.pipeline.report.page import compare, make_page, write_report
from dsrl.pipeline.report.server import ReportServer
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


def open_page(browser: Any, place: Path | str, width: int = 900, **options: Any) -> tuple[Any, Watch]:
    """Open a file, or an address of the report's server; no other address is allowed."""
    url = place if isinstance(place, str) else place.absolute().as_uri()
    watch = Watch()
    page = browser.new_page(viewport={"width": width, "height": 900}, **options)

    def refuse(route: Any) -> None:
        # The server has several pages, and Chromium asks each server for an icon.
        is_served = isinstance(place, str) and route.request.url.startswith(url.rpartition("/")[0])
        if route.request.url == url or (is_served and not route.request.url.endswith("/favicon.ico")):
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
    page.goto(url)
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
    browse(page, "samples").locator("input").fill("word")
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
    stores = {"one": store, "a-second-run-with-a-long-name": other}
    reports = [collect(each, workspace) for each in stores.values()]
    path.write_text(make_page(reports, compare(stores, workspace)), encoding="utf-8")
    store.close()
    other.close()
    page, watch = open_page(browser, path, width, color_scheme=scheme)
    page.locator("summary").nth(1).click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if folder := os.environ.get("DSRL_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{width}-{scheme}.png", full_page=True)
    watch.check()


def test_several_runs_are_compared(browser: Any, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "runs", tmp_path / "cache")
    stores = {name: make_store(workspace.runs / name, samples=3, items=n) for name, n in (("a", 40), ("b", 0))}
    stores["b"].replace_items(stores["a"].items())
    for model in ("base", "trained"):
        stores["b"].add_evaluations([Evaluation(model, n, "t", "yes", True) for n in range(40)])
    comparison = compare(stores, workspace)
    assert not isinstance(comparison, str | None)
    path = tmp_path / "both.html"
    path.write_text(make_page([collect(each, workspace) for each in stores.values()], comparison), encoding="utf-8")
    page, watch = open_page(browser, path)
    rows = page.locator(".runs table").nth(1).locator("tbody tr").all()
    (difference,) = comparison.differences
    assert [row.locator("td").all_inner_texts()[:4] for row in rows] == [
        ["b", "a", "+50.0", f"{difference.interval[0] * 100:+.1f} to {difference.interval[1] * 100:+.1f}"]
    ]
    assert page.locator("main").count() == 2
    watch.check()
    stores["b"].replace_items([EvalItem("another", "yes")] * 40)
    path.write_text(make_page([collect(each, workspace) for each in stores.values()], compare(stores, workspace)))
    page.reload()
    assert "the first that differs, in its input, is item 0" in page.locator(".runs .warning").inner_text()
    for store in stores.values():
        store.close()


def test_the_served_page_follows_a_run_and_keeps_what_the_reader_chose(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsrl.pipeline.report.server.RELOAD_SECONDS", 1)
    workspace = Workspace(tmp_path / "runs", tmp_path / "cache")
    store = RunStore(workspace.runs / "growing")
    store.keep_settings({"run": {"name": "growing"}, "task": {"task": "mednli"}})
    add_samples(store, range(60))
    make_store(workspace.runs / "second-run", samples=2, items=4).close()
    with ReportServer(workspace, ["growing"], 0) as server:
        page, watch = open_page(browser, server.url)
        assert "The run is not finished" in page.locator(".verdict").inner_text()
        samples = browse(page, "samples")
        samples.locator("input").fill("number 5")  # 5 and 50 to 59
        samples.locator("summary").first.click()
        assert samples.locator(".count").inner_text() == "11 of 60, 11 shown"
        add_samples(store, range(60, 70))
        store.close()
        samples.locator(".count", has_text="11 of 70").wait_for(timeout=30_000)
        assert samples.locator("input").input_value() == "number 5"
        assert samples.locator("details").first.get_attribute("open") is not None
        page.get_by_role("link", name="second-run").click()
        page.locator("h1", has_text="second-run").wait_for(timeout=30_000)
        assert page.locator("body").get_attribute("data-reload") is None  # it is finished
        watch.requests = [url for url in watch.requests if not url.endswith("/favicon.ico")]
        watch.messages = [text for text in watch.messages if "ERR_FAILED" not in text]  # of the icon
        watch.check()


def add_samples(store: RunStore, numbers: Iterable[int]) -> None:
    store.add_samples([Sample(f"1-{n:05}", 1, n, "initial", f"number {n}", "output") for n in numbers])


def test_the_page_prints_on_paper(browser: Any, tmp_path: Path) -> None:
    """DSRL_SCREENSHOTS names a folder for the PDF, to be looked at."""
    store = make_store(tmp_path / "runs" / "one", samples=30, items=20)
    page, watch = open_page(browser, write_report(store, Workspace(tmp_path / "runs", tmp_path / "cache")))
    store.close()
    page.emulate_media(media="print")
    assert not page.locator(".tools").first.is_visible()
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 12
    if folder := os.environ.get("DSRL_SCREENSHOTS"):
        Path(folder, "print.pdf").write_bytes(pdf)
        page.screenshot(path=Path(folder) / "print.png", full_page=True)
    watch.check()
