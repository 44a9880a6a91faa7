"""Sampling many completions of many prompts without computing the same prefix twice.

Each of the ``n`` attempts at a prompt has random numbers of its own and draws its tokens independently of the others,
so the result is exactly that of ``n`` separate runs. But attempts that have drawn the same tokens so far are one leaf
of a tree (:mod:`dsrl_transformers.forest`), and the model is asked about a leaf once: 64 attempts at a question with
three likely answers cost the prompt and a handful of tokens.
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

from dsrl.errors import DsrlError
from dsrl_transformers.forest import Forest, prefill


class Cancelled(Exception):
    """The caller does not want the completions any more."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """The completions of one prompt.

    Attributes:
        distinct: the different token sequences, each with its stop token if it drew one.
        which: for each of the ``n`` attempts, which of them it is.
    """

    distinct: tuple[tuple[int, ...], ...]
    which: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """How many attempts drew each of ``distinct``; sums to ``n``."""
        count = Counter(self.which)
        return tuple(count[i] for i in range(len(self.distinct)))


@torch.inference_mode()
def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    n: int,
    *,
    temperature: float,
    top_p: float,
    max_tokens: int,
    stop: Collection[int],
    seed: int,
    cache_tokens: int,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Drawn]:
    """Draw ``n`` completions of each prompt from ``softmax(logits / temperature)``, cut to the nucleus of ``top_p``.

    The same call gives the same completions on the same machine, whatever ran before. What is drawn for a prompt follows
    from its tokens, the seed and the settings; the prompts around it matter only through rounding, as sums are taken in
    another order: about one completion in two thousand is another one then. A prompt given twice is drawn twice.

    Args:
        model: a causal language model for which :func:`~dsrl_transformers.forest.holds_trees` is true.
        prompts: token ids, none of them empty.
        n: attempts a prompt.
        temperature: 0 is greedy.
        top_p: nucleus; 1 is off.
        max_tokens: length limit of a completion.
        stop: tokens that end a completion.
        seed: of the random numbers.
        cache_tokens: about how many tokens' keys and values are in memory at once; what goes beyond waits its turn.
        cancelled: asked before each forward pass; when true, :class:`Cancelled` is raised.

    Raises:
        DsrlError: the model's logits are not numbers.
    """
    if n < 1 or max_tokens < 1:
        return [Drawn(((),), (0,) * n) for _ in prompts]
    streams = _streams(prompts, n if temperature > 0 else 1, seed)
    results = _Results(len(prompts), streams.shape[1])
    settings = _Settings(temperature, top_p, max_tokens, frozenset(stop))
    for batch in _batches(prompts, cache_tokens):
        if cancelled():
            raise Cancelled
        forest, logits = prefill(model, [list(prompts[i]) for i in batch], pad=next(iter(settings.stop), 0))
        growth = _Growth.start(forest, batch, streams, settings, results)
        growth.draw(logits)
        waiting = [growth]
        while waiting:
            growth = waiting.pop()
            if cancelled():
                raise Cancelled
            if growth.too_large(cache_tokens):
                waiting.extend(growth.halve())
            elif growth.forest.leaves:
                growth.draw(growth.forest.grow(model))
                waiting.append(growth)
    return results.drawn(n)


@dataclass(frozen=True)
class _Settings:
    temperature: float
    top_p: float
    max_tokens: int
    stop: frozenset[int]


class _Results:
    """What is finished: for each attempt of each prompt the number of its sequence."""

    def __init__(self, prompts: int, n: int) -> None:
        self.sequences: list[list[tuple[int, ...]]] = [[] for _ in range(prompts)]
        self.which = np.zeros((prompts, n), dtype=np.int64)

    def add(self, prompt: int, sequence: tuple[int, ...], attempts: np.ndarray) -> None:
        self.which[prompt, attempts] = len(self.sequences[prompt])
        self.sequences[prompt].append(sequence)

    def drawn(self, n: int) -> list[Drawn]:
        # Greedy decoding has followed one attempt for all.
        rows = self.which if self.which.shape[1] == n else np.repeat(self.which, n, axis=1)
        return [Drawn(tuple(s), tuple(row.tolist())) for s, row in zip(self.sequences, rows, strict=True)]


@dataclass
class _Growth:
    """A forest with the attempts that go through its leaves.

    Attributes:
        attempt: [A] the attempts still under way, numbered ``prompt * n + i``.
        leaf: [A] the leaf of each, ascending.
        history: [R, t] the tokens of each leaf, its own one last.
    """

    forest: Forest
    attempt: Tensor
    leaf: Tensor
    history: Tensor
    streams: np.ndarray
    settings: _Settings
    results: _Results

    @classmethod
    def start(
        cls, forest: Forest, prompts: Sequence[int], streams: np.ndarray, settings: _Settings, results: _Results
    ) -> _Growth:
        """Begin with all attempts of ``prompts``, one leaf each, which have drawn nothing yet."""
        device, n = forest.row.device, streams.shape[1]
        attempt = (torch.tensor(prompts, device=device)[:, None] * n + torch.arange(n, device=device)).flatten()
        leaf = torch.arange(len(prompts), device=device).repeat_interleave(n)
        history = torch.empty(len(prompts), 0, dtype=torch.long, device=device)
        return cls(forest, attempt, leaf, history, streams, settings, results)

    def draw(self, logits: Tensor) -> None:
        """Draw each attempt's next token, put the finished attempts away, and branch the forest for the others."""
        set_, step = self.settings, self.history.shape[1]
        if set_.temperature > 0:
            uniform = _uniform(self.streams.reshape(-1)[self.attempt.cpu().numpy()], step)
            random = torch.from_numpy(uniform).to(logits.device)
            token = _pick(logits, self.leaf, random, set_.temperature, set_.top_p)
        else:
            token = logits.argmax(-1)[self.leaf]
        vocabulary = logits.shape[-1]
        child, self.leaf = torch.unique(self.leaf * vocabulary + token, return_inverse=True)
        order = torch.argsort(self.leaf, stable=True)
        self.leaf, self.attempt = self.leaf[order], self.attempt[order]
        parent, token = child // vocabulary, child % vocabulary
        self.history = torch.cat((self.history[parent], token[:, None]), dim=1)
        done = torch.isin(token, torch.tensor(sorted(set_.stop), device=token.device))
        if step + 1 == set_.max_tokens:
            done = torch.ones_like(done)
        if bool(done.any()):
            self._finish(done)
            alive = (~done).nonzero().squeeze(1)
            self._keep(alive)
            parent, token = parent[alive], token[alive]
        self.forest.branch(parent, token)
        if len(token):
            self.forest.tidy()

    def too_large(self, cache_tokens: int) -> bool:
        """Say whether the next pass would need more cache than allowed and the forest can be split."""
        forest = self.forest
        if forest.rows < 2 or not forest.leaves or int(forest.row[0]) == int(forest.row[-1]):
            return False
        return forest.rows * (forest.slots + int(torch.bincount(forest.row).max())) > cache_tokens

    def halve(self) -> list[_Growth]:
        """Split in two, each with its own rows."""
        one, one_leaves, two, two_leaves = self.forest.halve()
        parts = []
        for forest, leaves in ((two, two_leaves), (one, one_leaves)):
            part = replace(self, forest=forest)
            part._keep(leaves)
            parts.append(part)
        return parts

    def _keep(self, leaves: Tensor) -> None:
        """Keep the attempts and histories of ``leaves`` ([R'], ascending), numbered anew from 0."""
        number = torch.full((len(self.history),), -1, dtype=torch.long, device=leaves.device)
        number[leaves] = torch.arange(len(leaves), device=leaves.device)
        renumbered = number[self.leaf]
        alive = renumbered >= 0
        self.leaf, self.attempt = renumbered[alive], self.attempt[alive]
        self.history = self.history[leaves]

    def _finish(self, done: Tensor) -> None:
        n = self.streams.shape[1]
        through = done[self.leaf]
        leaf, attempt = self.leaf[through].cpu().numpy(), self.attempt[through].cpu().numpy()
        numbers = done.nonzero().squeeze(1).cpu().numpy()
        bounds = np.append(np.searchsorted(leaf, numbers), len(leaf))
        for i, tokens in enumerate(self.history[done].tolist()):
            mine = attempt[bounds[i] : bounds[i + 1]]
            self.results.add(int(mine[0]) // n, tuple(tokens), mine % n)


def _batches(prompts: Sequence[Sequence[int]], cache_tokens: int) -> list[list[int]]:
    """Group prompts of like length so that a padded group takes at most half of the cache: room for what they grow."""
    groups: list[list[int]] = []
    for i in sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i)):
        if not groups or (len(groups[-1]) + 1) * len(prompts[groups[-1][0]]) > cache_tokens // 2:
            groups.append([])
        groups[-1].append(i)
    return groups


