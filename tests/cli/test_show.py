from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

from dsrl.cli import show


def test_show_tells_the_funnel_the_settings_and_the_notes(dsrl, small):
    dsrl(*small, "--stop-after", "selected")
    output = json.loads(dsrl("show", "small", "--json").out)
    assert output["settings"]["selection"]["select"] == 16
    assert output["samples"]["selected"] == 16
    assert output["base_accuracy"] is None
    assert output["model_path"] is None
    assert sum(output["pass_rates"]["selected"]) == 16
    assert sum(selected for _, _, selected in output["labels"]) == 16
    assert output["held_out"] is None
    text = dsrl("show", "small").out
    for word in ("initial", "verified", "harder / easier", "selected", "teacher", "votes", "90-100%", "entailment"):
        assert word in text
    assert "█" in text


def test_the_definition_of_a_chat_model_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show._print_definition("definition", {"description": "d", "system_prompt": "", "is_chat": True, "demos": []})
    lines = {
        line.split("│")[1].strip(): line.split("│")[2].strip() for line in capsys.readouterr().out.splitlines()[4:8]
    }
    assert lines == {"description": "d", "system prompt": "none", "is chat": "yes", "demonstrations": "0"}


TEACHER = """
from dataclasses import replace
from dsrl import hookimpl
from dsrl.types import Price, Usage
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
    # 25 calls of 2000 tokens each
    teacher_line = f"teacher         {calls} calls, $0.05, and calls of unknown price (bill:odd)"
    assert teacher_line in printed
    with sqlite3.connect(".dsrl/calls.db") as database:
        (run,) = database.execute("SELECT DISTINCT run FROM calls").fetchone()
        database.execute("INSERT INTO holds (run, usd) VALUES (?, 0.0123)", (run,))
    output = dsrl("show", "small").out
    assert teacher_line in output
    assert "and at most $0.012 for calls in flight or with an unknown bill" in output
    table = {row.split()[0]: row.split()[1:] for row in output[output.index("\nspending") :].splitlines()[3:6] if row}
    assert table["write"] == ["bill:listed", "24", "24", "24000", "24000", "$0.048"]
    assert table["solve"][-1] == "unknown"
    priced = dsrl(*command, "--name", "priced", "--price", "odd=1,1", "--seed", "9").out
    assert "unknown" not in priced


SILENT = """
from dataclasses import replace
from dsrl import hookimpl
from dsrl.types import Price
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
        assert "for calls in flight or with an unknown bill" in text
        assert "$0.00" not in text
        assert "price unknown" not in text


def test_lineage_of_a_rewritten_sample_that_was_trained_on(dsrl, small):
    dsrl(*small)
    from pathlib import Path

    from dsrl.storage.run_store import RunStore

    store = RunStore(Path("runs/small"), work=False)
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


def test_hostile_text_is_shown_as_text(dsrl, small):
    """Text from a model is never printed as control sequences or markup."""
    dsrl(*small, "--stop-after", "initial")
    with sqlite3.connect("runs/small/run.db") as database:
        database.execute("UPDATE samples SET input = ? WHERE id = '1-00000'", ("\x1b[2J[red]boo[/red]",))
    out = dsrl("show", "small", "--sample", "1-00000").out
    assert "\x1b[2J" not in out
    assert "[red]boo[/red]" in out


def test_runs_and_show_on_a_disk_that_is_read_only(dsrl, small):
    if os.getuid() != 0:
        pytest.skip("only root may mount a disk")
    dsrl(*small, "--stop-after", "initial")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    home = os.getcwd()
    for args in (["--bind", home, home], ["-o", "remount,bind,ro", home]):
        if subprocess.run(["mount", *args], capture_output=True, check=False).returncode:
            subprocess.run(["umount", home], capture_output=True, check=False)
            pytest.skip("a disk cannot be mounted here")
    try:
        os.chdir(home)  # into what is mounted
        assert not os.access(".", os.W_OK)
        assert [run["run"] for run in json.loads(dsrl("runs", "--json").out)] == ["small"]
        assert json.loads(dsrl("show", "small", "--json").out)["samples"]["initial"] == 24
        refused = dsrl(*small)
        assert refused.code == 1
        assert "cannot be written" in refused.err
    finally:
        os.chdir("/")
        subprocess.run(["umount", home], check=True)
        os.chdir(home)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_a_reply_store_that_is_lost_with_paid_calls_in_it_is_told(dsrl, small, install):
    """Without the reply store, the budget would start again from zero."""
    module = install("teacher", "paying", TEACHER, distribution="payer")
    install("teacher", "bill", "", distribution="biller", value=f"{module}:Paid")
    command = (*small, "--teacher", "bill:listed", "--budget", "1")
    dsrl(*command, "--stop-after", "initial")
    calls = json.loads(dsrl("show", "small", "--json").out)["teacher_calls"]
    store = Path(".dsrl/calls.db")
    content = store.read_bytes()
    for harm in (store.unlink, lambda: store.write_bytes(b"")):
        harm()
        refused = dsrl(*command)
        assert refused.code == 1
        assert ".dsrl/calls.db is " in refused.err
        assert "back" in refused.err
        assert not store.exists() or not store.read_bytes(), "nothing is begun anew"
    store.unlink()
    assert "paid for 24 calls or more, and 0 of them are there" in dsrl(*command).err or calls != 24
    output = json.loads(dsrl("show", "small", "--json").out)
    assert output["cost_usd"] is None
    assert "are not in .dsrl/calls.db, so its cost is not known" in output["notes"][-1]
    dsrl(*command, "--name", "other", "--seed", "3", "--stop-after", "initial")
    assert ".dsrl/calls.db is not the file that it was" in dsrl(*command).err
    for file in Path(".dsrl").glob("calls.db*"):
        file.unlink()
    store.write_bytes(content)
    assert dsrl(*command, "--stop-after", "verified").code == 0
