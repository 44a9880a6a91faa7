from __future__ import annotations

import json
from typing import Any


def test_samples_are_listed_and_filtered(dsrl: Any, small: Any) -> None:
    assert dsrl(*small, "--stop-after", "selected").code == 0
    rows = json.loads(dsrl("samples", "small", "--limit", "0", "--json").out)
    counts = json.loads(dsrl("show", "small", "--json").out)["samples"]
    assert len(rows) == 24 + sum(row["kind"] != "initial" for row in rows)
    assert sum(row["score"] is not None for row in rows) == counts["scored"]
    assert sum(row["is_solved"] is True for row in rows) == counts["solved"]
    dropped = json.loads(dsrl("samples", "small", "--dropped", "--limit", "0", "--json").out)
    assert dropped == [row for row in rows if row["dropped"]]
    selected = json.loads(dsrl("samples", "small", "--selected", "--limit", "0", "--json").out)
    assert [row["place"] for row in selected] == list(range(1, 17))
    assert [row["score"] for row in selected] == sorted(row["score"] for row in selected)
    harder = json.loads(dsrl("samples", "small", "--kind", "harder", "--limit", "0", "--json").out)
    assert {row["kind"] for row in harder} == {"harder"}
    suspects = json.loads(dsrl("samples", "small", "--suspect", "--limit", "0", "--json").out)
    by_id = {row["id"]: row for row in rows}
    for suspect in suspects:
        row = by_id[suspect["id"]]
        assert suspect["label_votes"] == row["agreement"]
        assert suspect["label_attempts"] == row["passed"] / row["attempts"]
        assert suspect["rival_attempts"] + suspect["rival_votes"] >= suspect["label_attempts"] + suspect["label_votes"]
    assert dsrl("samples", "small", "--suspect", "--dropped").err.startswith("No label of run 'small' is suspected")
    outcome = dsrl("samples", "small", "--limit", "3")
    assert outcome.out.count("\n1-000") + outcome.out.startswith("1-000") == 3
    assert f"3 of {len(rows)} samples; --limit 0 shows all." in outcome.err


def test_a_run_that_does_not_exist(dsrl: Any) -> None:
    for command in ("samples", "items"):
        outcome = dsrl(command, "nothing")
        assert outcome.code == 1
        assert "there is no run 'nothing'" in outcome.err
