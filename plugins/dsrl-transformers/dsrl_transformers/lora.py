"""Low-rank adapters (Hu et al. 2021) with the library peft."""

from __future__ import annotations

from typing import Any

from dsrl import DsrlError


def require_peft() -> None:
    """Check that peft is installed.

    Raises:
        DsrlError: peft is not installed.
    """
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise DsrlError(
            "LoRA needs the package peft, which is not installed. Install it with: pip install 'dsrl-transformers[lora]', "
            "or train all weights with --lora-rank 0."
        ) from error


def add_adapters(model: Any, rank: int) -> Any:
    """Add adapters of ``rank`` to all linear layers but the last. Only the adapters are trained. Return peft's model.

    Raises:
        DsrlError: peft is not installed.
    """
    require_peft()
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)
