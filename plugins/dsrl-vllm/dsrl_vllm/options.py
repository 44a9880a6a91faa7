"""The options of the sampler ``vllm``, checked when the plugin is made."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from dsrl import SettingsError

FLAG = "--sampler-option"
_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,2})?")
_DTYPES = ("auto", "float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """The options; see :class:`dsrl_vllm.sampler.VllmSampler`."""

    model: str
    device: str = "auto"
    dtype: str = "auto"
    tensor_parallel: int = 1
    gpu_memory: float = 0.9
    cache_gb: float = 0.0
    max_sequences: int = 256
    context: int = 0


def parse_options(**values: Any) -> EngineOptions:
    """Check the options as the user gave them.

    Raises:
        SettingsError: a value is wrong.
    """
    options = EngineOptions(**values)
    if not isinstance(options.device, str) or not _DEVICE.fullmatch(options.device):
        raise SettingsError(f"There is no device {options.device!r}; use --device auto, cpu, cuda or cuda:N.")
    if options.dtype not in _DTYPES:
        raise SettingsError(
            f"The dtype {options.dtype!r} is not supported here; use --dtype auto, float32 or bfloat16."
        )
    for name, minimum in (("tensor_parallel", 1), ("max_sequences", 1), ("context", 0)):
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise SettingsError(f"{FLAG} {name}={value} must be a whole number of at least {minimum}")
    for name, maximum in (("gpu_memory", 1.0), ("cache_gb", math.inf)):
        value = getattr(options, name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or not 0 <= value <= maximum or (name == "gpu_memory" and value == 0):
            limit = " above 0 and at most 1" if name == "gpu_memory" else ", 0 or more"
            raise SettingsError(f"{FLAG} {name}={value} must be a number{limit}")
    if options.tensor_parallel > 1 and (options.device == "cpu" or ":" in options.device):
        raise SettingsError(
            f"{FLAG} tensor_parallel={options.tensor_parallel} divides the model among GPUs, and --device {options.device} "
            "is one device; leave one of the two out"
        )
    return options
