"""Low-rank adapters (Hu et al. 2021) with the library peft."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dsrl import DataError, DsrlError
from dsrl_transformers.model_files import translate_errors


def require_peft() -> None:
    """Check that peft is installed.

    Raises:
        DsrlError: peft is not installed.
    """
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise DsrlError(
            "LoRA adapters need the package peft, which is not installed. Install it with: pip install 'peft>=0.17' "
            "(--lora-rank 0 trains all weights without it)."
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


def merge_adapters(adapted: Any) -> Any:
    """Add the adapters of peft's model to its weights. Return the model without adapters.

    The sum is made in float32 and rounded once to the type of the weight, one layer at a time.
    """
    import torch
    from peft.tuners.lora import LoraLayer

    with torch.no_grad():
        layers: list[Any] = [module for module in adapted.modules() if isinstance(module, LoraLayer)]
        for layer in layers:
            weight = layer.get_base_layer().weight
            for name in layer.active_adapters:
                weight.copy_(weight.float() + layer.get_delta_weight(name).float())
    return adapted.unload()


@contextmanager
def use_adapter(model: Any, folder: Path | None) -> Iterator[None]:
    """Put the adapter in a folder on a model while the context lasts. None leaves the model as it is.

    Raises:
        DataError: the folder holds no adapter for this model. The model cannot be used any more.
        DsrlError: peft is not installed.
    """
    if folder is None:
        yield
        return
    require_peft()
    from peft import PeftModel

    if not folder.is_dir():
        raise DataError(f"The folder {folder} of a LoRA adapter does not exist.")
    with translate_errors(str(folder), "adapter"):
        adapted = PeftModel.from_pretrained(model, str(folder), torch_device=str(model.device)).eval()
    try:
        yield
    finally:
        adapted.unload()
