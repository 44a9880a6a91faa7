"""The trainer with a real model, SmolLM2-135M-Instruct, whose folder the environment variable DSRL_SMOLLM2 names."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dsrl import Prompt, TrainItem

from .test_grpo import job, train

FOLDER = os.environ.get("DSRL_SMOLLM2", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER, reason="DSRL_SMOLLM2 does not name a folder of SmolLM2-135M-Instruct"),
]
CHAT = [{"role": "user", "content": "Is the sky blue? Answer yes or no."}]


@pytest.mark.parametrize("rank", [0, 4])
def test_the_saved_model_keeps_template_and_generation_settings(tmp_path: Path, rank: int) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base_tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    prompt = base_tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    items = tuple(TrainItem(str(i), Prompt(prompt), "sky", "Yes") for i in range(2))
    task: Any = SimpleNamespace(hook=SimpleNamespace(reward=lambda output, label, input: float(len(output))))
    of = job(
        Path(FOLDER), tmp_path, items=items, max_prompt_tokens=100, batch_size=2, group_size=4, epochs=1, lora_rank=rank
    )
    (step,) = train(task, of)
    assert step.metrics["grad_norm"] > 0
    base = AutoModelForCausalLM.from_pretrained(FOLDER)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(of.output_dir), AutoTokenizer.from_pretrained(of.output_dir)
    assert model.dtype == base.dtype == torch.bfloat16
    assert tokenizer.chat_template == base_tokenizer.chat_template
    for settings in ({"tokenize": False}, {"add_generation_prompt": True, "tokenize": False}):
        assert tokenizer.apply_chat_template(CHAT, **settings) == base_tokenizer.apply_chat_template(CHAT, **settings)
    for name in ("eos_token_id", "bos_token_id", "pad_token_id"):
        assert getattr(model.generation_config, name) == getattr(base.generation_config, name)
        assert getattr(tokenizer, name) == getattr(base_tokenizer, name)
    ids = tokenizer(prompt, return_tensors="pt")
    assert ids["input_ids"].tolist() == base_tokenizer(prompt, return_tensors="pt")["input_ids"].tolist()
    answer = model.generate(**ids, max_new_tokens=3, do_sample=False)
    assert answer.shape[1] > ids["input_ids"].shape[1]
