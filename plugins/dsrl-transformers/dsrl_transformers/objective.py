"""GRPO's objective (Shao et al. 2024, DeepSeekMath, section 4.1), over distinct completions with counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dsrl_transformers.trie import Trie, plant

CLIP = 0.2
_EPSILON = 1e-4


@dataclass(frozen=True)
class Group:
    """The answers to one prompt.

    Attributes:
        prompt: its tokens.
        completions: the different answers.
        counts: how often each was drawn; the sum is the group's size G.
        rewards: the reward of each.
    """

    prompt: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]
    counts: tuple[int, ...]
    rewards: tuple[float, ...]

    @property
    def size(self) -> int:
        """G."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Mean reward of the G answers."""
        return sum(r * c for r, c in zip(self.rewards, self.counts, strict=True)) / self.size

    @property
    def spread(self) -> float:
        """Standard deviation of the G rewards, with G - 1 below the line; 0 for a group of one."""
        if self.size < 2:
            return 0.0
        mean = self.mean
        squares = sum((r - mean) ** 2 * c for r, c in zip(self.rewards, self.counts, strict=True))
        return float((squares / (self.size - 1)) ** 0.5)

    @property
    def advantages(self) -> tuple[float, ...]:
        """How much better than the group each of ``completions`` is, in standard deviations."""
        mean, spread = self.mean, self.spread
        # Equal rewards differ from their mean by rounding only, which must not be blown up.
        if max(self.rewards) == min(self.rewards):
            return (0.0,) * len(self.rewards)
        return tuple((r - mean) / (spread + _EPSILON) for r in self.rewards)


@dataclass(frozen=True)
class Piece:
    """Some completions of a group, planted, with what the loss needs: per completion, in the order of ``trie.paths``.

    Attributes:
        trie: prompt and completions.
        weights: ``count / (G * prompts of the step)``: the weights of all pieces of a step sum to 1.
        advantages: the advantage of each.
    """

    trie: Trie
    weights: tuple[float, ...]
    advantages: tuple[float, ...]


@dataclass(frozen=True)
class Terms:
    """Sums over a step's pieces. ``loss`` is what is minimised, ``kl`` the estimate before its weight."""

    loss: float
    kl: float


def cut(groups: Sequence[Group], with_kl: bool, share: bool, longest: int) -> list[Piece]:
    """Cut groups into pieces of at most ``longest`` tokens (a single completion may be longer).

    Without the KL term a group of equal rewards has no gradient, and is left out.

    Args:
        groups: all groups of the step.
        with_kl: whether the KL term will be asked for.
        share: False puts each completion in a piece of its own, for models that cannot work on trees.
        longest: bound on a piece, or twice the prompt if that is more: attention takes the square of it, so long
            completions are better off alone.
    """
    pieces = []
    for group in groups:
        if not with_kl and not any(group.advantages):
            continue
        # Sorted, completions with a common beginning are neighbours and stay together.
        order = sorted(
            (i for i in range(len(group.completions)) if group.completions[i]), key=group.completions.__getitem__
        )
        for part in _parts(group, order, max(longest, 2 * len(group.prompt)) if share else 0):
            pieces.append(
                Piece(
                    trie=plant(group.prompt, [group.completions[i] for i in part]),
                    weights=tuple(group.counts[i] / (group.size * len(groups)) for i in part),
                    advantages=tuple(group.advantages[i] for i in part),
                )
            )
    return pieces


def _parts(group: Group, order: Sequence[int], longest: int) -> Iterator[list[int]]:
    part: list[int] = []
    size = len(group.prompt)
    for i in order:
        if part and size + len(group.completions[i]) > longest:
            yield part
            part, size = [], len(group.prompt)
        part.append(i)
        size += len(group.completions[i])
    if part:
        yield part


def batches(pieces: Sequence[Piece], tokens: int) -> list[list[Piece]]:
    """Put pieces of like size together, at most ``tokens`` padded tokens (and at least one piece) a forward pass."""
    grouped: list[list[Piece]] = []
    prompt = inner = 0
    for piece in sorted(pieces, key=lambda p: p.trie.size):
        wide = max(prompt, len(piece.trie.prompt)), max(inner, len(piece.trie.inner))
        if not grouped or (len(grouped[-1]) + 1) * sum(wide) > tokens:
            grouped.append([])
            wide = len(piece.trie.prompt), len(piece.trie.inner)
        prompt, inner = wide
        grouped[-1].append(piece)
    return grouped


def backward(
    pieces: Sequence[Piece],
    policy: Callable[[Sequence[Trie]], Tensor],
    reference: Callable[[Sequence[Trie]], Tensor] | None,
    kl_coef: float,
) -> Terms:
    """Compute the loss of pieces and add its gradient to the weights.

    Each completion's terms are averaged over its tokens and count as often as it was drawn.

    Args:
        pieces: what goes into one forward pass.
        policy: gives the log-probabilities of all nodes, with gradient.
        reference: the same by the starting model, without; None switches the KL term off.
        kl_coef: weight of the KL term.
    """
    tries = [piece.trie for piece in pieces]
    log_p = policy(tries)
    node, weight, advantage = (t.to(log_p.device) for t in _entries(pieces))
    log_p = log_p[node]
    # The completions were drawn by these very weights, so the old policy is the present one and the ratio is 1. Its
    # gradient is not.
    loss = clipped(log_p, log_p.detach(), advantage)
    kl = torch.zeros_like(loss)
    if reference is not None:
        with torch.no_grad():
            reference_log_p = reference(tries)[node]
        kl = divergence(log_p, reference_log_p)
        loss = loss + kl_coef * kl
    total = (weight * loss).sum()
    torch.autograd.backward(total)
    return Terms(loss=float(total.detach()), kl=float((weight * kl.detach()).sum()))


def clipped(log_p: Tensor, old_log_p: Tensor, advantage: Tensor) -> Tensor:
    """Give each token's clipped policy loss. All arguments [M]."""
    ratio = torch.exp(log_p - old_log_p)
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)


def divergence(log_p: Tensor, reference_log_p: Tensor) -> Tensor:
    """Estimate each token's KL divergence from the reference: Schulman's k3, never negative, of low variance."""
    gap = reference_log_p - log_p
    return torch.exp(gap) - gap - 1


def _entries(pieces: Sequence[Piece]) -> tuple[Tensor, Tensor, Tensor]:
    """Lay the tokens of all completions end to end: node, weight (the completion's / length), advantage: [M] each."""
    node: list[int] = []
    weight: list[float] = []
    advantage: list[float] = []
    start = 0
    for piece in pieces:
        for path, w, a in zip(piece.trie.paths, piece.weights, piece.advantages, strict=True):
            node += [start + i for i in path]
            weight += [w / len(path)] * len(path)
            advantage += [a] * len(path)
        start += len(piece.trie.tokens)
    return torch.tensor(node), torch.tensor(weight), torch.tensor(advantage)
