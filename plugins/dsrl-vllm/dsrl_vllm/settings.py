"""From the options to what vLLM is started with: its arguments and its environment. A CPU needs settings of its own."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from dsrl import SettingsError
from dsrl.machine import list_gpus, read_free_memory
from dsrl_vllm.options import FLAG, EngineOptions

if TYPE_CHECKING:
    from dsrl_transformers.model_files import ModelFacts

log = logging.getLogger(__name__)

#: Share of the free main memory for keys and values, and their least size in bytes.
_CACHE_SHARE, _FEWEST_BYTES = 0.25, 64 * 2**20
#: Tokens of a block of keys and values on a CPU. vLLM's kernels there want a multiple of 32, and its default is 128.
_BLOCK = 32


def make_environment(options: EngineOptions, device: str) -> dict[str, str]:
    """Return the variables of the engine's process.

    Args:
        options: the options of the sampler.
        device: ``cuda`` or ``cpu``.
    """
    environment = {
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }
    if device == "cpu":
        # Bound threads of two engines would share cores; a second process of the engine costs 0.5 GB.
        environment |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    elif ":" in options.device:
        environment["CUDA_VISIBLE_DEVICES"] = _name_visible_device(int(options.device.partition(":")[2]))
    return environment


def make_engine_settings(options: EngineOptions, device: str, rank: int) -> dict[str, Any]:
    """Return the settings of the engine's process; see :func:`dsrl_vllm.engine.main`.

    Args:
        options: the options of the sampler.
        device: ``cuda`` or ``cpu``.
        rank: the largest rank of an adapter; 0 if none is used.

    Raises:
        DataError: the name leads to no readable model.
    """
    from dsrl_transformers.language_model import hide_progress_bars
    from dsrl_transformers.model_files import check_model

    with hide_progress_bars():
        facts = check_model(options.model)
    dtype = options.dtype if options.dtype != "auto" else ("float32" if device == "cpu" else "bfloat16")
    engine: dict[str, Any] = {
        "dtype": dtype,
        "max_num_seqs": options.max_sequences,
        "tensor_parallel_size": options.tensor_parallel,
        "enable_prefix_caching": True,
    }
    if rank:
        engine |= {"enable_lora": True, "max_lora_rank": rank, "max_loras": 1, "max_cpu_loras": 1}
    if device == "cpu":
        context, cache = choose_cpu_cache(options, facts, 4 if dtype == "float32" else 2)
        engine |= {
            "max_model_len": context,
            "kv_cache_memory_bytes": cache,
            "block_size": _BLOCK,
            "enforce_eager": True,
            # With it, a batch of seeded attempts crashes the engine on a CPU.
            "enable_chunked_prefill": False,
        }
    else:
        # -1: the context of the model, or as much of it as the memory has room for.
        engine |= {"max_model_len": options.context or -1, "gpu_memory_utilization": options.gpu_memory}
    return {"model": options.model, "engine": engine, "max_sequences": options.max_sequences}


def choose_cpu_cache(options: EngineOptions, facts: ModelFacts, itemsize: int) -> tuple[int, int]:
    """Return the length of the context in tokens, and the bytes for keys and values.

    Without ``cache_gb``, the bytes are a quarter of the free memory, but no more than ``max_sequences`` full contexts need.
    If a full context needs more than there is, it becomes shorter, with a warning.

    Args:
        options: the options of the sampler.
        facts: what the files of the model say.
        itemsize: bytes of one number.
    """
    context = min(filter(None, (options.context, facts.context)), default=4096)
    per_token = max(1, 2 * facts.shape.layers * facts.shape.key_value * itemsize)
    blocks = -(-context // _BLOCK) + 1
    if options.cache_gb:
        size = int(options.cache_gb * 2**30)
    else:
        useful = options.max_sequences * blocks * _BLOCK * per_token
        size = max(_FEWEST_BYTES, min(useful, int((read_free_memory() or 4 * 2**30) * _CACHE_SHARE)))
    room = (size // per_token // _BLOCK - 1) * _BLOCK
    if room < context:
        log.warning(
            "Keys and values of %d tokens, the context of %s, need %.1f GiB, and there are %.1f. The context is %d tokens "
            "now; give %s cache_gb=.. for more.",
            context, options.model, blocks * _BLOCK * per_token / 2**30, size / 2**30, max(room, _BLOCK), FLAG,
        )  # fmt: skip
        context = max(room, _BLOCK)
    return context, size


def check_memory(options: EngineOptions, device: str, facts: ModelFacts) -> None:
    """Check that the weights of a model fit, and that there is room for keys and values.

    Raises:
        SettingsError: they do not fit; the text says what would.
    """
    if facts.weights is None:
        return
    if device == "cpu":
        import torch
        from dsrl_transformers.memory_check import check_sampling_memory

        itemsize = 2 if options.dtype == "bfloat16" else 4
        check_sampling_memory(options.model, facts, torch.device("cpu"), itemsize)
        return
    itemsize = 4 if options.dtype == "float32" else 2
    gpus = list_gpus()
    number = int(options.device.partition(":")[2] or 0)
    used = gpus[number : number + options.tensor_parallel]
    smallest = min(gpu.total_bytes for gpu in used)
    needed = facts.weights * itemsize
    if needed / options.tensor_parallel <= 0.9 * options.gpu_memory * smallest:
        return
    fitting = [
        count
        for count in (2, 4, 8)
        if options.tensor_parallel < count <= len(gpus) and needed / count <= 0.9 * options.gpu_memory * smallest
    ]
    most = 0.9 * options.gpu_memory * smallest * len(gpus) / 2e9
    advice = (
        f"this would fit: {FLAG} tensor_parallel={fitting[0]}"
        if fitting
        else f"give a --base-model of at most {most:.2g} billion weights, or more or larger GPUs"
    )
    raise SettingsError(
        f"the model {options.model} has {facts.weights / 1e9:.2g} billion weights, which take {needed / 1e9:.1f} GB, and "
        f"{options.tensor_parallel} GPU{'s' * (options.tensor_parallel > 1)} of {smallest / 1e9:.0f} GB have no room for "
        f"them and for keys and values; {advice}"
    )


def read_architectures(name: str, device: str) -> list[str]:
    """Return the architectures that the configuration of a model names, after a test that vLLM can compute its heads.

    Args:
        name: a folder or a hub id.
        device: ``cuda`` or ``cpu``.

    Raises:
        SettingsError: vLLM has no code for heads of this size on a CPU.
    """
    from dsrl_transformers.model_files import translate_errors
    from transformers import AutoConfig

    with translate_errors(name):
        config: Any = AutoConfig.from_pretrained(name, trust_remote_code=False)
        text = config.get_text_config(decoder=True)
    heads = getattr(text, "num_attention_heads", None)
    size = getattr(text, "head_dim", None) or (getattr(text, "hidden_size", 0) // heads if heads else 0)
    if device == "cpu" and size and (size < 32 or size % 16):
        raise SettingsError(
            f"the attention heads of {name} have a size of {size}, and vLLM on a CPU needs a multiple of 16, at least 32; "
            "give --sampler transformers"
        )
    return list(getattr(config, "architectures", None) or [])


def _name_visible_device(number: int) -> str:
    """Return the name of a GPU as CUDA counts, where ``CUDA_VISIBLE_DEVICES`` hides others."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [name.strip() for name in visible.split(",") if name.strip()]
    return names[number] if number < len(names) else str(number)
