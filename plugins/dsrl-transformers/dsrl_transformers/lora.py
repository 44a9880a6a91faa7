"""Low-rank adapters (Hu et al. 2021) through peft."""

from __future__ import annotations

from typing import Any

from dsrl.errors import DsrlError


def require_peft() -> None:
    """Refuse to train adapters where peft is missing.

    Raises:
        DsrlError: it is.
    """
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise DsrlError(
            "LoRA needs peft, which is not installed here: pip install 'dsrl-transformers[lora]' "
            "(or train all weights: lora rank 0)."
        ) from error


def add_adapters(model: Any, rank: int) -> Any:
    """Put adapters of ``rank`` on all linear layers but the last; only they are trained. Gives peft's model.

    Raises:
        DsrlError: peft is not installed.
    """
    require_peft()
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)
