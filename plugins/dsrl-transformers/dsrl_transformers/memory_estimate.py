"""How much memory a training needs, from the sizes of the model alone, and how much a device has.

For a model of ``N`` weights of which ``T`` are trained (all, or those of the adapters), in bytes:

    weights      4 N; with adapters 2 N if the frozen weights are in bfloat16
    gradients    4 T
    optimizer    8 T (AdamW's two moments); 2 T with ``adamw8bit``
    reference    with a KL term and without adapters 4 N, or 2 N if the base model is stored in bfloat16; else 0
    activations  of a pass of ``n`` tokens: n * layers * (6 hidden + 3 heads * head size + 4 intermediate) * 4;
                 two thirds of that if the forward pass is in bfloat16, measured on a GPU;
                 with layers that are computed again: n * layers * hidden * 4 and one layer in full

A checkpoint needs no memory of its own: it is written from where the weights are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from dsrl.machine import read_free_memory, read_total_memory

#: Frozen weights that would take more than this share of the memory in float32 are kept in bfloat16.
_MAX_FROZEN_SHARE = 0.5
#: Memory of the process without the model, in bytes: the libraries and their buffers.
PROCESS_BYTES = 600 * 2**20
#: Size of the activations of a forward pass in bfloat16, in those of float32: what is between the layers stays float32.
_NARROW_SHARE = 2 / 3


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a model from its configuration; 0 for what the configuration does not say.

    Attributes:
        hidden: size of a hidden state.
        layers: number of layers.
        intermediate: size of the inner layer of the feed-forward network.
        attention: number of heads times the size of a head.
        key_value: number of key-value heads times the size of a head.
        vocabulary: number of tokens.
    """

    hidden: int = 0
    layers: int = 0
    intermediate: int = 0
    attention: int = 0
    key_value: int = 0
    vocabulary: int = 0

    def count_adapter_weights(self, rank: int) -> int:
        """Return the number of weights of LoRA adapters on the linear layers of a model like Llama."""
        widths = 2 * (self.hidden + self.attention) + 2 * (self.hidden + self.key_value)
        return rank * self.layers * (widths + 3 * (self.hidden + self.intermediate))

    def get_pass_bytes(self, tokens: int, is_recomputed: bool, is_narrow: bool = False) -> int:
        """Return the bytes of the activations of a training pass.

        Args:
            tokens: the tokens of the pass.
            is_recomputed: whether each layer keeps only its input, so that one layer at a time is in memory.
            is_narrow: whether the forward pass is in bfloat16.
        """
        one_layer = 6 * self.hidden + 3 * self.attention + 4 * self.intermediate
        if is_recomputed:
            return 4 * tokens * (self.layers * self.hidden + one_layer)
        return int(4 * tokens * self.layers * one_layer * (_NARROW_SHARE if is_narrow else 1))


