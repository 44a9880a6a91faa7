"""A training that is evaluated while it runs, from the command to what `dsrl show` says of it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

#: A fake trainer that learns its items by heart: the reward rises and the accuracy falls. It copies its model.
BY_HEART = """
import logging, shutil
from dsrl import hookimpl
from dsrl.types import TrainStep

log = logging.getLogger(__name__)

@hookimpl
def train(job, on_step):
    assert not {item.id for item in job.items} & {item.id for item in job.dev_items}
    assert job.eval_every == (2 if job.dev_items else 0)
    log.warning("all answers of step 1 are alike")
    for number in range(1, 9):
        metrics = {"reward": number / 10}
        if job.dev_items and number % job.eval_every == 0:
            metrics["dev_accuracy"] = 1 - number / 10
        if number == 8 and job.dev_items:
            metrics["best_step"] = 2
        rewards = {item.id: number / 10 + i / 1000 for i, item in enumerate(job.items[:4])}
        on_step(TrainStep(number, 8, number / 8, metrics, rewards))
    shutil.copytree(job.model, job.output_dir, dirs_exist_ok=True)
"""
RUN = (
    "run --task mednli --name small --samples 60 --select 40 --attempts 4 --votes 2 --epochs 1 --test-size 4 --trainer heart"
).split()


def test_the_samples_that_are_held_out_are_counted_and_the_alarm_is_told_and_kept(dsrl, install):
    install("trainer", "heart", BY_HEART)
    outcome = dsrl(*RUN, "--eval-every", "2", "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    held_out = result["samples"]["held_out"]
    tenth = result["samples"]["scored"] // 10
    assert tenth <= held_out <= tenth + 1, "a sample and the one rewritten from it go together"
    assert outcome.err.count("all answers of step 1 are alike") == 1
    assert "note: all answers of step 1 are alike" in outcome.err
    assert f"{held_out} development items" in outcome.err
    assert ", the model of step 2 (accuracy 80.0% on the development items)" in outcome.err
    alarm = next(text for text in result["warnings"] if "the accuracy on the" in text)
    assert outcome.err.count(f"note: {alarm}") == 1
    assert "all answers of step 1 are alike" in result["warnings"]
    with closing(sqlite3.connect("runs/small/run.db")) as database:
        rows = database.execute("SELECT sample FROM dev_items ORDER BY place").fetchall()
        assert len(rows) == held_out
        assert database.execute("SELECT 1 FROM dev_items d JOIN selected s ON s.sample = d.sample").fetchall() == []
    shown = dsrl("show", "small")
    assert "held out" in shown.out
    assert shown.out.count("all answers of step 1 are alike") == 1
    as_json = json.loads(dsrl("show", "small", "--json").out)
    assert as_json["warnings"] == result["warnings"]
    assert (as_json["held_out"]["items"], as_json["held_out"]["accuracy"]) == (held_out, 0.8)
    assert f"{held_out} samples of the teacher (no test set)" in shown.out
    again = dsrl(*RUN, "--eval-every", "2", "--json")
    assert json.loads(again.out)["samples"]["held_out"] == held_out
    assert "the accuracy on the" not in again.err


def test_without_the_option_nothing_is_held_out(dsrl, install):
    install("trainer", "heart", BY_HEART)
    outcome = dsrl(*RUN, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["samples"]["held_out"] == 0
    assert "held out" not in dsrl("show", "small").out


def test_a_trainer_that_does_not_evaluate_is_told(dsrl, install):
    source = BY_HEART.replace("if job.dev_items and number", "if False and number")
    install("trainer", "heart", source.replace("if number == 8 and job.dev_items", "if False"))
    outcome = dsrl(*RUN, "--eval-every", "2")
    assert outcome.code == 0, outcome.err
    assert (
        "note: the trainer 'heart' has not evaluated the model while it trained, so its last model is kept"
        in outcome.err
    )


def test_a_model_that_solves_nothing_is_not_trained_without_force(dsrl, install):
    install("trainer", "heart", BY_HEART)
    Path("never.py").write_text(
        "from dsrl import hookimpl\n@hookimpl(specname='eval')\ndef judge(prediction, label, input):\n    return False\n"
    )
    outcome = dsrl(*RUN, "--override", "never.py", "--votes", "0")
    assert outcome.code == 1
    assert "Error: no sample was solved in 4 attempts: take another --base-model; --force goes on." in outcome.err
    assert not Path("runs/small/model").exists()
    outcome = dsrl(*RUN, "--override", "never.py", "--votes", "0", "--force")
    assert outcome.code == 0, outcome.err
    assert "warning: no sample was solved in 4 attempts" in outcome.out


LEASE = """
from dsrl import AnswerFormat, Example, hookimpl
from dsrl.types import Solved

@hookimpl
def description(): return "Is it a lease?"
@hookimpl
def answer_format(): return AnswerFormat("tag", choices=("yes", "no"))
@hookimpl
def load_dataset(path, split): return [Example("Is it?", "yes")]
@hookimpl
def procedural_sample(seed, difficulty, passage): return Example(f"Is it {seed}?", "<answer>yes</answer>")
@hookimpl
def procedural_solve(input): return Solved("<answer>yes</answer>", 1)
"""


def test_a_model_for_other_tasks_is_refused_before_a_paid_teacher_is_asked(dsrl, install, server, monkeypatch):
    pytest.importorskip("openai")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proj-planted0123456789abcdefghij")
    install("task", "lease", LEASE)
    args = ["run", "--task", "lease", "--samples", "2", "--teacher", "openai:m", "--teacher-option"]
    outcome = dsrl(*args, f"base_url={server.url}")
    assert outcome.code == 2
    assert "the base model 'tiny' was trained for mednli, gsm8k, math, text2sql, logiqa only" in outcome.err
    assert "but the teacher openai:m may cost money. Give another --base-model; --force goes on" in outcome.err
    assert not server.calls
    assert not Path("runs").exists()


def test_a_model_for_other_tasks_is_told_if_the_teacher_is_free(dsrl, install):
    install("task", "lease", LEASE)
    outcome = dsrl("run", "--task", "lease", "--samples", "2", "--votes", "0", "--stop-after", "attempted")
    assert outcome.code == 0, outcome.err
    assert (
        outcome.err.count(
            "note: the base model 'tiny' was trained for mednli, gsm8k, math, text2sql, logiqa only, and will hardly solve"
        )
        == 1
    )
