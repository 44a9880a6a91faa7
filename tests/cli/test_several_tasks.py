"""One run over two tasks, by the command line: each item has the prompts, the votes and the reward of its own task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dsrl.storage.run_store import RunStore

TWO = (
    "run",
    "--task",
    "mednli",
    "--task",
    "gsm8k",
    "--name",
    "two",
    "--samples",
    "16",
    "--select",
    "12",
    "--votes",
    "2",
)
SMALL = (*TWO, "--attempts", "4", "--epochs", "1", "--batch-size", "4", "--group-size", "4", "--test-size", "6")

#: Writes down which reward each item gets for the right answer in the form of each task, then trains.
TRAINER = """
import json
from pathlib import Path
from dsrl import get_task, hookimpl
from dsrl_transformers.grpo import GRPOTrainer


class Recording(GRPOTrainer):
    @hookimpl
    def train(self, job, task, on_step):
        rows = []
        for item in job.items:
            reward = get_task(task, item).hook.reward
            outputs = {"mednli": f"<answer>{item.label}</answer>", "gsm8k": f"#### {item.label}"}
            rewards = {form: float(reward(output=o, label=item.label, input=item.input)) for form, o in outputs.items()}
            rows.append({"task": item.task, "prompt": str(item.prompt), **rewards})
        Path("rewards.json").write_text(json.dumps(rows))
        super().train(job, task, on_step)
"""
#: A trainer that does not know several tasks, and one that says that it does and uses the argument ``task`` all the same.
OLD_TRAINER = """
from dsrl import hookimpl

class Old:
    @hookimpl
    def train(self, job, task, on_step):
        task.hook.reward(output="", label="", input="")

class Careless(Old):
    @hookimpl
    def takes_several_tasks(self):
        return True
"""


def read_rows(store: RunStore) -> dict[str, Any]:
    scores = store.scores(1)
    return {"samples": store.samples(1), "scores": scores, "selected": store.selected(1), "dev": store.dev_items(1)}


def test_every_item_has_the_prompt_and_the_reward_of_its_task(dsrl: Any, install: Any) -> None:
    module = install("trainer", "unused", TRAINER, distribution="recording-trainer")
    install("trainer", "recording", "", distribution="recorder", value=f"{module}:Recording")
    outcome = dsrl(*SMALL, "--trainer", "recording", "--json")
    assert outcome.code == 0, outcome.err
    rows = json.loads(Path("rewards.json").read_text())
    assert sorted(row["task"] for row in rows) == ["gsm8k"] * 6 + ["mednli"] * 6
    for row in rows:
        other = "gsm8k" if row["task"] == "mednli" else "mednli"
        assert (row[row["task"]], row[other]) == (1.0, 0.0), "the reward of another task cannot read the answer"
        assert ("####" in row["prompt"]) == (row["task"] == "gsm8k")

    store = RunStore(Path("runs/two"), work=False)
    samples = {sample.id: sample for sample in store.samples(1)}
    assert sum(sample.task == "gsm8k" for sample in samples.values() if sample.parent is None) == 8
    labels = {sample.label for sample in samples.values() if sample.task == "mednli" and sample.label}
    assert labels <= {"entailment", "neutral", "contradiction"}
    assert any(score.passed for name, score in store.scores(1).items() if samples[name].task == "gsm8k")
    gsm8k = [r["reward"] for name, s in samples.items() if s.task == "gsm8k" for r in store.list_rewards(name)]
    assert max(gsm8k) > 0, "with the reward of mednli, no answer to gsm8k could be read"
    store.close()

    result = json.loads(outcome.out)
    assert result["task"] == "mednli, gsm8k"
    assert [(p["task"], p["domain"], p["initial"], p["n_test"]) for p in result["parts"]] == [
        ("mednli", "", 8, 6),
        ("gsm8k", "", 8, 6),
    ]
    for name in ("base_accuracy", "trained_accuracy"):
        assert result[name] == pytest.approx(sum(part[name] for part in result["parts"]) / 2)
    shown = dsrl("show", "two").out
    assert "tasks mednli, gsm8k" in shown
    assert "mean over the tasks" in shown
    assert "definition of gsm8k" in shown
    assert json.loads(dsrl("show", "two", "--sample", "1-00001", "--json").out)["task"] == "gsm8k"


def test_a_run_in_parts_gives_what_a_run_in_one_gives(dsrl: Any) -> None:
    command = (*SMALL, "--eval-every", "1", "--samples", "48", "--stop-after", "selected")
    assert dsrl(*command, "--name", "whole").code == 0
    for stage in ("keywords", "pattern", "initial", "verified", "scored", "selected"):
        assert dsrl(*command[:-1], stage).code == 0
    rows = []
    for name in ("whole", "two"):
        store = RunStore(Path("runs") / name, work=False)
        rows.append(read_rows(store))
        store.close()
    assert rows[0] == rows[1]
    assert {item.task for item in rows[0]["dev"]} == {"mednli", "gsm8k"}


def test_a_task_file_is_found_from_every_folder(dsrl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.py").write_text("from dsrl_tasks.mednli import *\n")
    tasks = ("--task", "./mine.py", "--task", "gsm8k")
    command = ("run", *tasks, *SMALL[5:], "--stop-after")
    assert dsrl(*command, "initial").code == 0
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    config = ("run", "--config", "../runs/two/run.toml", "--name", "again", "--stop-after", "verified", "--json")
    outcome = dsrl(*config)
    assert outcome.code == 0, outcome.err
    parts = json.loads(outcome.out)["parts"]
    assert [(part["task"], part["initial"], part["verified"]) for part in parts] == [("mine.py", 8, 8), ("gsm8k", 8, 8)]
    monkeypatch.chdir("..")
    assert dsrl("run", "--task", "mine.py", *command[3:], "verified").code == 0, "another way to write the same path"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Old", "trains on one task only, and this run has 2: mednli, gsm8k"),
        ("Careless", "the trainer reads task.hook in a"),
    ],
)
def test_no_trainer_can_use_one_reward_for_all(dsrl: Any, install: Any, name: str, words: str) -> None:
    module = install("trainer", "unused", OLD_TRAINER, distribution="old-trainer")
    install("trainer", "old", "", distribution="old", value=f"{module}:{name}")
    outcome = dsrl(*SMALL, "--trainer", "old")
    assert outcome.code != 0
    assert words in outcome.err
    assert Path("runs/two/run.db").exists() == (name == "Careless"), "a trainer of one task is refused at the start"


def test_the_domains_of_a_task_are_shown_each_with_its_accuracy(dsrl: Any) -> None:
    Path("test.jsonl").write_text(
        "\n".join(
            json.dumps({"question": f"What is {n} + 1?", "answer": f"#### {n + 1}", "domain": domain})
            for n, domain in enumerate(["sums", "money", "sums"])
        )
    )
    Path("over.py").write_text(
        "import json\nfrom pathlib import Path\nfrom dsrl import Example, hookimpl\n\n@hookimpl\ndef load_dataset(path):\n"
        "    rows = map(json.loads, Path(path).read_text().splitlines())\n"
        "    return [Example(row['question'], row['answer'], row['domain']) for row in rows]\n"
    )
    options = ("--dataset-path", "test.jsonl", "--override", "over.py", "--domain", "sums", "--domain", "money")
    outcome = dsrl("run", "--task", "gsm8k", *SMALL[5:], *options, "--json")
    assert outcome.code == 0, outcome.err
    parts = json.loads(outcome.out)["parts"]
    assert [(p["domain"], p["initial"], p["n_test"]) for p in parts] == [("sums", 8, 2), ("money", 8, 1)]
    assert all(0 <= part["base_accuracy"] <= 1 for part in parts)
    assert "gsm8k, money" in dsrl("show", "two").out
