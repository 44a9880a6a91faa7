from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TINY = ("--samples", "16", "--select", "6", "--attempts", "4", "--test-size", "12")


def test_variants_are_trained_from_what_is_stored(dsrl: Any, small: Any) -> None:
    refused = dsrl("ablate", "small")
    assert refused.code == 1
    assert "there is no run 'small'" in refused.err
    result = json.loads(dsrl(*small, *TINY, "--json").out)
    variants = ("--variants", "selection=random,adapt=off", "--variants", "votes=2,votes=9,pattern=off")
    plan = json.loads(dsrl("ablate", "small", *variants, "--seeds", "2", "--plan", "--json").out)
    plans = {each["variant"]: each for each in plan["plans"]}
    assert [each["trainings"] for each in plans.values()] == [1, 2, 2, 2, 2, 2]
    assert plans["adapt=off"]["missing"] == {} == plans["selection=random"]["missing"]
    assert plans["pattern=off"]["missing"] == {}  # the task has no demonstrations, so there was no pattern
    assert plans["votes=9"]["missing"]["verified"] >= 16
    assert "--budget allows them" in plans["votes=9"]["left_out"]
    assert plan["results"] == []

    outcome = dsrl("ablate", "small", *variants, "--seeds", "2", "--json")
    assert outcome.code == 0, outcome.err
    assert "rows without a stored reply: verified" in outcome.err
    ablation = json.loads(outcome.out)
    results = {each["variant"]: each for each in ablation["results"]}
    assert set(results) >= {"as the run", "selection=random", "adapt=off"}
    assert "votes=9" not in results
    assert results["as the run"]["accuracies"][0] == result["trained_accuracy"]
    assert results["as the run"]["seeds"] == [0, 1]
    assert results["as the run"]["difference"] is None
    assert results["adapt=off"]["samples"] == 6
    low, high = results["selection=random"]["interval"]
    assert low <= results["selection=random"]["difference"] <= high
    # What the run itself has spent and stored is as before, and nothing is trained twice.
    shown = json.loads(dsrl("show", "small", "--json").out)
    assert {name: shown[name] for name in result} == result
    again = dsrl("ablate", "small", *variants, "--seeds", "2", "--json")
    assert json.loads(again.out)["results"] == ablation["results"]
    assert "training 1 of" not in again.err
    folders = sorted(path.name for path in Path("runs/small/ablations").iterdir() if path.is_dir())
    assert "adapt-off-seed-1" in folders
    assert not list(Path("runs/small/ablations").glob("*/model"))


def test_a_budget_allows_what_is_not_stored(dsrl: Any, small: Any) -> None:
    assert dsrl(*small, *TINY).code == 0
    outcome = dsrl("ablate", "small", "--variants", "votes=9", "--seeds", "1", "--budget", "0", "--json")
    assert outcome.code == 0, outcome.err
    ablation = json.loads(outcome.out)
    assert [each["variant"] for each in ablation["results"]] == ["as the run", "votes=9"]
    assert ablation["results"][1]["cost_usd"] == 0


def test_a_run_that_is_not_finished_is_refused(dsrl: Any, small: Any) -> None:
    assert dsrl(*small, "--stop-after", "keywords").code == 0
    outcome = dsrl("ablate", "small")
    assert outcome.code == 1
    assert "has no evaluated model yet" in outcome.err
