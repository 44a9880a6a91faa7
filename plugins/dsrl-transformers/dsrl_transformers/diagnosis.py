"""What ``dsrl doctor`` says of this package: the device, and which sizes of models fit into its memory."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from dsrl import DsrlError, Finding
from dsrl_transformers.memory_estimate import (
    ModelShape,
    TrainingKind,
    estimate_memory,
    needs_narrow_base,
    read_available_memory,
    read_capacity,
)

#: Billions of weights -> the sizes of a usual model with as many (Qwen2.5).
_MODELS = {
    0.5: ModelShape(896, 24, 4864, 896, 128, 151936),
    1.5: ModelShape(1536, 28, 8960, 1536, 256, 151936),
    3.0: ModelShape(2048, 36, 11008, 2048, 256, 151936),
    7.0: ModelShape(3584, 28, 18944, 3584, 512, 152064),
    14.0: ModelShape(5120, 48, 13824, 5120, 1024, 152064),
    32.0: ModelShape(5120, 64, 27648, 5120, 1024, 152064),
}
#: Share of the free memory that weights, gradients and optimizer may take; the rest is for a pass.
_SHARE = 0.75
#: Rank of the adapters that are reckoned with.
_RANK = 16
_SMALL = "less than half a billion weights"


def diagnose_sampling(model: str) -> list[Finding]:
    """Say on which device the sampler works, and how large a model may be.

    Args:
        model: a model to look at; may be empty.
    """
    device, itemsize, findings = _look_at_device()
    available = read_available_memory(device)
    if available is not None:
        largest = available * _SHARE / itemsize / 1e9
        findings.append(Finding("ok", f"answers with models of up to about {largest:.2g} billion weights"))
    return findings + _look_at_model(model, device, itemsize)


def diagnose_training(model: str, has_kl: bool = True) -> list[Finding]:
    """Say on which device a trainer works, and which sizes of models fit.

    Args:
        model: a model to look at; may be empty.
        has_kl: whether the trainer keeps a second copy of the weights, for the KL term.
    """
    device, itemsize, findings = _look_at_device()
    available = read_available_memory(device)
    if available is not None:
        full = _find_largest(available, 0, has_kl, device, itemsize)
        adapters = _find_largest(available, _RANK, has_kl, device, itemsize)
        text = f"trains all weights of models of {full or _SMALL}, and with --lora-rank {_RANK} of {adapters or _SMALL}"
        findings.append(Finding("ok", text))
    try:
        version("peft")
    except PackageNotFoundError:
        findings.append(Finding("note", "LoRA (--lora-rank) needs peft", "pip install 'peft>=0.17'"))
    return findings + _look_at_model(model, device, itemsize)


def _look_at_device() -> tuple[Any, int, list[Finding]]:
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    is_narrow = device.type == "cuda" and torch.cuda.is_bf16_supported()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    text = f"torch {version('torch')} and transformers {version('transformers')} work on {name}"
    return device, 2 if is_narrow else 4, [Finding("ok", text)]


def _find_largest(available: int, rank: int, has_kl: bool, device: Any, itemsize: int) -> str:
    """Return the largest of the usual sizes that fits; empty if none does."""
    largest = ""
    for billions, shape in _MODELS.items():
        weights = int(billions * 1e9)
        has_narrow_base = needs_narrow_base(weights, True, itemsize == 2, read_capacity(device))
        kind = TrainingKind(rank, has_kl=has_kl, is_8bit=False, has_narrow_base=has_narrow_base, is_stored_narrow=True)
        if estimate_memory(weights, shape, kind).total <= available * _SHARE:
            largest = f"up to about {billions:g} billion weights"
    return largest


def _look_at_model(model: str, device: Any, itemsize: int) -> list[Finding]:
    if not model:
        return []
    from dsrl_transformers.memory_check import check_sampling_memory
    from dsrl_transformers.model_files import check_model

    try:
        facts = check_model(model)
        check_sampling_memory(model, facts, device, itemsize)
    except DsrlError as error:
        return [Finding("problem", str(error))]
    size = f"has {facts.weights / 1e9:.2g} billion weights and fits" if facts.weights else "can be read"
    return [Finding("ok", f"the model {model} {size}")]
