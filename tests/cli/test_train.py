from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TINY = ("--select", "6", "--test-size", "12", "--epochs", "1", "--batch-size", "3", "--group-size", "4")


def test_real_items_are_trained_on_and_compared(dsrl: Any, small: Any) -> None:
    run = ("--samples", "16", "--attempts", "4", *TINY)
    assert dsrl(*small, *run).code == 0
    rows = json.loads(dsrl("samples", "small", "--limit", "8", "--json").out)
    items = [{"input": f"{row['input']} ({n})", "output": row["output"]} for n, row in enumerate(rows)]
    Path("train.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))

    command = ("train", "--task", "mednli", "--data", "train.jsonl", "--name", "human", "--trainer", "sft", *TINY)
    outcome = dsrl(*command, "--repeats", "2", "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    repeated = result.pop("repeated")
    assert repeated["seeds"] == [0, 1]
    assert repeated["accuracies"][0] == result["trained_accuracy"]
    assert repeated["samples"] == 6
    assert result["teacher_calls"] == 0
    assert result["samples"]["selected"] == 6
    assert result["n_test"] == 12
    metrics = [json.loads(line) for line in Path("runs/human/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics] == [1, 2]
    assert "loss" in metrics[0]
    assert "reward" not in metrics[0]
    # The same command has nothing left to do, and other data make another run.
    assert json.loads(dsrl(*command, "--json").out)["trained_accuracy"] == result["trained_accuracy"]
    Path("train.jsonl").write_text(json.dumps(items[0]) + "\n")
    outcome = dsrl(*command)
    assert outcome.code == 2
    assert "has other samples" in outcome.err

    outcome = dsrl("eval", "small", "--teacher")
    assert "of 12 answers to test items" in outcome.out
    answered = json.loads(dsrl("eval", "small", "--teacher", "--json").out)
    assert answered["teacher_answers"] == 12
    comparison = json.loads(dsrl("compare", "small", "human", "--json").out)
    assert [run["teacher_accuracy"] for run in comparison["runs"]] == [answered["teacher_accuracy"], None]
    pairs = {(each["first"], each["second"]) for each in comparison["differences"]}
    assert ("human", "teacher of small") in pairs


def test_items_without_an_answer_are_refused(dsrl: Any) -> None:
    Path("train.jsonl").write_text(json.dumps({"input": "a", "output": "nothing"}) + "\n")
    outcome = dsrl("train", "--task", "mednli", "--data", "train.jsonl", "--name", "human", *TINY)
    assert outcome.code == 1
    assert "item 1 of train.jsonl: no answer can be read" in outcome.err
    assert "does not exist" in dsrl("train", "--task", "mednli", "--data", "no.jsonl", "--name", "other", *TINY).err
