"""The whole pipeline with a real small language model, SmolLM2-135M-Instruct: `make test-smollm2` makes the model first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.smollm2

TASK = Path(__file__).with_name("findings.py")
DSRL = [sys.executable, "-c", "from dsrl.cli import main; main()"]
SETTINGS = (
    "run --task mednli --sampler-option cache_tokens=8192 --samples 16 --select 16 --votes 2 --attempts 4 "
    "--group-size 8 --batch-size 8 --max-completion-tokens 4 --test-size 24 --learning-rate 1e-4 --kl-coef 0 --json"
).split()


@pytest.fixture(scope="session")
def model() -> str:
    folder = os.environ.get("DSRL_SMOLLM2", "")
    if not (Path(folder) / "model.safetensors").is_file():
        pytest.skip("DSRL_SMOLLM2 does not name a folder made by plugins/dsrl-transformers/scripts/make_smollm2.py")
    return str(Path(folder).resolve())


def choose_dtype() -> str:
    """Return the faster number format of this processor: one without AVX-512 takes many times longer in bfloat16."""
    import torch

    return "bfloat16" if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else "float32"


def start(folder: Path, model: str, *flags: str) -> subprocess.Popen[str]:
    command = [*DSRL, *SETTINGS, "--dtype", choose_dtype(), "--override", str(TASK), "--base-model", model, *flags]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err[-2000:]
    result: dict[str, Any] = json.loads(out)
    return result


def count_steps(metrics: Path) -> int:
    return len(metrics.read_text().splitlines()) if metrics.is_file() else 0


def check_model(trained: Path, base: str) -> None:
    """Load the trained model with plain transformers, and compare what the base model's author set."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    tokenizer: Any = AutoTokenizer.from_pretrained(trained)
    before: Any = AutoTokenizer.from_pretrained(base)
    assert tokenizer.chat_template == before.chat_template
    assert tokenizer("It is.")["input_ids"] == before("It is.")["input_ids"]
    settings, original = GenerationConfig.from_pretrained(trained), GenerationConfig.from_pretrained(base)
    assert (settings.eos_token_id, settings.pad_token_id) == (original.eos_token_id, original.pad_token_id)
    lm: Any = AutoModelForCausalLM.from_pretrained(trained)
    assert lm.dtype == torch.bfloat16, "as the base model"
    old: Any = AutoModelForCausalLM.from_pretrained(base)
    changed = [name for name, weight in lm.state_dict().items() if not torch.equal(weight, old.state_dict()[name])]
    assert changed, "the training has changed weights"
    messages = [{"role": "user", "content": "Tests confirmed gout. Does the patient have gout? Answer with yes or no."}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = lm.generate(**ids, max_new_tokens=4, do_sample=False)
    assert tokenizer.decode(answer[0, ids["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def test_lora_killed_and_resumed(model: str, tmp_path: Path) -> None:
    flags = ("--name", "lora", "--lora-rank", "8", "--epochs", "3", "--trainer-option", "checkpoint_seconds=0")
    process, metrics = start(tmp_path, model, *flags), tmp_path / "runs" / "lora" / "metrics.jsonl"
    while process.poll() is None and count_steps(metrics) < 2:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = metrics.read_text().splitlines()
    assert 2 <= len(before) < 6
    result = finish(start(tmp_path, model, *flags))
    after = metrics.read_text().splitlines()
    assert len(after) == 6
    keep = ("step", "reward", "loss", "kl")
    told, again = ([{k: json.loads(line)[k] for k in keep} for line in lines[:2]] for lines in (before, after))
    assert told == again, "the steps before the kill keep their values"
    assert result["samples"]["scored"] >= 8
    assert 0.0 <= result["base_accuracy"] <= 1.0
    settings = tomllib.loads((tmp_path / "runs" / "lora" / "run.toml").read_text())
    assert settings["model"]["chat_template"] == "on"
    check_model(tmp_path / result["model_path"], model)


def test_full_weights_with_kl(model: str, tmp_path: Path) -> None:
    flags = ("--name", "full", "--epochs", "1", "--learning-rate", "1e-5", "--kl-coef", "0.01")
    result = finish(start(tmp_path, model, *flags))
    assert count_steps(tmp_path / "runs" / "full" / "metrics.jsonl") == 2
    check_model(tmp_path / result["model_path"], model)