def _pick(logits: Tensor, leaf: Tensor, random: Tensor, temperature: float, top_p: float) -> Tensor:
    """Invert the distribution function of each leaf, [R, V], at the numbers, [A], of its attempts: [A] tokens."""
    picked = torch.empty_like(leaf)
    vocabulary = logits.shape[-1]
    size = max(1, 2**24 // vocabulary)  # a bound on memory: 128 MB for a table of doubles
    for start in range(0, len(logits), size):
        low, high = torch.searchsorted(leaf, torch.tensor([start, start + size], device=leaf.device)).tolist()
        mine = leaf[low:high] - start
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
            raise DsrlError("The model's logits are not numbers: its weights are damaged, or its dtype is too narrow.")
        counts = torch.bincount(mine, minlength=len(below))
        column = torch.arange(len(mine), device=mine.device) - (counts.cumsum(0) - counts)[mine]
        targets = torch.zeros(len(below), int(counts.max()), dtype=torch.double, device=below.device)
        targets[mine, column] = random[low:high] * mass[mine, 0]
        token = torch.searchsorted(below, targets, right=True)[mine, column].clamp(max=vocabulary - 1)
        picked[low:high] = token if order is None else order[mine, token]
    return picked


_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _streams(prompts: Sequence[Sequence[int]], n: int, seed: int) -> np.ndarray:
    """Make the starting state of each attempt's random numbers, [P, n], from seed, prompt and number of the attempt."""
    seen: Counter[bytes] = Counter()
    states = np.empty((len(prompts), 1), dtype=np.uint64)
    for i, prompt in enumerate(prompts):
        ids = np.asarray(prompt, dtype=np.int64).tobytes()
        digest = hashlib.blake2b(f"{seed}/{seen[ids]}/".encode() + ids, digest_size=8).digest()
        states[i] = int.from_bytes(digest, "little")
        seen[ids] += 1
    return _mix(_mix(states) + np.arange(n, dtype=np.uint64)[None] * _GAMMA)


def _uniform(streams: np.ndarray, step: int) -> np.ndarray:
    """Give number ``step`` of each stream, in [0, 1): SplitMix64 (Steele, Lea and Flood 2014), by counter."""
    bits = _mix(streams + np.uint64((step + 1) * int(_GAMMA) % 2**64))
    uniform: np.ndarray = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return uniform


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed
