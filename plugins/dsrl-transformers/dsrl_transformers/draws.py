"""The random numbers of the attempts, and the tokens that they pick from a model's logits."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dsrl import DsrlError

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_BLOCK = 128  # tokens whose probabilities are summed in float32
_HEAD = 512  # most probable tokens among which the nucleus is looked for first
_MAX_ELEMENTS = 2**24  # of a table of probabilities: a limit on memory, 64 MB in float32


@dataclass(frozen=True, slots=True)
class DrawRules:
    """What decides the next tokens.

    Attributes:
        temperature, top_p, max_tokens: see :class:`dsrl_transformers.decode.DecodeSettings`.
        stop: tokens that end a completion.
        streams: [P, n] the random numbers of the attempts at all prompts.
    """

    temperature: float
    top_p: float
    max_tokens: int
    stop: frozenset[int]
    streams: np.ndarray


def make_streams(prompts: Sequence[Sequence[int]], attempts: range, seed: int) -> np.ndarray:
    """Make the starting state of each attempt's random numbers, [P, n], from seed, prompt and number of the attempt."""
    repeats: Counter[bytes] = Counter()
    states = np.empty((len(prompts), 1), dtype=np.uint64)
    for i, prompt in enumerate(prompts):
        ids = np.asarray(prompt, dtype=np.int64).tobytes()
        digest = hashlib.blake2b(f"{seed}/{repeats[ids]}/".encode() + ids, digest_size=8).digest()
        states[i] = int.from_bytes(digest, "little")
        repeats[ids] += 1
    return _mix(_mix(states) + np.arange(attempts.start, attempts.stop, dtype=np.uint64)[None] * _GAMMA)


def get_uniform(streams: np.ndarray, step: int | np.ndarray) -> np.ndarray:
    """Return number ``step`` of each stream, in [0, 1): SplitMix64 (Steele, Lea and Flood 2014), by counter."""
    bits = _mix(streams + (np.atleast_1d(step).astype(np.uint64) + np.uint64(1)) * _GAMMA)
    uniform: np.ndarray = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return uniform


