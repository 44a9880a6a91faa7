from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from dsrl_transformers import weights_check
from dsrl_transformers.weights_check import check_weights
from safetensors.torch import load_file, save_file

from dsrl import DataError

from .conftest import build_model, build_tokenizer


def save(folder: Path, model: Any, **settings: Any) -> str:
    model.save_pretrained(folder, **settings)
    build_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_tied", [False, True])
def test_sound_weights(tmp_path: Path, dtype: torch.dtype, is_tied: bool) -> None:
    check_weights(save(tmp_path / "m", build_model(tie_word_embeddings=is_tied).to(dtype)))


def test_other_architectures(tmp_path: Path) -> None:
    """Their names, tied weights and conversions differ."""
    from transformers import AutoModelForCausalLM, BloomConfig, GPT2Config, GPTNeoXConfig, MixtralConfig, Qwen2Config

    sizes = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    configs = [
        GPT2Config(vocab_size=61, n_embd=32, n_layer=2, n_head=4, n_positions=64),
        BloomConfig(vocab_size=61, hidden_size=32, n_layer=2, n_head=4),
        GPTNeoXConfig(**sizes, intermediate_size=64),
        Qwen2Config(**sizes, intermediate_size=64, num_key_value_heads=2),
        MixtralConfig(**sizes, intermediate_size=64, num_key_value_heads=2, num_local_experts=2),
    ]
    for config in configs:
        model = AutoModelForCausalLM.from_config(config)
        check_weights(save(tmp_path / config.model_type, model))


def test_weights_in_several_files(tmp_path: Path) -> None:
    name = save(tmp_path / "m", build_model(), max_shard_size="50KB")
    files = sorted((tmp_path / "m").glob("*.safetensors"))
    assert len(files) > 1
    check_weights(name)
    weights = load_file(files[-1])
    key = min(weights)
    weights[key] = torch.full_like(weights[key], torch.nan)
    save_file(weights, files[-1], metadata={"format": "pt"})
    with pytest.raises(DataError, match="hold values that are not finite numbers"):
        check_weights(name)


def test_weights_that_take_long_are_left_for_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model()
    with torch.no_grad():
        model.lm_head.weight[0, 0] = torch.nan
    name = save(tmp_path / "m", model)
    monkeypatch.setattr(weights_check, "VALUE_SECONDS", -1.0)
    check_weights(name)
    shutil.copytree(tmp_path / "m", tmp_path / "other")
    monkeypatch.setattr(weights_check, "VALUE_SECONDS", 20.0)
    with pytest.raises(DataError, match=r"lm_head\.weight"):
        check_weights(str(tmp_path / "other"))


def test_a_changed_configuration_is_seen(tmp_path: Path) -> None:
    name = save(tmp_path / "m", build_model())
    check_weights(name)
    build_model(num_hidden_layers=3).config.save_pretrained(name)
    with pytest.raises(DataError, match=r"weights are not in the files, among them model\.layers\.2\."):
        check_weights(name)


def test_a_model_on_the_hub_is_not_there_yet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    check_weights("owner/missing")
