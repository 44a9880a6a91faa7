"""Two ways to need less memory in training: frozen weights in 16 bits, and layers that are computed again backward."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


def store_in_bfloat16(model: Any) -> None:
    """Store the weights of frozen linear layers and embeddings in bfloat16 where that loses nothing.

    The layers compute in the type of their input as before, so the results are the same. All other weights become float32.

    Args:
        model: a model none of whose weights is trained.
    """
    with torch.no_grad():
        narrow = set()
        for module in model.modules():
            # Subclasses have a forward of their own.
            if type(module) not in (nn.Linear, nn.Embedding):
                continue
            small = module.weight.data.to(torch.bfloat16)
            if not torch.equal(small.to(module.weight.dtype), module.weight.data):
                continue
            module.weight.data = small
            narrow.add(id(module.weight))
            module.forward = partial(_apply_linear if isinstance(module, nn.Linear) else _apply_embedding, module)
        for weight in model.parameters():
            if id(weight) not in narrow:
                weight.data = weight.data.float()
        for buffer in model.buffers():
            if buffer.dtype in (torch.bfloat16, torch.float16):
                buffer.data = buffer.data.float()


def _apply_linear(layer: Any, states: Tensor) -> Tensor:
    kind = states.device.type
    if torch.is_autocast_enabled(kind):
        return functional.linear(states, layer.weight, layer.bias)
    result: Tensor = _FrozenLinear.apply(states, layer.weight, layer.bias)  # type: ignore[no-untyped-call]
    return result


def _apply_embedding(layer: Any, ids: Tensor) -> Tensor:
    return functional.embedding(ids, layer.weight, layer.padding_idx).float()


class _FrozenLinear(torch.autograd.Function):
    """A linear layer that keeps only its narrow weight for the backward pass."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return functional.linear(states, weight.to(states.dtype), bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return gradient @ weight.to(gradient.dtype), None, None


def recompute_layers(model: Any) -> bool:
    """Make each layer keep only its input for the backward pass, which computes the layer again (gradient checkpointing).

    The library's own switch works in training mode only, which would also switch dropout on.

    Returns:
        Whether the model has layers with which this is possible.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    for layer in layers:
        layer.forward = partial(_run_layer, layer.forward)
    return bool(layers)


def _run_layer(forward: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*arguments, **settings)
    return checkpoint(forward, *arguments, use_reentrant=False, preserve_rng_state=False, **settings)
