"""A page is one file: nothing in it is loaded from outside, and texts of models stay texts."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dsrl.pipeline.report.data import collect
from dsrl.pipeline.report.page import make_page, write_report
from dsrl.pipeline.workspace import Workspace
from dsrl.storage.attempts import Attempt
from dsrl.storage.evaluations import EvalItem, Evaluation
from dsrl.storage.run_store import RunStore
from dsrl.types import UNREADABLE, Passage, Sample, Score

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> \u202e\u2028\x1b[31m{{ 7*7 }} & ' \" `"


class Elements(HTMLParser):
    """Collects the elements of a page, and the text of its script blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data


def parse(page: str) -> Elements:
    parser = Elements()
    parser.feed(page)
    return parser


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "runs", tmp_path / "cache")


@pytest.fixture
def hostile(workspace: Workspace) -> Iterator[RunStore]:
    """A run in which every text is hostile."""
    store = RunStore(workspace.runs / "trial")
    store.keep_settings({"run": {"name": "trial"}, "task": {"task": "mednli"}, "versions": {"dsrl": HOSTILE}})
    store.keep_inputs({}, {"description": HOSTILE, "output_instruction": HOSTILE, "demos": []})
    store.add_keywords(1, {"": {"d": ["k"]}})
    store.add_passages(1, {"": {"d": [Passage("p", HOSTILE, HOSTILE)]}})
    sample = Sample("1-00000", 1, 0, "initial", HOSTILE, HOSTILE, label=HOSTILE, passage="p", domain="d")
    store.add_samples([sample, Sample("1-00001", 1, 1, "initial", "x", "y", dropped="no_majority")])
    store.add_verdicts([(sample, [HOSTILE, HOSTILE, UNREADABLE])])
    store.add_greedy_attempts([Attempt("1-00000", HOSTILE, HOSTILE, True)])
    store.add_scores([(Score("1-00000", 8, 2, 0.25), {HOSTILE: (2, True), UNREADABLE: (6, False)})])
    store.add_selected(1, ["1-00000"])
    store.replace_items([EvalItem(HOSTILE, HOSTILE)])
    store.add_evaluations(
        [Evaluation("base", 0, HOSTILE, UNREADABLE, False), Evaluation("trained", 0, HOSTILE, HOSTILE, True)]
    )
    store.add_event("warning", HOSTILE, "x-1:y")
    store.add_event("note", HOSTILE + "2")
    yield store
    store.close()


def test_hostile_texts_stay_texts(hostile: RunStore, workspace: Workspace) -> None:
    parser = parse(make_page([collect(hostile, workspace)]))
    tags = {tag for tag, _ in parser.elements}
    assert not tags & {"img", "iframe", "link", "object", "embed", "a", "form", "base"}
    assert len(parser.scripts) == 2
    for tag, attributes in parser.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "href", "style")], tag
    data = json.loads(parser.scripts[0])
    assert data[0]["samples"][0]["input"] == HOSTILE
    assert data[0]["items"][0]["trained"] == HOSTILE


def test_the_policy_allows_only_the_inline_style_and_script(hostile: RunStore, workspace: Workspace) -> None:
    page = make_page([collect(hostile, workspace)])
    (policy,) = [a["content"] or "" for tag, a in parse(page).elements if tag == "meta" and "http-equiv" in a]
    assert policy.startswith("default-src 'none'")
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    for text in (style[1], parse(page).scripts[1]):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_the_numbers_are_those_of_the_result(hostile: RunStore, workspace: Workspace) -> None:
    report = collect(hostile, workspace)
    assert report["verdict"].startswith("No improvement is shown: 100 of 100 test questions")
    assert report["histogram"]["initial"] == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert report["confusion"][0]["unreadable"] == 1
    assert report["labels"] == [(HOSTILE, 1, 1)]
    assert report["agreement"][9] == 1
    assert report["sample_rows"][0]["votes"] == {HOSTILE[:59] + "…": 2, "unreadable": 1}
    page = write_report(hostile, workspace).read_text(encoding="utf-8")
    assert "<dd>100.0%</dd>" in page


def test_labels_that_the_base_model_contradicts_are_listed(hostile: RunStore, workspace: Workspace) -> None:
    sample = Sample("1-00002", 1, 2, "initial", HOSTILE, "o", label="yes", domain="d")
    hostile.add_samples([sample])
    hostile.add_verdicts([(sample, ["yes", "yes"])])
    hostile.add_scores([(Score(sample.id, 8, 0, 1.0), {HOSTILE: (8, False)})])
    report = collect(hostile, workspace)
    (suspect,) = report["suspects"]
    assert (suspect["id"], suspect["rival"], suspect["attempts"]) == (sample.id, HOSTILE, 8)
    page = make_page([report])
    assert "Labels that the base model contradicts" in page
    assert "16 attempts of the base model, 8 at each sample (12% of all L)." in page
    assert not {tag for tag, _ in parse(page).elements} & {"img", "iframe"}


def test_a_run_that_has_nothing_yet(workspace: Workspace) -> None:
    store = RunStore(workspace.runs / "new")
    store.keep_settings({"run": {"name": "new"}, "task": {"task": "mednli"}})
    page = make_page([collect(store, workspace)])
    store.close()
    for text in (
        "not finished",
        "There are no samples yet.",
        "No model was evaluated yet.",
        "There is no training yet.",
    ):
        assert text in page


def test_a_large_run_fits_into_three_megabytes(workspace: Workspace) -> None:
    store = RunStore(workspace.runs / "large")
    store.keep_settings({"run": {"name": "large"}, "task": {"task": "mednli"}})
    text = "word " * 2000
    store.add_samples([Sample(f"1-{n:05}", 1, n, "initial", f"{n} {text}", text) for n in range(5000)])
    report: dict[str, Any] = collect(store, workspace)
    page = make_page([report])
    store.close()
    assert len(report["sample_rows"]) == 2000
    assert len(page.encode()) < 3_000_000
    assert "This page holds 2000 of 5000 samples" in page
