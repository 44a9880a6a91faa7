"""Runs of judged tasks by the command line: on the embedded defaults, with a paid judge, killed, and out of money."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from dsrl import PluginRef, load
from dsrl.testing.fault_server import FaultServer

RUBRIC = ("--rubric", "The answer must follow from the premise.")
SMALL = (
    "run --task mednli --name judged --samples 16 --select 12 --attempts 4 --votes 2 --epochs 2 --batch-size 4 "
    "--group-size 4 --test-size 10 --trainer-option checkpoint_seconds=0"
).split()

#: A call costs 0.2 dollars, as much as it can cost at most.
PAID = """
from dataclasses import replace
from dsrl import hookimpl
from dsrl.types import Price, Usage
from dsrl_procedural import ProceduralTeacher


class Paid(ProceduralTeacher):
    @hookimpl
    async def complete(self, request):
        given = await super().complete(request)
        return replace(given, usage=Usage(100, 200 * request.n))

    @hookimpl
    def price(self, model):
        return Price(0.0, 1000.0)

"""
#: Kills its process after the second step, once.
KILLED = """
import os
import signal
from pathlib import Path
from dsrl import hookimpl
from dsrl_transformers.grpo import GRPOTrainer


class Killed(GRPOTrainer):
    @hookimpl
    def train(self, job, task, on_step):
        def report(step):
            on_step(step)
            if step.step == 2 and not Path("killed").exists():
                Path("killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)

        super().train(job, task, report)
"""
#: Knows nothing of judges; the second says that it does, and hands the task to a worker process.
OLD = """
import pickle
from dsrl import hookimpl

class Old:
    @hookimpl
    def train(self, job, task, on_step):
        task.hook.reward(output="", label="", input="")

class Careless(Old):
    @hookimpl
    def takes_judged_tasks(self):
        return True

class Parallel(Careless):
    @hookimpl
    def train(self, job, task, on_step):
        pickle.dumps(task)
"""


def query(sql: str) -> list[tuple[Any, ...]]:
    database = sqlite3.connect(".dsrl/calls.db")
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


def count_steps() -> int:
    return len(Path("runs/judged/metrics.jsonl").read_text().splitlines())


# --- whole runs ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_judged_run_on_the_embedded_defaults(dsrl: Any) -> None:
    command = (*SMALL, "--samples", "96", "--eval-every", "2")
    outcome = dsrl(*command, *RUBRIC, "--json")
    assert outcome.code == 0, outcome.err
    judged = json.loads(outcome.out)
    purposes = {line["purpose"]: line["calls"] for line in judged["spending"]}
    assert "solve" not in purposes, "a judged sample gets no votes"
    assert purposes["judge"] > 96
    assert judged["cost_usd"] == 0
    assert judged["samples"]["dropped"]["rejected_by_judge"] > 0, "the teacher slips"
    assert not any("judge" in text for text in judged["warnings"])
    steps = [json.loads(line) for line in Path("runs/judged/metrics.jsonl").read_text().splitlines()]
    assert all(step["reward/judge"] == pytest.approx(step["reward"]) for step in steps)
    assert any("dev_accuracy" in step for step in steps)

    rules = json.loads(dsrl(*command, "--name", "rules", "--stop-after", "scored", "--json").out)
    assert rules["samples"]["initial"] == judged["samples"]["initial"]
    evaluated = json.loads(dsrl(*command, "--name", "rules", "--json").out)
    assert evaluated["base_accuracy"] == judged["base_accuracy"], "this judge judges by the same rules"

    shown = dsrl("show", "judged").out
    for words in ("rubric", "The answer must follow from the premise.", "judge", "procedural", "rejected by judge"):
        assert words in shown
    again = json.loads(dsrl(*command, *RUBRIC, "--json").out)
    assert again["teacher_calls"] == judged["teacher_calls"], "nothing is asked twice"
    outcome = dsrl(*command, "--rubric", "Another one.")
    assert outcome.code == 2
    assert "was started with other settings (--rubric: 'The answer must follow" in outcome.err


@pytest.mark.slow
def test_one_judged_task_of_two(dsrl: Any) -> None:
    command = (*SMALL, "--task", "gsm8k", "--rubric", "mednli=It must follow.", "--json")
    outcome = dsrl(*command)
    assert outcome.code == 0, outcome.err
    purposes = {line["purpose"] for line in json.loads(outcome.out)["spending"]}
    assert {"solve", "judge"} <= purposes
    definition = json.loads(dsrl("show", "judged", "--json").out)["definition"]["tasks"]
    assert definition["mednli"]["rubric"] == "It must follow."
    assert "rubric" not in definition["gsm8k"]


@pytest.mark.slow
def test_a_training_that_runs_out_of_money_goes_on_with_more(dsrl: Any, install: Any) -> None:
    module = install("teacher", "paying", PAID, distribution="payer")
    install("teacher", "bill", "", distribution="biller", value=f"{module}:Paid")
    # At this temperature, most answers of the training are new and must be judged.
    command = (*SMALL, *RUBRIC, "--judge-teacher", "bill", "--teacher-max-tokens", "200", "--train-temperature", "3")
    command = (*command, "--json")
    selected = json.loads(dsrl(*command, "--stop-after", "selected").out)
    spent = selected["cost_usd"]
    assert {line["teacher"] for line in selected["spending"] if line["purpose"] == "judge"} == {"bill"}
    assert spent > 0

    outcome = dsrl(*command, "--budget", spent + 0.7)
    assert outcome.code == 1, "it pays for three judgements"
    assert "is reached" in outcome.err
    assert "The same command with a larger --budget continues from here" in " ".join(outcome.err.split())
    done = count_steps() if Path("runs/judged/metrics.jsonl").exists() else 0
    assert done < 6

    assert json.loads(dsrl("show", "judged", "--json").out)["cost_usd"] == pytest.approx(spent + 0.6)
    whole = json.loads(dsrl(*command, "--budget", 500).out)
    assert whole["trained_accuracy"] is not None
    assert count_steps() == 6
    ((requested,),), ((stored,),) = query("SELECT sum(replies) FROM calls"), query("SELECT count(*) FROM replies")
    assert requested == stored, "nothing is paid twice"
    assert whole["cost_usd"] > spent + 0.6


@pytest.mark.slow
def test_a_kill_in_a_judged_training_pays_nothing_twice(
    command: Sequence[str], server: FaultServer, install: Any, tmp_path: Path
) -> None:
    write = server.text

    def answer(body: Any) -> str | None:
        if "addresses_judge" not in json.dumps(body):
            return write(body)
        item = body["messages"][-1]["content"]
        points = 9 if json.loads(item)["reference"] is None else crc32(item.encode()) % 11
        return json.dumps({"reason": "r", "addresses_judge": False, "score": points})

    server.text = answer
    module = install("trainer", "unused", KILLED, distribution="killed-trainer")
    install("trainer", "killed", "", distribution="killed", value=f"{module}:Killed")
    sites = [path for path in sys.path if path.startswith(str(tmp_path))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sites, os.environ.get("PYTHONPATH", "")])}
    whole = [
        sys.executable,
        "-m",
        "dsrl",
        *command,
        *RUBRIC,
        "--trainer",
        "killed",
        "--force",
        "--epochs",
        "4",
        "--json",
    ]

    def start() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            whole, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
        )

    killed = start()
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = len(server.requests)
    finished = start()
    assert finished.returncode == 0, finished.stderr
    judgements = Counter(
        json.dumps(body["messages"]) for _, _, body in server.requests if "addresses_judge" in json.dumps(body)
    )
    assert len(judgements) > 8
    assert set(judgements.values()) == {1}
    assert len(server.requests) > before, "the training went on"
    assert len((tmp_path / "runs/checked/metrics.jsonl").read_text().splitlines()) == 4


# --- what is refused -------------------------------------------------------------------------------------------------


def test_what_is_wrong_with_a_judge_is_told_before_anybody_is_paid(refused: Any) -> None:
    refused("--rubric", " ", words=["--rubric has no words"], code=2)
    judge = ("--judge-teacher", "openai:gpt-4o-mini", "--price", "gpt-4o=1,1", "--budget", "1")
    refused(*RUBRIC, *judge, words=["the price of 'gpt-4o-mini' is not known, so --budget cannot be kept"])
    judge = (*judge, "--price", "gpt-4o-mini=1000,1000")
    refused(*RUBRIC, *judge, words=["--budget 1 is not enough for the first call", "openai:gpt-4o-mini"], code=2)
    refused(*RUBRIC, "--judge-teacher", "nobody", words=["nobody"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Old", "cannot train on the judged task mednli: it does not say (with its hook takes_judged_tasks)"),
        ("Careless", "the trainer reads task.hook in a run with a judged task (mednli)"),
        ("Parallel", "hands the judged task mednli to a worker process, which cannot reach the ledger"),
    ],
)
def test_no_trainer_can_use_the_rules_of_a_judged_task(dsrl: Any, install: Any, name: str, words: str) -> None:
    module = install("trainer", "unused", OLD, distribution="old-trainer")
    install("trainer", "old", "", distribution="old", value=f"{module}:{name}")
    outcome = dsrl(*SMALL[:-2], *RUBRIC, "--trainer", "old")
    assert outcome.code != 0
    assert words in " ".join(outcome.err.split())
    assert Path("runs/judged/run.db").exists() == (name != "Old"), "it is refused at the start"


def test_a_rubric_that_is_edited_under_the_same_name_is_refused(dsrl: Any) -> None:
    def write(rubric: str) -> None:
        Path("mine.py").write_text(f"from dsrl import hookimpl\n\n@hookimpl\ndef rubric():\n    return {rubric!r}\n")
        stamp = Path("mine.py").stat().st_mtime_ns + 10**9 * len(rubric)
        os.utime("mine.py", ns=(stamp, stamp))  # Python keeps compiled modules by time in seconds

    command = (*SMALL, "--override", "mine.py", "--stop-after", "verified")
    write("It must follow.")
    assert dsrl(*command).code == 0
    write("It must rhyme and follow.")
    outcome = dsrl(*command)
    assert outcome.code == 2
    assert "cannot continue: the rubric has changed since this run began" in " ".join(outcome.err.split())


# --- plan, check, export ---------------------------------------------------------------------------------------------


def test_the_plan_has_the_judgements(dsrl: Any, server: FaultServer) -> None:
    judge = ("--judge-teacher", "openai:gpt-4o", "--judge-teacher-option", f"base_url={server.url}")
    outcome = dsrl("plan", *SMALL[1:], *RUBRIC, *judge, "--price", "gpt-4o=2.5,10", "--json")
    assert outcome.code == 0, outcome.err
    stages = {stage["stage"]: stage for stage in json.loads(outcome.out)["stages"]}
    assert {"verified, judge", "attempted, judge", "scored, judge", "trained, judge", "evaluated, judge"} < set(stages)
    assert "verified" not in stages
    assert stages["scored, judge"]["teacher"] == "openai:gpt-4o"
    assert stages["scored, judge"]["dollars"]["expected"] > 0
    assert stages["evaluated, judge"]["calls"]["high"] == 20
    text = dsrl("plan", *SMALL[1:], *RUBRIC).out
    assert "trained, judge" in text


@pytest.mark.slow
def test_a_judge_is_compared_with_labels(dsrl: Any) -> None:
    task = load(PluginRef("task", "mednli"), "task")
    samples = [task.hook.procedural_sample(seed=seed, difficulty=1, passage="") for seed in range(20)]
    rows = [{"input": sample.input, "output": sample.output, "right": True} for sample in samples]
    rows += [{"input": sample.input, "output": "I do not know.", "score": 0.25} for sample in samples]
    Path("labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    check = ("tasks", "check", "mednli", "--items", 5)
    outcome = dsrl(*check, *RUBRIC, "--judgements", "labels.jsonl", "--json")
    assert outcome.code == 0, outcome.out
    *checks, last = json.loads(outcome.out)["checks"]
    assert {each["name"] for each in checks if each["verdict"] == "skipped"} == {
        "demonstrations",
        "right-over-wrong",
        "shortcuts",
        "repeatability",
        "speed",
        "worker",
    }
    assert (last["name"], last["verdict"]) == ("judgements", "passed")
    assert (last["figures"]["agreement"], last["figures"]["cohens_kappa"]) == (1.0, 1.0)
    assert last["figures"]["mean_absolute_difference"] == 0.125
    assert (last["figures"]["unreadable"], last["figures"]["cost_usd"]) == (0.0, 0.0)
    turned = [{**row, "right": not row["right"]} if "right" in row else {**row, "score": 1} for row in rows]
    Path("turned.jsonl").write_text("\n".join(map(json.dumps, turned)))
    outcome = dsrl(*check, *RUBRIC, "--judgements", "turned.jsonl")
    assert outcome.code == 1
    assert "no more than chance does" in " ".join(outcome.out.split())


def test_wrong_usage_of_judgements_is_told(dsrl: Any) -> None:
    Path("bad.jsonl").write_text('{"input": "i", "output": "o", "score": 1}\n{"input": "i", "output": "o", "score": 7}')
    outcome = dsrl("tasks", "check", "mednli", *RUBRIC, "--judgements", "bad.jsonl")
    assert outcome.code == 1
    assert "bad.jsonl:2: the score is 7, but must be a number from 0 to 1" in outcome.err
    Path("good.jsonl").write_text('{"input": "i", "output": "o", "score": 1}')
    outcome = dsrl("tasks", "check", "mednli", "--judgements", "good.jsonl")
    assert outcome.code == 2
    assert "the task 'mednli' has no rubric" in outcome.err
    outcome = dsrl("tasks", "check", "mednli", "--budget", "1")
    assert outcome.code == 2
    assert "have no effect without --judgements FILE" in outcome.err


def test_a_task_with_a_rubric_is_shown_as_judged_and_not_exported(dsrl: Any, install: Any) -> None:
    source = """
from dsrl import hookimpl

@hookimpl
def description(): return "Write a poem."

@hookimpl
def output_instruction(): return "Write the poem and nothing else."

@hookimpl
def rubric(): return "It must rhyme."
"""
    install("task", "poem", source)
    assert "rubric: It must rhyme.\n" in dsrl("tasks", "show", "poem").out
    assert json.loads(dsrl("tasks", "show", "mednli", "--json").out)["rubric"] is None
    outcome = dsrl("tasks", "export", "poem", "--to", "verifiers")
    assert outcome.code == 2
    assert "the task 'poem' is judged" in outcome.err
    assert dsrl("tasks", "check", "poem").code == 0
