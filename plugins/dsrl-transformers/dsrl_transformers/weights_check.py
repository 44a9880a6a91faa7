"""Checks of a model's weights before anything is paid: do they belong to the configuration, and are they finite numbers?

The shapes come from the headers of the files and from a model without memory (device ``meta``). For the values, one tensor
after the other is read; the model itself is not loaded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsrl import DataError
from dsrl_transformers.model_files import find_weight_files, translate_errors

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

#: Time limit for reading the values of the weights, in seconds. What is not read then is checked when the model is loaded.
VALUE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class _StoredTensor:
    """A tensor in a file: its shape, and a function that reads it."""

    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def check_weights(name: str) -> None:
    """Check the weights of a model that is on this machine; the weights of a model on the hub are not there yet.

    Args:
        name: a folder or a hub id.

    Raises:
        DataError: the weights do not belong to the configuration, some are not finite numbers, or a library that their
            number format needs is not installed.
    """
    files = find_weight_files(name)
    if not files:
        return
    with translate_errors(name):
        states = [(file.resolve(), file.stat()) for file in (*files, files[0].with_name("config.json"))]
    _check_files(name, tuple(files), tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in states))


# The sampler and the trainer check the same files.
@lru_cache(maxsize=4)
def _check_files(name: str, files: tuple[Path, ...], states: tuple[tuple[Path, int, int], ...]) -> None:
    with translate_errors(name):
        tensors = {key: tensor for file in files for key, tensor in _list_tensors(file)}
        _check_shapes(name, {key: tensor.shape for key, tensor in tensors.items()})
        _check_values(name, tensors)


def _list_tensors(file: Path) -> Iterator[tuple[str, _StoredTensor]]:
    """Yield the name of each tensor of a file, and the tensor without its values."""
    if file.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(file, "pt") as weights:
            for key in weights.keys():  # noqa: SIM118 - not a dictionary
                shape = tuple(weights.get_slice(key).get_shape())
                yield key, _StoredTensor(shape, partial(_read_tensor, file, key))
        return
    import torch

    # As the library does it: the file is mapped into memory, and only tensors are unpickled.
    for key, tensor in torch.load(file, map_location="cpu", weights_only=True, mmap=True).items():
        if isinstance(tensor, torch.Tensor):
            yield str(key), _StoredTensor(tuple(tensor.shape), partial(_keep, tensor))


def _keep(tensor: Tensor) -> Tensor:
    return tensor


def _read_tensor(file: Path, key: str) -> Tensor:
    from safetensors import safe_open

    with safe_open(file, "pt") as weights:
        tensor: Tensor = weights.get_tensor(key)
    return tensor


# --- shapes ------------------------------------------------------------------------------------------------------------


def _check_shapes(name: str, stored: Mapping[str, Sequence[int]]) -> None:
    """Check that a model with this configuration has the weights of the files."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config: Any = AutoConfig.from_pretrained(name, trust_remote_code=False)
    quantization = getattr(config, "quantization_config", None)
    if quantization is not None:
        _require_quantizer(name, quantization)
        return  # the files hold packed numbers
    layers = getattr(config.get_text_config(decoder=True), "num_hidden_layers", 0)
    if isinstance(layers, int) and layers > len(stored):  # before a model of so many layers is built
        raise _make_mismatch_error(
            name, f"config.json tells of {layers} layers, and the files hold {len(stored)} weights"
        )
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
    if _has_conversions(config.model_type):
        return
    expected = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    for key, shape in stored.items():
        if key in expected and tuple(shape) != expected[key]:
            raise _make_mismatch_error(
                name,
                f"by config.json {key} has the shape {_write_shape(expected[key])}, in the files {_write_shape(shape)}",
            )
    # Other names may be an older form that the library knows how to read.
    if stored.keys() <= expected.keys():
        may_miss = set(getattr(model, "all_tied_weights_keys", None) or {})
        missing = sorted(expected.keys() - stored.keys() - may_miss - {key for key, _ in model.named_buffers()})
        if missing:
            raise _make_mismatch_error(name, f"{len(missing)} weights are not in the files, among them {missing[0]}")


def _require_quantizer(name: str, settings: Any) -> None:
    """Check that the library for the number format of the weights is installed."""
    from transformers.quantizers.auto import AutoHfQuantizer

    try:
        with suppress(ValueError, TypeError, RuntimeError, AttributeError, KeyError):
            AutoHfQuantizer.from_config(settings, pre_quantized=True).validate_environment(device_map=None)
    except ImportError as error:
        first_line = (str(error).strip().splitlines() or ["a library is missing"])[0][:300]
        raise DataError(
            f"the weights of {name} are quantized, and this installation cannot read them: {first_line}; give the same "
            "model without quantization"
        ) from error


def _has_conversions(model_type: str) -> bool:
    """Return whether the library changes names or shapes of the weights of this architecture when it loads them."""
    try:
        from transformers.conversion_mapping import get_checkpoint_conversion_mapping
    except ImportError:  # an older version, which changes none
        return False
    return get_checkpoint_conversion_mapping(model_type) is not None  # type: ignore[no-untyped-call]


def _make_mismatch_error(name: str, difference: str) -> DataError:
    return DataError(
        f"the weights of {name} do not belong to its config.json: {difference}; fetch the model again, or give another one "
        "with --base-model"
    )


def _write_shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "of one number"


# --- values ------------------------------------------------------------------------------------------------------------


def _check_values(name: str, tensors: Mapping[str, _StoredTensor]) -> None:
    """Check that the weights are finite numbers, until the time is up."""
    import torch

    end = time.monotonic() + VALUE_SECONDS
    broken = []
    for number, (key, tensor) in enumerate(tensors.items()):
        if time.monotonic() > end:
            log.info("%d of %d weights of %s were read; the others are checked later.", number, len(tensors), name)
            break
        values = tensor.read()
        if values.is_floating_point():
            # Formats of 8 bits have no sum of their own.
            total = (values if values.element_size() > 1 else values.float()).sum(dtype=torch.float32)
            if not torch.isfinite(total):
                broken.append(key)
    if broken:
        raise make_value_error(name, broken, len(tensors))


def make_value_error(name: str, broken: Sequence[str], total: int) -> DataError:
    """Return the error about weights that are not finite numbers.

    Args:
        name: the model.
        broken: the names of the weights that hold such values, at least one.
        total: the number of weights that the model has.
    """
    return DataError(
        f"{len(broken)} of {total} weights of the model {name} hold values that are not finite numbers (NaN or infinity), "
        f"among them {broken[0]}. The files are damaged, or the training that made them has failed: fetch the model again, "
        "or give another one with --base-model"
    )