def pick_tokens(logits: Tensor, leaf: Tensor, random: Tensor, temperature: float, top_p: float) -> Tensor:
    """Pick a token for each attempt from the distribution of its leaf.

    Args:
        logits: [R, V].
        leaf: [A] the leaf of each attempt, ascending.
        random: [A] numbers in [0, 1).
        temperature: above 0.
        top_p: nucleus; 1 is off.

    Returns:
        [A] tokens.

    Raises:
        DsrlError: the logits are not numbers.
    """
    picked = torch.empty_like(leaf)
    size = max(1, _MAX_ELEMENTS // logits.shape[-1])
    for start in range(0, len(logits), size):
        low, high = torch.searchsorted(leaf, torch.tensor([start, start + size], device=leaf.device)).tolist()
        row, part = leaf[low:high] - start, logits[start : start + size]
        counts = torch.bincount(row, minlength=len(part))
        column = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
        uniform = torch.zeros(len(part), int(counts.max()), dtype=torch.double, device=row.device)
        uniform[row, column] = random[low:high]
        picked[low:high], is_valid = _invert_at(part, uniform, row, column, temperature, top_p)
        require_numbers(is_valid)
    return picked


def pick_one_each(logits: Tensor, random: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
    """Pick tokens for the same number of attempts in each row, without waiting for the device.

    Args:
        logits: [R, V].
        random: [R, K] numbers in [0, 1).
        temperature: above 0.
        top_p: nucleus; 1 is off.

    Returns:
        [R, K] tokens, and whether the logits are numbers, for :func:`require_numbers`.
    """
    size = max(1, _MAX_ELEMENTS // logits.shape[-1])
    parts = [
        invert(logits[i : i + size], random[i : i + size], temperature, top_p) for i in range(0, len(logits), size)
    ]
    return torch.cat([token for token, _ in parts]), torch.stack([is_valid for _, is_valid in parts]).all()


def require_numbers(is_valid: Tensor) -> None:
    """Check what :func:`invert` found out about the logits. This waits for the device.

    Raises:
        DsrlError: the logits are not numbers.
    """
    if not bool(is_valid):
        raise DsrlError(
            "The model's logits are not numbers: its weights are damaged, or the range of its dtype is too small. "
            "Use --dtype float32, or another model."
        )


def invert(logits: Tensor, uniform: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
    """Invert the distribution function of each row, [R, V], at its numbers, [R, K]: [R, K] tokens.

    Also return whether the logits are numbers, as a tensor, so that the caller decides when to wait for it.
    """
    count, width = uniform.shape
    row = torch.arange(count, device=uniform.device).repeat_interleave(width)
    column = torch.arange(width, device=uniform.device).repeat(count)
    token, is_valid = _invert_at(logits, uniform, row, column, temperature, top_p)
    return token.view(uniform.shape), is_valid


def _invert_at(
    logits: Tensor, uniform: Tensor, row: Tensor, column: Tensor, temperature: float, top_p: float
) -> tuple[Tensor, Tensor]:
    """Do as :func:`invert`, for the numbers in ``row`` and ``column`` ([A]) only: [A] tokens."""
    if top_p < 1:
        token, is_valid = _invert_nucleus(logits, uniform, temperature, top_p)
        return token[row, column], is_valid
    # Probabilities and the sums of short blocks are in float32, as exact as the logits themselves. What is added up over the
    # whole vocabulary is in double. Only the block that is hit is looked at token by token.
    p = logits.to(torch.float32, copy=True)
    p.sub_(p.amax(-1, keepdim=True))
    if temperature != 1:
        p.div_(temperature)
    p.exp_()
    if p.shape[-1] % _BLOCK:
        p = torch.nn.functional.pad(p, (0, -p.shape[-1] % _BLOCK))
    blocks = p.view(len(p), -1, _BLOCK)
    mass = blocks.sum(-1).double()
    below = mass.cumsum(-1)
    target = uniform * below[:, -1:]
    block = torch.searchsorted(below, target, right=True).clamp(max=below.shape[-1] - 1)
    width = mass.gather(1, block)
    share = ((target - below.gather(1, block) + width) / width).clamp(0, 1 - 2.0**-53)
    block = block[row, column]
    inside = blocks[row, block].double().cumsum(-1)  # [A, _BLOCK]
    offset = (inside <= share[row, column, None] * inside[:, -1:]).sum(-1).clamp(max=_BLOCK - 1)
    return (block * _BLOCK + offset).clamp(max=logits.shape[-1] - 1), torch.isfinite(below[:, -1]).all()


def _invert_nucleus(logits: Tensor, uniform: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
    p = torch.softmax(logits.double() / temperature, dim=-1)
    if logits.device.type != "cpu" or logits.shape[-1] <= 4 * _HEAD:
        return _invert_sorted(*p.sort(dim=-1, descending=True, stable=True), uniform, top_p, p.sum(-1, keepdim=True))
    # To sort a whole vocabulary takes a CPU as long as to compute a token, and the nucleus is nearly always short.
    mass = p.sum(-1, keepdim=True)
    order = p.topk(_HEAD, dim=-1).indices.sort(dim=-1).values
    head, place = p.gather(1, order).sort(dim=-1, descending=True, stable=True)
    token, is_valid = _invert_sorted(head, order.gather(1, place), uniform, top_p, mass)
    # Of equal probabilities at the end of the head, some may be missing.
    is_short = (head * (head > head[:, -1:])).sum(-1, keepdim=True) > top_p * mass
    rest = (~is_short).squeeze(1).nonzero().squeeze(1)
    if len(rest):
        parts = p[rest].sort(dim=-1, descending=True, stable=True)
        token[rest], is_rest_valid = _invert_sorted(*parts, uniform[rest], top_p, mass[rest])
        is_valid = is_valid & is_rest_valid
    return token, is_valid


def _invert_sorted(p: Tensor, order: Tensor, uniform: Tensor, top_p: float, mass: Tensor) -> tuple[Tensor, Tensor]:
    """Pick from the shortest head of descending probabilities ([R, H]) that has at least ``top_p`` of the mass."""
    below = p.cumsum(dim=-1)
    last = torch.searchsorted(below, (top_p * mass).contiguous()).clamp(max=below.shape[-1] - 1)
    head_mass = below.gather(1, last)
    token = torch.searchsorted(below, uniform * head_mass, right=True).clamp(max=below.shape[-1] - 1)
    return order.gather(1, token), torch.isfinite(head_mass).all()


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed
