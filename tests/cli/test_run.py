"""The whole pipeline with few samples, by the command line."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest

from dsrl.storage import STAGES


def counts_add_up(samples: dict) -> None:
    dropped = sum(samples["dropped"].values())
    kept_on_the_way = samples["verified"] + samples["harder"] + samples["easier"]
    rewritten = samples["solved"] + samples["unsolved"]
    assert samples["verified"] == rewritten
    assert samples["harder"] <= samples["solved"]
    assert samples["easier"] <= samples["unsolved"]
    assert samples["scored"] == kept_on_the_way
    assert samples["initial"] + rewritten == kept_on_the_way + dropped


def test_json_holds_what_is_promised(dsrl, small):
    outcome = dsrl(*small, "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert list(result) == [
        "run",
        "task",
        "base_accuracy",
        "trained_accuracy",
        "gain_ci95",
        "n_test",
        "parts",
        "n_contaminated",
        "clean_base_accuracy",
        "clean_trained_accuracy",
        "samples",
        "teacher_calls",
        "cost_usd",
        "known_usd",
        "unknown_bills",
        "uncertain_usd",
        "budget_usd",
        "spending",
        "seconds",
        "model_path",
        "warnings",
    ]
    assert (result["run"], result["task"], result["n_test"], result["cost_usd"]) == ("small", "mednli", 30, 0.0)
    low, high = result["gain_ci95"]
    assert low < high
    assert result["samples"]["initial"] == 24
    assert result["samples"]["selected"] == 16
    counts_add_up(result["samples"])
    card = (Path(result["model_path"]) / "README.md").read_text()
    assert f"| trained | {result['trained_accuracy']:.1%} |" in card
    assert str(Path.cwd()) not in card
    # The same run again; nothing is left to do.
    assert dsrl(*small, "--require-gain", "-1").code == 0
    refused = dsrl(*small, "--require-gain", "0.99")
    assert refused.code == 4
    assert "--require-gain 0.99 is not met: the interval of the gain begins at" in refused.err
    # Calls: one for keywords; for each sample one to write it and one or two for votes; for each rewriting likewise.
    assert 24 * 2 < result["teacher_calls"] <= 1 + 24 * 3 + result["samples"]["verified"] * 3
    assert sum(line["calls"] for line in result["spending"]) == result["teacher_calls"]
    assert {line["purpose"] for line in result["spending"]} == {"keywords", "write", "solve", "rewrite"}
    assert {"initial", "scored", "trained", "evaluated", "total"} <= set(result["seconds"])
    for stage in ("initial", "verified", "attempted", "adapted", "scored", "selected", "trained", "evaluated"):
        assert stage in outcome.err, stage


def test_what_a_run_leaves_behind(dsrl, small):
    from pyarrow import parquet
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert dsrl(*small).code == 0
    folder = Path("runs/small")
    settings = tomllib.loads((folder / "run.toml").read_text())
    assert settings["task"]["task"] == "mednli"
    assert settings["versions"]["dsrl-tasks"]
    train = parquet.read_table(folder / "data/train.parquet").to_pylist()
    assert len(train) == 16
    assert set(train[0]) == {"data_source", "prompt", "ability", "reward_model", "extra_info"}
    assert train[0]["prompt"][0]["content"].startswith(train[0]["extra_info"]["question"])
    assert train[0]["reward_model"]["ground_truth"] in ("entailment", "neutral", "contradiction")
    assert len(parquet.read_table(folder / "data/test.parquet")) == 30
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [m["step"] for m in metrics] == [1, 2]
    assert {"reward", "loss", "kl"} <= set(metrics[0])
    assert metrics[0]["reward/format"] + metrics[0]["reward/result"] == pytest.approx(metrics[0]["reward"])
    assert list((folder / "model").glob("*.safetensors"))
    AutoModelForCausalLM.from_pretrained(folder / "model")
    AutoTokenizer.from_pretrained(folder / "model")


def test_the_settings_of_a_run_reproduce_it(dsrl, small):
    dsrl(*small, "--stop-after", "selected", "--json")
    first = dsrl("show", "small", "--json")
    dsrl("run", "--config", "runs/small/run.toml", "--name", "again", "--stop-after", "selected")
    second = dsrl("show", "again", "--json")
    one, two = json.loads(first.out), json.loads(second.out)
    assert one["samples"] == two["samples"]
    # every reply was stored already
    assert two["teacher_calls"] == 0


VERSION_0_1 = """
[run]
name = "old"
seed = 3

[task]
name = "mednli"

[retrieval]
name = "bm25"

[teacher]
name = "procedural"
temperature = 0.5
budget = inf
options = { wait = 0.0 }

[synthesis]
samples = 6

[score]
name = "transformers"
temperature = 0.9

[selection]
size = 5
rule = "easy"

[train]
name = "grpo"
temperature = 1.1

[versions]
dsrl = "0.1.0"
"""


def test_a_settings_file_of_version_0_1_is_read(dsrl):
    Path("old.toml").write_text(VERSION_0_1)
    for _ in range(2):  # the second time it continues the run
        outcome = dsrl("run", "--config", "old.toml", "--stop-after", "initial", "--json")
        assert outcome.code == 0, outcome.err
    settings = tomllib.loads(Path("runs/old/run.toml").read_text())
    assert settings["task"]["task"] == "mednli"
    assert settings["teacher"]["teacher_option"] == {"wait": 0.0}
    assert (settings["selection"]["select"], settings["selection"]["selection"]) == (5, "easy")
    assert (settings["score"]["attempt_temperature"], settings["train"]["train_temperature"]) == (0.9, 1.1)
    assert json.loads(outcome.out)["budget_usd"] is None


def test_stop_after_each_stage_and_continue(dsrl, small):
    """Eleven partial runs give the same result as one run."""
    whole = dsrl(*small, "--runs-dir", "whole", "--cache-dir", "cache-whole", "--json")
    for stage in STAGES:
        outcome = dsrl(*small, "--stop-after", stage, "--json")
        assert outcome.code == 0, outcome.err
    whole_result, pieces = json.loads(whole.out), json.loads(outcome.out)
    for result in (whole_result, pieces):
        del result["seconds"], result["model_path"]
    assert pieces == whole_result


def test_a_finished_run_is_only_printed_again(dsrl, small):
    first = dsrl(*small, "--json")
    second = dsrl(*small, "--json")
    one, two = json.loads(first.out), json.loads(second.out)
    assert one["samples"] == two["samples"]
    assert one["teacher_calls"] == two["teacher_calls"]
    assert "initial" not in second.err


def test_without_adaptation(dsrl, small):
    samples = json.loads(dsrl(*small, "--no-adapt", "--stop-after", "selected", "--json").out)["samples"]
    assert samples["harder"] == samples["easier"] == 0
    assert samples["scored"] == samples["verified"]
    assert samples["initial"] == samples["verified"] + sum(samples["dropped"].values())


@pytest.mark.parametrize("rule", ["random", "easy", "hard", "full"])
def test_selection_rules(dsrl, small, rule):
    samples = json.loads(dsrl(*small, "--selection", rule, "--stop-after", "selected", "--json").out)["samples"]
    assert samples["selected"] == (samples["scored"] if rule == "full" else 16)


def test_the_trainer_chooses_the_samples_of_each_step(dsrl, small):
    outcome = dsrl(
        *small, "--attempts", "16", "--attempt-confidence", "0", "--selection", "online", "--epochs", "2", "--json"
    )
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert 16 < result["samples"]["selected"] <= result["samples"]["scored"], "the pool"
    steps = [json.loads(line) for line in Path("runs/small/metrics.jsonl").read_text().splitlines()]
    assert len(steps) == 4, "as many as with M = 16 samples"
    assert all("refilled" in step for step in steps)
    shown = json.loads(dsrl("show", "small", "--json").out)
    assert shown["settings"]["selection"]["min_agreement"] == 0.75
    assert (shown["attempts"]["least"], shown["attempts"]["most"]) == (8, 8)
    assert "8 at each sample (50% of all L)" in dsrl("show", "small").out
    assert any(note.startswith("the trainer chooses among") for note in shown["notes"])
    # The other attempts are made on demand.
    variants = ("--variants", "selection=learnability", "--seeds", "1", "--json")
    ablated = dsrl("ablate", "small", *variants)
    assert ablated.code == 0, ablated.err
    assert "the pass rates rest on 8 attempts at a sample; the other 8 are made now" in ablated.err
    by_name = {each["variant"]: each for each in json.loads(ablated.out)["results"]}
    assert by_name["selection=learnability"]["samples"] == 16


def test_attempts_stop_early(dsrl, small):
    arguments = (*small, "--attempts", "24", "--attempt-confidence", "0.9", "--stop-after", "selected")
    assert dsrl(*arguments).code == 0
    attempts = json.loads(dsrl("show", "small", "--json").out)["attempts"]
    assert 8 <= attempts["least"] <= attempts["most"] <= 24
    assert attempts["share"] < 1


def test_the_paper_is_one_flag_away_and_says_what_it_sets(dsrl, small):
    refused = dsrl(*small, "--paper")
    assert refused.code != 0
    assert "--votes 4 (the paper: --votes 16)" in refused.err
    plan = dsrl("plan", "--task", "mednli", "--paper", "--json")
    assert plan.code == 0, plan.err
    assert "--paper sets" in plan.err
    assert "--no-decontaminate" in plan.err
    outcome = dsrl(
        "run", "--task", "mednli", "--name", "paper", "--paper", "--samples", "4", "--stop-after", "keywords"
    )
    assert outcome.code == 0, outcome.err
    assert "--samples 4 (the paper: 500)" in outcome.err
    assert json.loads(dsrl("show", "paper", "--json").out)["settings"]["synthesis"]["decontaminate"] is False


def test_the_second_iteration_starts_from_the_trained_model(dsrl, small):
    outcome = dsrl(*small, "--iterations", "2", "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert result["samples"]["initial"] == 48
    counts_add_up(result["samples"])
    assert Path("runs/small/rounds/1/model/config.json").is_file()
    rounds = [json.loads(line)["round"] for line in Path("runs/small/metrics.jsonl").read_text().splitlines()]
    assert rounds == [1, 1, 2, 2]


def test_output_model_is_written_to_its_folder(dsrl, small):
    result = json.loads(dsrl(*small, "--output-model", "mine/model", "--json").out)
    assert result["model_path"] == "mine/model"
    assert Path("mine/model/config.json").is_file()


@pytest.mark.parametrize("n", [0, 1, 10, 100])
def test_any_number_of_demonstrations(dsrl, small, n):
    from dsrl_tasks.mednli import procedural_sample

    demos = [procedural_sample(seed, 2, "") for seed in range(n)]
    Path("demos.json").write_text(json.dumps([{"input": d.input, "output": d.output} for d in demos]))
    assert dsrl(*small, "--demos", "demos.json", "--stop-after", "verified").code == 0
    from dsrl.storage.run_store import RunStore

    pattern = RunStore(Path("runs/small"), work=False).pattern(1)
    assert bool(pattern) == bool(n)


def test_task_instruction_and_domain_win(dsrl, small):
    flags = ("--task-instruction", "Decide about cats.", "--domain", "fever", "--domain", "asthma")
    assert dsrl(*small, *flags, "--stop-after", "initial").code == 0
    from dsrl.storage.run_store import RunStore

    assert RunStore(Path("runs/small"), work=False).keywords(1) == {"": {"fever": ["fever"], "asthma": ["asthma"]}}


def test_override_changes_one_hook(dsrl, small):
    source = "@hookimpl\ndef reward(output, label):\n    return Reward(0.25, {'style': 0.2, 'result': 0.05})\n"
    Path("mine.py").write_text(f"from dsrl import Reward, hookimpl\n\n{source}")
    assert dsrl(*small, "--override", "mine.py").code == 0
    metrics = json.loads(Path("runs/small/metrics.jsonl").read_text().splitlines()[0])
    assert metrics["reward"] == pytest.approx(0.25)
    parts = {name: value for name, value in metrics.items() if name.startswith("reward/")}
    assert parts == pytest.approx({"reward/style": 0.2, "reward/result": 0.05})


def test_a_faulty_reward_ends_the_run_with_its_place(dsrl, small):
    source = "from dsrl import hookimpl\n\n@hookimpl\ndef reward(output, label):\n    return float(output[99_999])\n"
    Path("mine.py").write_text(source)
    outcome = dsrl(*small, "--override", "mine.py")
    assert outcome.code == 1
    assert "override file mine.py:5: its hook reward failed with IndexError: string index out of range" in outcome.err
    Path("mine.py").write_text(source.replace("float(output[99_999])", "float('nan')"))
    outcome = dsrl(*small, "--name", "other", "--override", "mine.py")
    assert outcome.code == 1
    assert "its hook reward returned nan; return a finite number" in outcome.err


def test_gsm8k_runs_too(dsrl, small):
    outcome = dsrl("run", "--task", "gsm8k", *small[3:], "--json")
    assert outcome.code == 0, outcome.err
    counts_add_up(json.loads(outcome.out)["samples"])


TRAINER = """
from pathlib import Path
from dsrl import hookimpl
from dsrl_transformers.grpo import GRPOTrainer


class Idle(GRPOTrainer):
    @hookimpl
    def train(self, job, task, on_step):
        if Path("mended").exists():
            return super().train(job, task, on_step)
        if Path("saves").exists():
            job.output_dir.mkdir(parents=True, exist_ok=True)
            (job.output_dir / "config.json").write_text("{}")
            (job.output_dir / "model.safetensors").write_text("weights")
"""


def test_a_trainer_that_saves_no_model_has_not_trained(dsrl, small, install):
    module = install("trainer", "unused", TRAINER, distribution="idle-trainer")
    install("trainer", "idle", "", distribution="idler", value=f"{module}:Idle")
    command = (*small, "--trainer", "idle", "--select", "8", "--attempts", "2", "--test-size", "4")
    for _ in range(2):
        outcome = dsrl(*command)
        assert outcome.code == 1
        assert "trainer 'idle' of idler 1.0 ended and left no model" in outcome.err
        assert json.loads(dsrl("show", "small", "--json").out)["trained_accuracy"] is None
        Path("saves").touch()
    shutil.rmtree("runs/small/model")
    Path("mended").touch()
    assert dsrl(*command).code == 0
    assert json.loads(dsrl("show", "small", "--json").out)["trained_accuracy"] is not None
