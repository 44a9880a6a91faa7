"""Sampling many completions of many prompts without computing the same prefix twice.

Each of the ``n`` attempts at a prompt has random numbers of its own and draws its tokens independently of the others,
so the result is exactly that of ``n`` separate runs. But attempts that have drawn the same tokens so far are one leaf
of a tree (:mod:`dsrl_transformers.forest`), and the model computes a leaf once: 64 attempts at a question with
three likely answers cost the prompt and a few tokens.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dsrl import DsrlError
from dsrl_transformers.forest import Forest, prefill


class Cancelled(Exception):
    """The caller does not need the completions any more."""


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """How many completions to draw, and how.

    Attributes:
        n: number of attempts per prompt.
        temperature: 0 is greedy.
        top_p: nucleus; 1 is off.
        max_tokens: maximum length of a completion in tokens.
        seed: seed of the random numbers.
        cache_tokens: approximate maximum number of tokens whose keys and values are in memory at once.
        first: number of the first attempt: the attempts ``first .. first + n - 1`` are drawn.
    """

    n: int
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    cache_tokens: int
    first: int = 0


@dataclass(frozen=True, slots=True)
class Completions:
    """The completions of one prompt.

    Attributes:
        distinct: the different token sequences, each with its stop token if it has one.
        indices: for each of the ``n`` attempts, the index of its sequence in ``distinct``.
    """

    distinct: tuple[tuple[int, ...], ...]
    indices: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """How many attempts have each of ``distinct``; the sum is ``n``."""
        count = Counter(self.indices)
        return tuple(count[i] for i in range(len(self.distinct)))


@torch.inference_mode()
def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    settings: DecodeSettings,
    stop: Collection[int],
    is_cancelled: Callable[[], bool] = lambda: False,
) -> list[Completions]:
    """Draw completions of each prompt from ``softmax(logits / temperature)``, cut to the nucleus of ``top_p``.

    The same call returns the same completions on the same machine, whatever ran before. An attempt depends on the tokens of
    its prompt, the seed, its number and the settings. The other prompts and attempts of the call matter only through
    rounding, because sums are taken in another order: they change about one completion in two thousand. If a prompt
    is given twice, its completions are drawn twice.

    Args:
        model: a causal language model for which :func:`~dsrl_transformers.forest.supports_trees` is true.
        prompts: token ids; no prompt is empty.
        settings: how many completions to draw, and how.
        stop: tokens that end a completion.
        is_cancelled: is called before each forward pass; if it returns true, :class:`Cancelled` is raised.

    Raises:
        DsrlError: the model's logits are not numbers.
    """
    if settings.n < 1 or settings.max_tokens < 1:
        return [Completions(((),), (0,) * settings.n) for _ in prompts]
    # Greedy attempts are all the same, so one is enough.
    attempts = range(settings.first, settings.first + settings.n) if settings.temperature > 0 else range(1)
    streams = _make_streams(prompts, attempts, settings.seed)
    results = _Results(len(prompts), len(attempts))
    stop = frozenset(stop)
    for batch in _make_batches(prompts, settings.cache_tokens):
        if is_cancelled():
            raise Cancelled
        forest, logits = prefill(model, [list(prompts[i]) for i in batch], pad=next(iter(stop), 0))
        growth = _Growth.start(forest, batch, _Rules(settings, stop, streams), results)
        growth.draw(logits)
        waiting = [growth]
        while waiting:
            growth = waiting.pop()
            if is_cancelled():
                raise Cancelled
            if growth.is_too_large():
                waiting.extend(growth.halve())
            elif growth.forest.leaves:
                growth.draw(growth.forest.grow(model))
                waiting.append(growth)
    return results.make_completions(settings.n)


@dataclass(frozen=True)
class _Rules:
    """What decides the next tokens: ``streams`` [P, n] are the random numbers of the attempts at all prompts."""

    settings: DecodeSettings
    stop: frozenset[int]
    streams: np.ndarray


class _Results:
    """The finished completions: for each attempt at each prompt, the number of its sequence."""

    def __init__(self, prompts: int, attempts: int) -> None:
        self.sequences: list[list[tuple[int, ...]]] = [[] for _ in range(prompts)]
        self.indices = np.zeros((prompts, attempts), dtype=np.int64)

    def add(self, prompt: int, sequence: tuple[int, ...], attempts: np.ndarray) -> None:
        self.indices[prompt, attempts] = len(self.sequences[prompt])
        self.sequences[prompt].append(sequence)

    def make_completions(self, n: int) -> list[Completions]:
        # Greedy decoding has followed one attempt for all.
        rows = self.indices if self.indices.shape[1] == n else np.repeat(self.indices, n, axis=1)
        return [Completions(tuple(s), tuple(row.tolist())) for s, row in zip(self.sequences, rows, strict=True)]


@dataclass
class _Growth:
    """A forest with the attempts that go through its leaves.

    Attributes:
        attempt: [A] the attempts that are not finished, numbered ``prompt * n + i``.
        leaf: [A] the leaf of each, ascending.
        history: [R, t] the tokens of each leaf, its own one last.
    """

    forest: Forest
    attempt: Tensor
    leaf: Tensor
    history: Tensor
    rules: _Rules
    results: _Results

    @classmethod
    def start(cls, forest: Forest, prompts: Sequence[int], rules: _Rules, results: _Results) -> _Growth:
        """Begin with all attempts at ``prompts``: one leaf for each prompt, and no tokens yet."""
        device, n = forest.row.device, rules.streams.shape[1]
        attempt = (torch.tensor(prompts, device=device)[:, None] * n + torch.arange(n, device=device)).flatten()
        leaf = torch.arange(len(prompts), device=device).repeat_interleave(n)
        history = torch.empty(len(prompts), 0, dtype=torch.long, device=device)
        return cls(forest, attempt, leaf, history, rules, results)

    def draw(self, logits: Tensor) -> None:
        """Draw the next token of each attempt, store the finished attempts, and branch the forest for the others."""
        settings, step = self.rules.settings, self.history.shape[1]
        if settings.temperature > 0:
            uniform = _get_uniform(self.rules.streams.reshape(-1)[self.attempt.cpu().numpy()], step)
            random = torch.from_numpy(uniform).to(logits.device)
            token = _pick_tokens(logits, self.leaf, random, settings.temperature, settings.top_p)
        else:
            token = logits.argmax(-1)[self.leaf]
        vocabulary = logits.shape[-1]
        child, self.leaf = torch.unique(self.leaf * vocabulary + token, return_inverse=True)
        order = torch.argsort(self.leaf, stable=True)
        self.leaf, self.attempt = self.leaf[order], self.attempt[order]
        parent, token = child // vocabulary, child % vocabulary
        self.history = torch.cat((self.history[parent], token[:, None]), dim=1)
        is_end = torch.isin(token, torch.tensor(sorted(self.rules.stop), device=token.device))
        if step + 1 == settings.max_tokens:
            is_end = torch.ones_like(is_end)
        if bool(is_end.any()):
            self._store_finished(is_end)
            alive = (~is_end).nonzero().squeeze(1)
            self._select_leaves(alive)
            parent, token = parent[alive], token[alive]
        self.forest.branch(parent, token)
        if len(token):
            self.forest.tidy()

    def is_too_large(self) -> bool:
        """Return whether the next pass would need more cache than allowed and the forest can be split."""
        forest = self.forest
        if forest.rows < 2 or not forest.leaves or int(forest.row[0]) == int(forest.row[-1]):
            return False
        slots = forest.rows * (forest.slots + int(torch.bincount(forest.row).max()))
        return slots > self.rules.settings.cache_tokens

    def halve(self) -> list[_Growth]:
        """Split in two, each with its own rows."""
        one, one_leaves, two, two_leaves = self.forest.halve()
        parts = []
        for forest, leaves in ((two, two_leaves), (one, one_leaves)):
            part = replace(self, forest=forest)
            part._select_leaves(leaves)
            parts.append(part)
        return parts

    def _select_leaves(self, leaves: Tensor) -> None:
        """Keep only the attempts and histories of ``leaves`` ([R'], ascending), and number the leaves from 0 again."""
        number = torch.full((len(self.history),), -1, dtype=torch.long, device=leaves.device)
        number[leaves] = torch.arange(len(leaves), device=leaves.device)
        renumbered = number[self.leaf]
        alive = renumbered >= 0
        self.leaf, self.attempt = renumbered[alive], self.attempt[alive]
        self.history = self.history[leaves]

    def _store_finished(self, is_end: Tensor) -> None:
        n = self.rules.streams.shape[1]
        is_through_end = is_end[self.leaf]
        leaf, attempt = self.leaf[is_through_end].cpu().numpy(), self.attempt[is_through_end].cpu().numpy()
        numbers = is_end.nonzero().squeeze(1).cpu().numpy()
        bounds = np.append(np.searchsorted(leaf, numbers), len(leaf))
        for i, tokens in enumerate(self.history[is_end].tolist()):
            attempts = attempt[bounds[i] : bounds[i + 1]]
            self.results.add(int(attempts[0]) // n, tuple(tokens), attempts % n)


def _make_batches(prompts: Sequence[Sequence[int]], cache_tokens: int) -> list[list[int]]:
    """Group prompts of similar length. A padded group takes at most half of the cache; the rest is for its completions."""
    groups: list[list[int]] = []
    for i in sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i)):
        if not groups or (len(groups[-1]) + 1) * len(prompts[groups[-1][0]]) > cache_tokens // 2:
            groups.append([])
        groups[-1].append(i)
    return groups


def _pick_tokens(logits: Tensor, leaf: Tensor, random: Tensor, temperature: float, top_p: float) -> Tensor:
    """Invert the distribution function of each leaf, [R, V], at the random numbers, [A], of its attempts: [A] tokens."""
    picked = torch.empty_like(leaf)
    vocabulary = logits.shape[-1]
    size = max(1, 2**24 // vocabulary)  # a limit on memory: 128 MB for a table of doubles
    for start in range(0, len(logits), size):
        low, high = torch.searchsorted(leaf, torch.tensor([start, start + size], device=leaf.device)).tolist()
        row = leaf[low:high] - start
        p = torch.softmax(logits[start : start + size].double() / temperature, dim=-1)
        order = None
        if top_p < 1:
            p, order = p.sort(dim=-1, descending=True, stable=True)
        below = p.cumsum(dim=-1)
        mass = below[:, -1:]
        if top_p < 1:  # the shortest head with at least top_p of the mass
            last = torch.searchsorted(below, (top_p * mass).contiguous()).clamp(max=vocabulary - 1)
            mass = below.gather(1, last)
        if not bool(torch.isfinite(mass).all()):
            raise DsrlError(
                "The model's logits are not numbers: its weights are damaged, or the range of its dtype is too small. "
                "Use --dtype float32, or another model."
            )
        counts = torch.bincount(row, minlength=len(below))
        column = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
        targets = torch.zeros(len(below), int(counts.max()), dtype=torch.double, device=below.device)
        targets[row, column] = random[low:high] * mass[row, 0]
        token = torch.searchsorted(below, targets, right=True)[row, column].clamp(max=vocabulary - 1)
        picked[low:high] = token if order is None else order[row, token]
    return picked


_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _make_streams(prompts: Sequence[Sequence[int]], attempts: range, seed: int) -> np.ndarray:
    """Make the starting state of each attempt's random numbers, [P, n], from seed, prompt and number of the attempt."""
    repeats: Counter[bytes] = Counter()
    states = np.empty((len(prompts), 1), dtype=np.uint64)
    for i, prompt in enumerate(prompts):
        ids = np.asarray(prompt, dtype=np.int64).tobytes()
        digest = hashlib.blake2b(f"{seed}/{repeats[ids]}/".encode() + ids, digest_size=8).digest()
        states[i] = int.from_bytes(digest, "little")
        repeats[ids] += 1
    return _mix(_mix(states) + np.arange(attempts.start, attempts.stop, dtype=np.uint64)[None] * _GAMMA)


def _get_uniform(streams: np.ndarray, step: int) -> np.ndarray:
    """Return number ``step`` of each stream, in [0, 1): SplitMix64 (Steele, Lea and Flood 2014), by counter."""
    bits = _mix(streams + np.uint64((step + 1) * int(_GAMMA) % 2**64))
    uniform: np.ndarray = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return uniform


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed
