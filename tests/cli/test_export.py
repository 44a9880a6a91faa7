from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def test_each_format_holds_the_training_set(dsrl: Any, small: Any) -> None:
    assert dsrl(*small, "--stop-after", "selected").code == 0
    selected = json.loads(dsrl("samples", "small", "--selected", "--limit", "0", "--json").out)
    ids = [row["id"] for row in selected]

    outcome = dsrl("export", "small", "--format", "csv", "--json")
    assert json.loads(outcome.out) == {"path": "small-csv.csv", "rows": 16, "left_out": 0, "reason": ""}
    with open("small-csv.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["id"] for row in table] == ids
    assert [row["label"] for row in table] == [row["label"] for row in selected]

    assert dsrl("export", "small", "--format", "trl", "--out", "grpo.jsonl").out == "16 samples in grpo.jsonl\n"
    lines = [json.loads(line) for line in Path("grpo.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ids
    (turn,) = lines[0]["prompt"]
    assert turn["role"] == "user"
    assert turn["content"].startswith(selected[0]["input"])
    assert turn["content"].endswith("entailment, neutral or contradiction.")

    outcome = dsrl("export", "small", "--format", "sft", "--all")
    lines = [json.loads(line) for line in Path("small-sft.jsonl").read_text().splitlines()]
    scored = json.loads(dsrl("show", "small", "--json").out)["samples"]["scored"]
    assert 0 < len(lines) <= scored
    assert ("left out" in outcome.err) == (len(lines) < scored)
    assert all(line["messages"][-1]["role"] == "assistant" for line in lines)
    assert all(f"<answer> {line['label']} </answer>" in line["messages"][-1]["content"] for line in lines)

    dsrl("export", "small", "--format", "verl")
    parquet = pq.read_table("small-verl.parquet").to_pylist()
    assert [row["reward_model"]["ground_truth"] for row in parquet] == [row["label"] for row in selected]

    dsrl("export", "small", "--format", "hf", "--out", "folder")
    from datasets import load_from_disk

    assert load_from_disk("folder")["train"]["id"][:] == ids

    outcome = dsrl("export", "small", "--format", "csv")
    assert outcome.code == 1
    assert "small-csv.csv exists; name another file with --out" in outcome.err


def test_a_run_without_a_training_set(dsrl: Any, small: Any) -> None:
    dsrl(*small, "--stop-after", "verified")
    outcome = dsrl("export", "small", "--format", "csv")
    assert outcome.code == 1
    assert "has no training set yet; --all writes all samples with a label" in outcome.err
    assert dsrl("export", "small", "--format", "csv", "--all").code == 0