def read_shape(config: Any) -> ModelShape:
    """Read the sizes of a model from its configuration."""

    def read(*names: str) -> int:
        values = (getattr(config, name, None) for name in names)
        return next((value for value in values if isinstance(value, int) and value > 0), 0)

    hidden, heads = read("hidden_size", "n_embd", "d_model"), read("num_attention_heads", "n_head")
    size = read("head_dim") or (hidden // heads if heads else 0)
    return ModelShape(
        hidden=hidden,
        layers=read("num_hidden_layers", "n_layer"),
        intermediate=read("intermediate_size", "n_inner", "ffn_dim") or 4 * hidden,
        attention=heads * size,
        key_value=(read("num_key_value_heads") or heads) * size,
        vocabulary=read("vocab_size"),
    )


@dataclass(frozen=True, slots=True)
class MemoryNeeds:
    """The bytes that a training needs; see the top of this module."""

    weights: int
    gradients: int
    optimizer: int
    reference: int

    @property
    def total(self) -> int:
        """All of them, without the activations."""
        return self.weights + self.gradients + self.optimizer + self.reference


@dataclass(frozen=True, slots=True)
class TrainingKind:
    """What the memory of a training depends on, beside the model.

    Attributes:
        lora_rank: rank of the adapters; 0 if all weights are trained.
        has_kl: whether the loss has a KL term.
        is_8bit: whether the optimizer's moments have 8 bits.
        has_narrow_base: whether the frozen weights of a training of adapters are in bfloat16.
        is_stored_narrow: whether the base model is stored in bfloat16.
    """

    lora_rank: int
    has_kl: bool
    is_8bit: bool
    has_narrow_base: bool
    is_stored_narrow: bool


def estimate_memory(weights: int, shape: ModelShape, kind: TrainingKind) -> MemoryNeeds:
    """Estimate the memory of a training.

    Args:
        weights: number of weights of the model.
        shape: its sizes.
        kind: the kind of the training.
    """
    has_adapters = kind.lora_rank > 0
    adapters = shape.count_adapter_weights(kind.lora_rank)
    trained = adapters if has_adapters else weights
    has_copy = kind.has_kl and not has_adapters
    return MemoryNeeds(
        weights=weights * (2 if has_adapters and kind.has_narrow_base else 4) + 4 * adapters,
        gradients=4 * trained,
        optimizer=trained * (2 if kind.is_8bit else 8),
        reference=weights * (2 if kind.is_stored_narrow else 4) if has_copy else 0,
    )


def needs_narrow_base(weights: int, is_stored_narrow: bool, is_forward_narrow: bool, capacity: int | None) -> bool:
    """Return whether the frozen weights of a training of adapters are kept in bfloat16.

    They are if the forward pass is in bfloat16 anyway, or if the model is stored so and would fill too much of the memory in
    float32. A layer that computes in float32 with narrow weights is slower.
    """
    if is_forward_narrow:
        return True
    return is_stored_narrow and capacity is not None and 4 * weights > _MAX_FROZEN_SHARE * capacity


def list_fitting_settings(
    weights: int, shape: ModelShape, kind: TrainingKind, available: int, is_cuda: bool
) -> list[str]:
    """Return the changes of settings with which a training would fit into the memory, the smallest change first."""
    changes: list[tuple[str, TrainingKind]] = []
    if kind.lora_rank == 0:
        if kind.has_kl:
            changes.append(("--kl-coef 0", replace(kind, has_kl=False)))
        if is_cuda and not kind.is_8bit:
            changes.append(("--trainer-option optimizer=adamw8bit", replace(kind, is_8bit=True)))
            if kind.has_kl:
                both = replace(kind, is_8bit=True, has_kl=False)
                changes.append(("--kl-coef 0 --trainer-option optimizer=adamw8bit", both))
        changes.append(("--lora-rank 16", replace(kind, lora_rank=16)))
        changes.append(("--lora-rank 16 --dtype bfloat16", replace(kind, lora_rank=16, has_narrow_base=True)))
    else:
        if kind.lora_rank > 16:
            changes.append(("--lora-rank 16", replace(kind, lora_rank=16)))
        if not kind.has_narrow_base:
            changes.append(("--dtype bfloat16", replace(kind, has_narrow_base=True)))
    return [text for text, other in changes if estimate_memory(weights, shape, other).total <= available]


# --- the memory of a device --------------------------------------------------------------------------------------------


def read_capacity(device: Any) -> int | None:
    """Return the bytes of memory that a device has in all; None if that cannot be read."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    if device.type != "cpu":
        return None
    return read_total_memory()


def read_available_memory(device: Any) -> int | None:
    """Return the bytes of memory that are free on a device now; None if that cannot be read."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    return read_free_memory()


#: In lower case, what a RuntimeError says if a device or the main memory has too little space: the allocator for the CPU (of
#: Linux and macOS, of Windows), CUDA, and its library for matrices.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "cublas_status_alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a device has too little memory."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _OUT_OF_MEMORY)
