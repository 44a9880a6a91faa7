"""Log-probabilities of tokens from hidden states, without the logits of all places in memory at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

#: Maximum number of logits that are in memory at once: 128 MB in float32, 512 MB on CUDA, where small products are slow.
_MAX_LOGITS = 2**25
_MAX_LOGITS_CUDA = 2**27


def compute_token_log_probabilities(
    hidden: Tensor, weight: Tensor, place: Tensor, token: Tensor, temperature: float, max_logits: int = 0
) -> Tensor:
    """Return the log-probability of each token, [M], in float32 (float64 for double input).

    It is ``log_softmax(hidden @ weight.T / temperature)[place, token]``, exact to rounding, and so is its gradient. The
    logits are computed for some places at a time. The backward pass computes them again, unless they are few enough to be in
    memory all at once.

    Args:
        hidden: [P, D] the last hidden states of the model.
        weight: [V, D] the weight of the output layer.
        place: [M] for each token, the row of ``hidden`` that predicts it.
        token: [M] the tokens.
        temperature: the logits are divided by it.
        max_logits: maximum number of logits in memory; 0 is the default for the device.
    """
    max_logits = max_logits or (_MAX_LOGITS_CUDA if hidden.device.type == "cuda" else _MAX_LOGITS)
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    place, order = torch.sort(place, stable=True)
    with torch.autocast(kind, enabled=False):
        log_p: Tensor = _TokenLogProbability.apply(  # type: ignore[no-untyped-call]
            hidden, weight, place, token[order], temperature, max(1, max_logits // len(weight)), dtype
        )
    return log_p[torch.argsort(order)]


class _TokenLogProbability(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        place: Tensor,
        token: Tensor,
        temperature: float,
        chunk: int,
        dtype: torch.dtype,
    ) -> Tensor:
        # The nodes of places a .. b-1 are the nodes bounds[a/chunk] .. bounds[a/chunk + 1] - 1.
        starts = torch.arange(0, len(hidden) + chunk, chunk, device=place.device)
        bounds = torch.searchsorted(place, starts).tolist()
        ctx.save_for_backward(hidden, weight, place, token)
        ctx.temperature, ctx.chunk, ctx.dtype, ctx.bounds, ctx.softmax = temperature, chunk, dtype, bounds, None
        used = weight.to(dtype)
        parts = []
        for number, start in enumerate(range(0, len(hidden), chunk)):
            low, high = bounds[number], bounds[number + 1]
            softmax, log_p = _compute_chunk(
                hidden[start : start + chunk].to(dtype), used, place[low:high] - start, token[low:high], temperature
            )
            parts.append(log_p)
            if len(hidden) <= chunk:
                ctx.softmax = softmax  # everything fits, so it need not be computed again
        return torch.cat(parts) if parts else hidden.new_zeros(0)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, place, token = ctx.saved_tensors
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        used = weight.to(ctx.dtype)
        hidden_gradient = torch.empty_like(hidden) if needs_hidden else None
        weight_gradient = torch.zeros_like(weight) if needs_weight else None
        for number, start in enumerate(range(0, len(hidden), ctx.chunk)):
            low, high = ctx.bounds[number], ctx.bounds[number + 1]
            states = hidden[start : start + ctx.chunk].to(ctx.dtype)
            row, ids = place[low:high] - start, token[low:high]
            softmax, ctx.softmax = ctx.softmax, None
            if softmax is None:
                softmax, _ = _compute_chunk(states, used, row, ids, ctx.temperature)
            g = gradient[low:high].to(softmax.dtype) / ctx.temperature
            # d log_p / d logits is onehot(token) - softmax; a place may predict several tokens.
            sums = g.new_zeros(len(states)).index_add_(0, row, g)
            logits_gradient = softmax.mul_(-sums[:, None]).index_put_((row, ids), g, accumulate=True).to(ctx.dtype)
            if hidden_gradient is not None:
                hidden_gradient[start : start + ctx.chunk] = logits_gradient @ used
            if weight_gradient is not None:
                if weight_gradient.dtype == ctx.dtype:
                    weight_gradient.addmm_(logits_gradient.T, states)
                else:
                    weight_gradient += logits_gradient.T @ states
        return hidden_gradient, weight_gradient, None, None, None, None, None


def _compute_chunk(
    hidden: Tensor, weight: Tensor, row: Tensor, token: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return the softmax of some places, [C, V], and the log-probabilities of their tokens. One buffer holds all steps."""
    logits = hidden @ weight.T
    logits = (logits if logits.dtype == torch.double else logits.float()).div_(temperature)
    logits -= logits.amax(dim=-1, keepdim=True)
    target = logits[row, token]
    total = logits.exp_().sum(dim=-1, keepdim=True)
    return logits.div_(total), target - total[row, 0].log()


def has_linear_head(model: Any) -> bool:
    """Return whether the logits of a model are its last hidden states times the weight of its output layer.

    The function tries it on a few tokens. It is false, for example, for models that scale or cap their logits.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear) or head.bias is not None or model.base_model is model:
        return False
    ids = torch.arange(3, 8, device=model.device)[None] % len(head.weight)
    try:
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False).logits
            hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
            product = nn.functional.linear(hidden, head.weight.to(hidden.dtype))
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
        return False
    if product.shape != logits.shape:
        return False
    return bool((product.float() - logits.float()).abs().max() <= 1e-3 * logits.float().std())
