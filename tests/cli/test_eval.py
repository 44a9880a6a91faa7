"""A test set can come later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NO_TEST_SET = """
from dsrl_tasks.mednli import (
    answer_format, description, input_instruction, output_instruction, procedural_sample, procedural_solve
)
"""


def test_a_run_without_a_test_set_ends_well_and_is_evaluated_later(dsrl: Any, small: Any, install: Any) -> None:
    install("task", "unlabelled", NO_TEST_SET)
    flags = ["unlabelled" if flag == "mednli" else flag for flag in small]
    flags += ["--force", "--max-completion-tokens", "24"]
    outcome = dsrl(*flags, "--json")
    assert outcome.code == 0, outcome.err
    note = "not evaluated: the task unlabelled has no test set. Give one with --dataset-path"
    assert note in " ".join(outcome.err.split())
    result = json.loads(outcome.out)
    assert (result["n_test"], result["trained_accuracy"]) == (0, None)
    assert Path(result["model_path"], "README.md").read_text().count("Not evaluated") == 1
    assert "not evaluated   give a test set" in dsrl("show", "small").out

    rows = json.loads(dsrl("samples", "small", "--selected", "--limit", "6", "--json").out)
    text = "".join(json.dumps({"input": row["input"], "output": row["label"]}) + "\n" for row in rows)
    Path("labelled.jsonl").write_text(text)
    outcome = dsrl("eval", "small", "--dataset-path", "labelled.jsonl", "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert result["n_test"] == 6
    assert result["trained_accuracy"] is not None
    assert dsrl("eval", "small", "--dataset-path", "missing.jsonl").code == 1


def test_a_run_that_is_not_trained_cannot_be_evaluated(dsrl: Any, small: Any) -> None:
    assert dsrl(*small, "--stop-after", "keywords").code == 0
    outcome = dsrl("eval", "small", "--dataset-path", "x.jsonl")
    assert outcome.code == 1
    assert "has no trained model yet" in outcome.err


def test_any_model_is_evaluated_on_a_task_without_a_run(dsrl: Any) -> None:
    outcome = dsrl("eval", "--task", "mednli", "--test-size", "20", "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert (result["task"], result["model"], result["n_test"]) == ("mednli", "tiny", 20)
    assert result["ci95"][0] <= result["accuracy"] <= result["ci95"][1]
    assert not Path("runs").exists(), "nothing is stored"
    Path("items.csv").write_text("note,finding\nPremise: She denies fever. Hypothesis: She has fever.,contradiction\n")
    columns = ("--dataset-path", "items.csv", "--input-column", "note", "--output-column", "finding")
    assert "of 1 items" in dsrl("eval", "--task", "mednli", *columns).out


def test_what_eval_cannot_do_is_refused(dsrl: Any, small: Any) -> None:
    words = ("--task-instruction", "Is it late?", "--answer", "choice:yes,no")
    assert "has no test set of its own" in dsrl("eval", *words).err
    assert dsrl("eval").code == 2
    assert dsrl(*small, "--stop-after", "keywords").code == 0
    outcome = dsrl("eval", "small", "--base-model", "other", "--dataset-path", "f.csv")
    assert "--base-model is a setting of the run small already" in " ".join(outcome.err.split())
    judged = dsrl("eval", "--task", "mednli", "--rubric", "Be kind.")
    assert judged.code == 2, "eval has no --rubric"


def test_the_model_of_an_evaluation_is_the_base_model(dsrl: Any) -> None:
    assert "Did you mean '--base-model'?" in dsrl("eval", "--task", "mednli", "--model", "tiny").err
    assert "here it is --teacher" in dsrl("run", "--task", "mednli", "--model", "tiny").err
    assert dsrl("run", "--taks", "mednli").err.endswith("Did you mean '--task'?\n")
