"""A random model of two layers with a tokenizer of single characters: everything here runs on it, in seconds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dsrl import UNREADABLE

CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789 .,?<>/=-+#:\n"


def build_model(vocabulary: int = 61, seed: int = 0, spread: float = 0.3, **config: Any) -> Any:
    """Make a random Llama; a larger spread of its weights gives it stronger opinions."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": spread,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return LlamaForCausalLM(LlamaConfig(**{**settings, **config})).eval()


def build_tokenizer() -> Any:
    """Make a tokenizer with a token a character, 3 for the first of ``CHARACTERS``."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["<pad>", "<bos>", "<eos>", *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=" "))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")


@pytest.fixture
def model() -> Any:
    return build_model()


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model as a folder."""
    folder = tmp_path_factory.mktemp("models") / "random"
    build_model(vocabulary=3 + len(CHARACTERS), spread=0.1).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def parrot() -> Any:
    """A task that rewards an answer beginning with the label."""
    return SimpleNamespace(hook=SimpleNamespace(reward=lambda output, label, input: float(output.startswith(label))))


@pytest.fixture
def task() -> Any:
    """A task that rewards an answer beginning with the label; an empty answer is unreadable."""
    return SimpleNamespace(
        hook=SimpleNamespace(
            reward=lambda output, label, input: float(output.startswith(label)),
            process_prediction=lambda output, input: output[:1] or UNREADABLE,
            eval=lambda prediction, label, input: prediction == label,
        )
    )
