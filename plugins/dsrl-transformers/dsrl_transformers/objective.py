"""GRPO's objective (Shao et al. 2024, DeepSeekMath, section 4.1), over distinct completions with counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dsrl_transformers.trie import Trie, build_trie

CLIP = 0.2
_EPSILON = 1e-4


@dataclass(frozen=True)
class Group:
    """The answers to one prompt.

    Attributes:
        prompt: the tokens of the prompt.
        completions: the different answers.
        counts: how often each answer was drawn; the sum is the group's size G.
        rewards: the reward of each answer; it can be a ``dsrl.Reward`` with parts.
    """

    prompt: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]
    counts: tuple[int, ...]
    rewards: tuple[float, ...]

    @property
    def size(self) -> int:
        """The number of answers, G."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """The mean reward of the G answers."""
        return sum(r * c for r, c in zip(self.rewards, self.counts, strict=True)) / self.size

    @property
    def spread(self) -> float:
        """The standard deviation of the G rewards, with G - 1 in the denominator; 0 for a group of one."""
        if self.size < 2:
            return 0.0
        mean = self.mean
        squares = sum((r - mean) ** 2 * c for r, c in zip(self.rewards, self.counts, strict=True))
        return float((squares / (self.size - 1)) ** 0.5)

    @property
    def advantages(self) -> tuple[float, ...]:
        """For each of ``completions``: how much better than the group it is, in standard deviations."""
        mean, spread = self.mean, self.spread
        # Equal rewards differ from their mean by rounding only. A division would make that difference large.
        if max(self.rewards) == min(self.rewards):
            return (0.0,) * len(self.rewards)
        return tuple((r - mean) / (spread + _EPSILON) for r in self.rewards)


@dataclass(frozen=True)
class Piece:
    """Some completions of a group as a trie, with what the loss needs of each, in the order of ``trie.paths``.

    Attributes:
        trie: the prompt and the completions.
        weights: ``count / (G * prompts of the step)``; the weights of all pieces of a step sum to 1.
        advantages: the advantage of each completion.
    """

    trie: Trie
    weights: tuple[float, ...]
    advantages: tuple[float, ...]


@dataclass(frozen=True)
class Terms:
    """Sums over the pieces of a step. ``loss`` is what training minimises, ``kl`` the estimate without its weight."""

    loss: float
    kl: float


def cut_groups(
    groups: Sequence[Group], keep_equal: bool, share: bool, max_tokens: int, pair_cost: float = 0.0
) -> list[Piece]:
    """Cut groups into pieces of at most ``max_tokens`` tokens (a single completion may be longer).

    A piece computes its prompt once for all its completions, but each token of a piece also meets all others in the
    attention. So a row of ``S`` tokens costs ``S + pair_cost * S**2``, and a completion joins a piece only if that costs
    less than the completion with the prompt alone.

    Args:
        groups: all groups of the step.
        keep_equal: whether groups of equal rewards are kept. They have no gradient but that of the KL term.
        share: False puts each completion into a piece of its own, for models that cannot work on trees.
        max_tokens: limit on a piece.
        pair_cost: the cost of a pair of tokens in the attention, in passes of one token through the weights.
    """
    pieces = []
    for group in groups:
        if not keep_equal and not any(group.advantages):
            continue
        # In sorted order, completions with a common beginning are neighbours and stay together.
        order = sorted(
            (i for i in range(len(group.completions)) if group.completions[i]), key=group.completions.__getitem__
        )
        for part in _split_completions(group, order, max_tokens if share else 0, pair_cost):
            pieces.append(
                Piece(
                    trie=build_trie(group.prompt, [group.completions[i] for i in part]),
                    weights=tuple(group.counts[i] / (group.size * len(groups)) for i in part),
                    advantages=tuple(group.advantages[i] for i in part),
                )
            )
    return pieces


def _split_completions(group: Group, order: Sequence[int], max_tokens: int, pair_cost: float) -> Iterator[list[int]]:
    part: list[int] = []
    size = len(group.prompt)
    for i in order:
        completion = group.completions[i]
        if part:
            # In sorted order, what a completion has in common with the piece it has in common with the one before it.
            common = _count_common(completion, group.completions[part[-1]])
            new, alone = len(completion) - common, len(group.prompt) + len(completion)
            extra = new + pair_cost * ((size + new) ** 2 - size**2)
            if size + new > max_tokens or extra > alone + pair_cost * alone**2:
                yield part
                part, size = [], len(group.prompt)
        size += len(completion) - (common if part else 0)
        part.append(i)
    if part:
        yield part


def _count_common(one: Sequence[int], two: Sequence[int]) -> int:
    """Return the number of tokens with which both begin."""
    return next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


def make_batches(pieces: Sequence[Piece], tokens: int) -> list[list[Piece]]:
    """Put pieces of similar size together: at most ``tokens`` padded tokens, and at least one piece, per forward pass."""
    result: list[list[Piece]] = []
    prompt = inner = 0
    for piece in sorted(pieces, key=lambda p: p.trie.size):
        widths = max(prompt, len(piece.trie.prompt)), max(inner, len(piece.trie.inner))
        if not result or (len(result[-1]) + 1) * sum(widths) > tokens:
            result.append([])
            widths = len(piece.trie.prompt), len(piece.trie.inner)
        prompt, inner = widths
        result[-1].append(piece)
    return result


def backward(
    pieces: Sequence[Piece],
    policy: Callable[[Sequence[Trie]], Tensor],
    reference: Callable[[Sequence[Trie]], Tensor] | None,
    kl_coef: float,
) -> Terms:
    """Compute the loss of pieces and add its gradient to the weights.

    The terms of a completion are averaged over its tokens and weighted with the number of times that it was drawn.

    Args:
        pieces: the pieces of one forward pass.
        policy: returns the log-probabilities of all nodes, with gradient.
        reference: returns those of the starting model, without gradient; None switches the KL term off.
        kl_coef: weight of the KL term.
    """
    tries = [piece.trie for piece in pieces]
    reference_log_p = None
    if reference is not None:  # before the policy, whose pass keeps a lot in memory for its gradient
        with torch.no_grad():
            reference_log_p = reference(tries)
    log_p = policy(tries)
    node, weight, advantage = (t.to(log_p.device) for t in _flatten(pieces))
    log_p = log_p[node]
    # These very weights drew the completions, so the old policy is the current one and the ratio is 1. But the gradient of
    # the ratio is not 0.
    loss = compute_clipped_loss(log_p, log_p.detach(), advantage)
    kl = torch.zeros_like(loss)
    if reference_log_p is not None:
        kl = estimate_kl(log_p, reference_log_p[node])
        loss = loss + kl_coef * kl
    total = (weight * loss).sum()
    torch.autograd.backward(total)
    return Terms(loss=float(total.detach()), kl=float((weight * kl.detach()).sum()))


def compute_clipped_loss(log_p: Tensor, old_log_p: Tensor, advantage: Tensor) -> Tensor:
    """Return the clipped policy loss of each token. All arguments are [M]."""
    ratio = torch.exp(log_p - old_log_p)
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)


def estimate_kl(log_p: Tensor, reference_log_p: Tensor) -> Tensor:
    """Estimate the KL divergence of each token from the reference by Schulman's k3: never negative, with low variance."""
    gap = reference_log_p - log_p
    return torch.exp(gap) - gap - 1


def _flatten(pieces: Sequence[Piece]) -> tuple[Tensor, Tensor, Tensor]:
    """List the tokens of all completions: node, weight (of the completion / its length), advantage, each [M]."""
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
