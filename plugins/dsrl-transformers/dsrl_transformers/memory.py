"""How many tokens of a model's cache fit into the memory of its device."""

from __future__ import annotations

from typing import Any

import torch

from dsrl_transformers.memory_estimate import read_capacity

_CUDA_SHARE, _CPU_SHARE = 0.5, 0.25
_FEWEST, _MOST = 4096, 2**20
_MOST_IN_CPU_TRAINING = 32768
#: Main memory to reckon with if the system does not say how much there is.
_UNKNOWN_MEMORY = 8 * 2**30


def choose_cache_tokens(model: Any, reserved: int = 0) -> int:
    """Return the number of tokens whose keys and values may be in memory at once, for a sampler whose user gives none.

    The cache may take half of the memory of a CUDA device that the weights leave, or a quarter of the main memory (or what
    the control group of the process allows). The rule looks at the size of the memory, not at what is free at
    the moment, so that the same call has the same batches and gives the same texts. The number is between 4096 and 2^20.

    Args:
        model: the model; its weights are on its device.
        reserved: bytes that others need on the device, such as an optimizer.
    """
    weights = reserved + sum(p.numel() * p.element_size() for p in model.parameters())
    if model.device.type == "cuda":
        memory, share = torch.cuda.get_device_properties(model.device).total_memory, _CUDA_SHARE
    else:
        memory, share = read_capacity(torch.device("cpu")) or _UNKNOWN_MEMORY, _CPU_SHARE
    tokens = int(max(0, memory - weights) * share) // count_bytes_per_token(model)
    return max(_FEWEST, min(_MOST, tokens // 1024 * 1024))


def choose_rollout_tokens(model: Any, reserved: int) -> int:
    """Return the number of tokens whose keys and values may be in memory at once in the rollouts of a training.

    On a CUDA device it is chosen like that of a sampler, from what the training leaves of the memory. On a CPU, where larger
    batches are hardly faster, it is at most 32768.

    Args:
        model: the model that is trained.
        reserved: bytes that the training needs beside the weights: gradients, optimizer, reference.
    """
    tokens = choose_cache_tokens(model, reserved)
    return tokens if model.device.type == "cuda" else min(tokens, _MOST_IN_CPU_TRAINING)


def count_bytes_per_token(model: Any) -> int:
    """Return the size of the keys and values of one token in all layers, in bytes."""
    config = model.config.get_text_config(decoder=True)
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    return int(2 * config.num_hidden_layers * kv_heads * head_dim * model.dtype.itemsize)
