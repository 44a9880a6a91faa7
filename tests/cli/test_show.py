from __future__ import annotations

import json
import sqlite3


def test_show_tells_the_funnel_the_settings_and_the_notes(dsrl, small):
    dsrl(*small, "--stop-after", "selected")
    shown = json.loads(dsrl("show", "small", "--json").out)
    assert shown["settings"]["selection"]["size"] == 16
    assert shown["samples"]["selected"] == 16
    assert shown["base_accuracy"] is None
    assert shown["model_path"] is None
    text = dsrl("show", "small").out
    for word in ("initial", "verified", "harder / easier", "selected", "teacher", "votes"):
        assert word in text


TEACHER = """
from dataclasses import replace
from dsrl import hookimpl
from dsrl.records import Price, Usage
from dsrl_procedural import ProceduralTeacher


class Paid(ProceduralTeacher):
    @hookimpl
    async def complete(self, request):
        return replace(await super().complete(request), usage=Usage(1000, 1000 * request.n))

    @hookimpl
    def price(self, model):
        return Price(1.0, 1.0) if model == "listed" else None
"""


def test_the_money_of_two_teachers_and_what_is_not_known_of_it(dsrl, small, install):
    module = install("teacher", "paying", TEACHER, distribution="payer")
    install("teacher", "bill", "", distribution="biller", value=f"{module}:Paid")
    command = (*small, "--teacher", "bill:listed", "--solve-teacher", "bill:odd", "--stop-after", "verified")
    printed = dsrl(*command).out
    lines = json.loads(dsrl("show", "small", "--json").out)["spending"]
    assert [(line["purpose"], line["model"]) for line in lines] == [
        ("keywords", "listed"),
        ("write", "listed"),
        ("solve", "odd"),
    ]
    calls = sum(line["calls"] for line in lines)
    said = f"teacher         {calls} calls, $0.05, and calls of unknown price (bill:odd)"  # 25 calls, 2000 tokens each
    assert said in printed
    with sqlite3.connect(".dsrl/calls.db") as database:
        (run,) = database.execute("SELECT DISTINCT run FROM calls").fetchone()
        database.execute("INSERT INTO holds (run, usd) VALUES (?, 0.0123)", (run,))
    shown = dsrl("show", "small").out
    assert said in shown
    assert "and $0.012 at most for calls under way, or whose bill is not known" in shown
    table = {row.split()[0]: row.split()[1:] for row in shown[shown.index("\nspending") :].splitlines()[3:6] if row}
    assert table["write"] == ["bill:listed", "24", "24", "24000", "24000", "$0.048"]
    assert table["solve"][-1] == "unknown"
    priced = dsrl(*command, "--name", "priced", "--price", "odd=1,1", "--seed", "9").out
    assert "unknown" not in priced


SILENT = """
from dataclasses import replace
from dsrl import hookimpl
from dsrl.records import Price
from dsrl_procedural import ProceduralTeacher


class Silent(ProceduralTeacher):
    @hookimpl
    async def complete(self, request):
        return replace(await super().complete(request), usage=None)

    @hookimpl
    def price(self, model):
        return Price(1.0, 1.0)
"""


def test_bills_that_are_not_known_are_neither_free_nor_without_a_price(dsrl, small, install):
    module = install("teacher", "paying", SILENT, distribution="payer")
    install("teacher", "silent", "", distribution="biller", value=f"{module}:Silent")
    outcome = dsrl(*small, "--teacher", "silent", "--stop-after", "initial")
    result = json.loads(dsrl("show", "small", "--json").out)
    calls = result["teacher_calls"]
    assert calls
    assert (result["cost_usd"], result["known_usd"], result["unknown_bills"]) == (None, 0.0, calls)
    assert result["uncertain_usd"] > 0
    for text in (outcome.out, dsrl("show", "small").out):
        assert f"teacher         {calls} calls, bill of {calls} calls not known" in text
        assert "at most for calls under way, or whose bill is not known" in text
        assert "$0.00" not in text
        assert "price unknown" not in text


def test_lineage_of_a_rewritten_sample_that_was_trained_on(dsrl, small):
    dsrl(*small)
    from pathlib import Path

    from dsrl.store import Store

    store = Store(Path("runs/small"), work=False)
    id = next(id for id in store.selected(1) if id[-1] in "he")
    store.close()
    found = json.loads(dsrl("show", "small", "--sample", id, "--json").out)
    assert found["parent"] == id[:-1]
    assert found["kind"] == {"h": "harder", "e": "easier"}[id[-1]]
    assert 3 <= sum(found["votes"].values()) <= 5, "as many as it took"
    assert found["votes"][found["label"]] == max(found["votes"].values())
    assert sum(a["times"] for a in found["attempts"]) == found["score"]["attempts"] == 8
    assert sum(a["times"] for a in found["attempts"] if a["right"]) == found["score"]["passed"]
    assert 1 <= found["selected"] <= 16
    assert len(found["rewards"]) == 1
    parent = json.loads(dsrl("show", "small", "--sample", found["parent"], "--json").out)
    assert parent["rewritten_as"] == [id]
    assert parent["greedy"]["solved"] == (id[-1] == "h")
    assert parent["passage"]["text"]
    assert parent["keywords"]
    assert id in dsrl("show", "small", "--sample", id).out


def test_runs_lists_what_is_there(dsrl, small):
    assert json.loads(dsrl("runs", "--json").out) == []
    assert "no runs" in dsrl("runs").err
    dsrl(*small, "--stop-after", "initial")
    assert [run["run"] for run in json.loads(dsrl("runs", "--json").out)] == ["small"]
    assert "small" in dsrl("runs").out


def test_hostile_text_is_shown_as_text(dsrl, small):
    """A model's words never reach the terminal as control sequences or markup."""
    dsrl(*small, "--stop-after", "initial")
    with sqlite3.connect("runs/small/run.db") as database:
        database.execute("UPDATE samples SET input = ? WHERE id = '1-00000'", ("\x1b[2J[red]boo[/red]",))
    out = dsrl("show", "small", "--sample", "1-00000").out
    assert "\x1b[2J" not in out
    assert "[red]boo[/red]" in out
