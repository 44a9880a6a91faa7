from __future__ import annotations

import json


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
    import sqlite3

    with sqlite3.connect("runs/small/run.db") as database:
        database.execute("UPDATE samples SET input = ? WHERE id = '1-00000'", ("\x1b[2J[red]boo[/red]",))
    out = dsrl("show", "small", "--sample", "1-00000").out
    assert "\x1b[2J" not in out
    assert "[red]boo[/red]" in out
