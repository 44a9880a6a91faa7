"""The check, before anything is paid, that a training fits into the memory of its device."""

from __future__ import annotations

import logging
from typing import Any

import torch

from dsrl import SettingsError, TrainJob
from dsrl_transformers.memory_estimate import (
    PROCESS_BYTES,
    TrainingKind,
    estimate_memory,
    list_fitting_settings,
    needs_narrow_base,
    read_available_memory,
    read_capacity,
)
from dsrl_transformers.model_files import ModelFacts
from dsrl_transformers.options import TrainerOptions

log = logging.getLogger(__name__)

#: The user is warned if a training needs more than this share of the free memory.
_CLOSE = 0.9


def check_training_memory(
    job: TrainJob, facts: ModelFacts, device: Any, is_forward_narrow: bool, options: TrainerOptions
) -> None:
    """Check that weights, gradients, optimizer and reference fit into the free memory; warn if it becomes close.

    Args:
        job: says what is trained, and how.
        facts: what the model's files say.
        device: the device of the training.
        is_forward_narrow: whether the forward pass is in bfloat16.
        options: the options of the trainer.

    Raises:
        SettingsError: they surely do not fit; the text says what would.
    """
    available = read_available_memory(device)
    if facts.weights is None or available is None:
        return
    kind = TrainingKind(
        lora_rank=job.lora_rank,
        has_kl=job.kl_coef > 0,
        is_8bit=options.optimizer == "adamw8bit",
        has_narrow_base=needs_narrow_base(facts.weights, facts.is_bfloat16, is_forward_narrow, read_capacity(device)),
        is_stored_narrow=facts.is_bfloat16,
    )
    needs = estimate_memory(facts.weights, facts.shape, kind)
    parts = (
        f"weights {_write_gb(needs.weights)}, gradients {_write_gb(needs.gradients)}, optimizer "
        f"{_write_gb(needs.optimizer)}, reference {_write_gb(needs.reference)}"
    )
    if needs.total > available:
        fitting = list_fitting_settings(facts.weights, facts.shape, kind, available, device.type == "cuda")
        advice = f"these would fit: {'; '.join(fitting)}" if fitting else "give a smaller model or a larger device"
        raise SettingsError(
            f"the training of {job.model} needs at least {_write_gb(needs.total)} of memory ({parts}), and {device} has "
            f"{_write_gb(available)} free; {advice}"
        )
    tokens = job.max_prompt_tokens + job.max_completion_tokens
    if facts.context is not None:
        tokens = min(tokens, facts.context)
    is_narrow = is_forward_narrow and device.type == "cuda"
    pass_bytes = facts.shape.get_pass_bytes(tokens, options.gradient_checkpointing != "off", is_narrow)
    total = needs.total + pass_bytes + (PROCESS_BYTES if device.type == "cpu" else 0)
    if total > _CLOSE * available:
        log.warning(
            "The training of %s needs about %s of memory (%s, a pass of %d tokens %s), and %s has %s free. It may not fit.",
            job.model, _write_gb(total), parts, tokens, _write_gb(pass_bytes), device, _write_gb(available),
        )  # fmt: skip


def check_sampling_memory(name: str, facts: ModelFacts, device: Any, itemsize: int) -> None:
    """Check that the weights of a model fit into the free memory, so that it can answer.

    Args:
        name: the model.
        facts: what the model's files say.
        device: the device of the sampler.
        itemsize: bytes of one weight in memory.

    Raises:
        SettingsError: they do not fit; the text says what would.
    """
    available = read_available_memory(device)
    if facts.weights is None or available is None or facts.weights * itemsize <= available:
        return
    fitting = []
    if itemsize > 2 and facts.weights * 2 <= available:
        fitting.append("--dtype bfloat16")
    main_memory = read_available_memory(torch.device("cpu")) if device.type == "cuda" else None
    if main_memory is not None and facts.weights * 4 <= main_memory:
        fitting.append("--device cpu")
    if fitting:
        advice = f"these would fit: {'; '.join(fitting)}"
    else:
        most = available / 2 / 1e9
        advice = f"give a --base-model of at most {most:.2g} billion weights, with --dtype bfloat16, or a larger device"
    raise SettingsError(
        f"the model {name} has {facts.weights / 1e9:.2g} billion weights and needs at least "
        f"{_write_gb(facts.weights * itemsize)} of memory to answer, and {device} has {_write_gb(available)} free; {advice}"
    )


def _write_gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
