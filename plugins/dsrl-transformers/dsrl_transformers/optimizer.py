"""The optimizers of the training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dsrl import DsrlError, SettingsError

#: Values of the option ``optimizer``.
OPTIMIZERS = ("adamw", "adamw8bit")


def check_optimizer(name: str, device: Any) -> None:
    """Check that an optimizer can be used on a device.

    Raises:
        DsrlError: the package bitsandbytes is needed and not installed.
        SettingsError: the optimizer needs a CUDA device.
    """
    if name != "adamw8bit":
        return
    if device.type != "cuda":
        raise SettingsError(
            f"--trainer-option optimizer=adamw8bit needs a CUDA device, and the device is {device}; use optimizer=adamw"
        )
    try:
        import bitsandbytes  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        raise DsrlError(
            "--trainer-option optimizer=adamw8bit needs the package bitsandbytes, which is not installed. Install it with: "
            "pip install 'bitsandbytes>=0.45' (optimizer=adamw works without it)."
        ) from error


def make_optimizer(name: str, weights: Iterable[Any], device: Any, weight_decay: float = 0.0) -> Any:
    """Make AdamW; with ``adamw8bit`` its two moments have 8 bits and can move to the host's memory.

    Raises:
        DsrlError: see :func:`check_optimizer`.
    """
    import torch

    check_optimizer(name, device)
    if name == "adamw8bit":
        import bitsandbytes

        return bitsandbytes.optim.PagedAdamW8bit(list(weights), weight_decay=weight_decay)
    # The fused kernel makes no temporary copies of the weights.
    return torch.optim.AdamW(list(weights), weight_decay=weight_decay, fused=device.type in ("cpu", "cuda"))
