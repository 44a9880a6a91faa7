from __future__ import annotations

import shutil
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dsrl.errors import PluginError
from dsrl.pipeline.run_tasks import RunTasks
from dsrl.pipeline.stages.trained import (
    ParquetRow,
    check_trained_model,
    make_dev_items,
    make_items,
    make_job,
    write_parquet,
)
from dsrl.plugins.specs import hookimpl
from dsrl.settings import resolve
from dsrl.storage.attempts import DevItem
from dsrl.types import Prompt, Sample, Score, TrainItem, TrainJob


def test_a_job_says_what_the_settings_say(one_task: RunTasks, tmp_path: Path) -> None:
    values = {"learning_rate": 1e-3, "epochs": 2, "batch_size": 3, "group_size": 4, "train_temperature": 1.1}
    values |= {"train_top_p": 0.9, "kl_coef": 0.5, "max_completion_tokens": 7, "max_prompt_tokens": 8, "seed": 9}
    values |= {"lora_rank": 10}
    settings = resolve({"task": "t", "device": "cuda:1", "dtype": "bfloat16", **values})
    samples = [Sample("1-00001h", 1, 1, "harder", "Is it?", "o", label="yes", parent="1-00001")]
    scores = {"1-00001h": Score("1-00001h", 8, 3, 0.375)}
    job = make_job(settings, "base", make_items(one_task, samples, scores), tmp_path / "out", tmp_path / "work")
    item = TrainItem("1-00001h", "Is it? In <answer> tags.", "Is it?", "yes", attempts=8, passed=3, output="o")
    assert job.items == (item,)
    # Supervised training needs an output that gives the label; the votes may have outvoted the sample's own.
    for own, output in (("yes", "o"), ("no", "")):
        (made,) = make_items(one_task, samples, scores, {"1-00001h": [own, "yes", "yes"]})
        assert made.output == output
    for solved in (True, False):
        (made,) = make_items(one_task, samples, scores, solved={"1-00001h": solved})
        assert made.is_solved is solved
    assert job.choose == 0
    pool = make_job(settings, "base", job.items, tmp_path / "out", tmp_path / "work", choose=5)
    assert pool.choose == 5
    assert (job.model, job.output_dir, job.work_dir) == ("base", tmp_path / "out", tmp_path / "work")
    assert (job.temperature, job.top_p, job.device, job.dtype) == (1.1, 0.9, "cuda:1", "bfloat16")
    same = {field.name for field in fields(job)} & values.keys()
    assert {name: getattr(job, name) for name in same} == {name: values[name] for name in same}
    assert len(same) == 9


def test_a_job_evaluates_only_with_development_items(one_task: RunTasks, tmp_path: Path) -> None:
    scores = {"1-00001": Score("1-00001", 8, 3, 0.375)}
    items = make_dev_items(one_task, [DevItem("1-00001", "Is it?", "yes"), DevItem(None, "Is that?", "no")], scores)
    assert [(item.id, str(item.prompt), item.label, item.attempts, item.passed) for item in items] == [
        ("1-00001", "Is it? In <answer> tags.", "yes", 8, 3),
        ("train-00002", "Is that? In <answer> tags.", "no", 0, 0),
    ]
    settings = resolve({"task": "t", "eval_every": 7})
    job = make_job(settings, "base", (), tmp_path / "out", tmp_path / "work", items)
    assert (job.dev_items, job.eval_every) == (items, 7)
    assert make_job(settings, "base", (), tmp_path / "out", tmp_path / "work").eval_every == 0


def test_parquet_has_the_columns_that_verl_reads(tmp_path: Path) -> None:
    path = tmp_path / "data" / "train.parquet"
    rows = [("mednli", "Is it? Tag it.", "Is it?", "yes"), ("gsm8k", "ä \u2028?", "ä", "no")]
    write_parquet(path, "train", [ParquetRow(task, Prompt(prompt), *rest) for task, prompt, *rest in rows])
    first, second = pq.read_table(path).to_pylist()
    assert first == {
        "data_source": "mednli",
        "prompt": [{"role": "user", "content": "Is it? Tag it."}],
        "ability": "mednli",
        "reward_model": {"style": "rule", "ground_truth": "yes"},
        "extra_info": {"split": "train", "index": 0, "question": "Is it?", "chat_template": False},
    }
    assert second["prompt"][0]["content"] == "ä \u2028?"
    assert second["extra_info"]["index"] == 1
    assert second["data_source"] == second["ability"] == "gsm8k", "a row names the task whose reward it gets"
    assert [entry.name for entry in path.parent.iterdir()] == ["train.parquet"]
    write_parquet(
        path, "train", [ParquetRow("mednli", Prompt("p"), "q", "yes"), ParquetRow("poem", Prompt("p"), "q", "o", True)]
    )
    assert [row["reward_model"]["style"] for row in pq.read_table(path).to_pylist()] == ["rule", "model"]


# --- what a trainer leaves behind ------------------------------------------------------------------------------------


class Idle:
    """A fake trainer that does nothing."""

    @hookimpl
    def train(self, job: TrainJob) -> None: ...


@pytest.fixture
def model(tmp_path: Path) -> Path:
    spec = find_spec("dsrl_transformers.tiny")
    assert spec is not None
    (source,) = spec.submodule_search_locations or ()
    return Path(shutil.copytree(source, tmp_path / "model"))


def test_what_is_no_model_is_refused_with_the_trainers_name(bound: Any, model: Path) -> None:
    trainer = bound("trainer", Idle)
    (model / "model.safetensors").chmod(0o600)
    check_trained_model(trainer, model)
    assert (model / "model.safetensors").stat().st_mode & 0o077 == model.stat().st_mode & 0o066, "as the umask allows"
    (model / "model.safetensors").unlink()
    with pytest.raises(PluginError) as caught:
        check_trained_model(trainer, model)
    assert "trainer 'trainer0' of stranger-trainer0 1.0 ended and left no model" in str(caught.value)
    assert "it holds no weights" in str(caught.value)
