from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pyarrow.parquet as pq

from dsrl.config import resolve
from dsrl.instructor import Definition
from dsrl.records import Sample, TrainItem
from dsrl.stages.trained import make_job, write_parquet


def test_a_job_says_what_the_settings_say(definition: Definition, tmp_path: Path) -> None:
    values = {"learning_rate": 1e-3, "epochs": 2, "batch_size": 3, "group_size": 4, "train_temperature": 1.1}
    values |= {"train_top_p": 0.9, "kl_coef": 0.5, "max_completion_tokens": 7, "max_prompt_tokens": 8, "seed": 9}
    values |= {"lora_rank": 10}
    settings = resolve({"task": "t", "device": "cuda:1", "dtype": "bfloat16", **values})
    samples = [Sample("1-00001h", 1, 1, "harder", "Is it?", "o", label="yes", parent="1-00001")]
    job = make_job(settings, definition, "base", samples, tmp_path / "out", tmp_path / "work")
    assert job.items == (TrainItem("1-00001h", "Is it? In <answer> tags.", "Is it?", "yes"),)
    assert (job.model, job.output_dir, job.work_dir) == ("base", tmp_path / "out", tmp_path / "work")
    assert (job.temperature, job.top_p, job.device, job.dtype) == (1.1, 0.9, "cuda:1", "bfloat16")
    same = {field.name for field in fields(job)} & values.keys()
    assert {name: getattr(job, name) for name in same} == {name: values[name] for name in same}
    assert len(same) == 9


def test_parquet_has_the_columns_that_verl_reads(tmp_path: Path) -> None:
    path = tmp_path / "data" / "train.parquet"
    write_parquet(path, "mednli", "train", [("Is it? Tag it.", "Is it?", "yes"), ("ä \u2028?", "ä", "no")])
    first, second = pq.read_table(path).to_pylist()
    assert first == {
        "data_source": "mednli",
        "prompt": [{"role": "user", "content": "Is it? Tag it."}],
        "ability": "mednli",
        "reward_model": {"style": "rule", "ground_truth": "yes"},
        "extra_info": {"split": "train", "index": 0, "question": "Is it?"},
    }
    assert second["prompt"][0]["content"] == "ä \u2028?"
    assert second["extra_info"]["index"] == 1
    assert [entry.name for entry in path.parent.iterdir()] == ["train.parquet"]
    write_parquet(path, "mednli", "train", [("p", "q", "yes")])
    assert pq.read_table(path).num_rows == 1
