"""Sampling many completions of many prompts without computing the same prefix twice.

Each of the ``n`` attempts at a prompt has random numbers of its own and draws its tokens independently of the others,
so the result is exactly that of ``n`` separate runs. But attempts that have drawn the same tokens so far are one leaf
of a tree (:mod:`dsrl_transformers.forest`), and the model computes a leaf once: 64 attempts at a question with
three likely answers cost the prompt and a few tokens.

After ``_TREE_STEPS`` tokens the attempts share little, and the leaves go on as rows of their own
(:mod:`dsrl_transformers.chains`), where a leaf takes the row of one that has ended. Models of more than a few million
parameters use rows from the beginning.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dsrl_transformers.chains import Chain, ChainEngine
from dsrl_transformers.draws import DrawRules, get_uniform, make_streams, pick_tokens
from dsrl_transformers.forest import Forest, prefill
from dsrl_transformers.memory import choose_cache_tokens

# Models with fewer parameters draw the first tokens in trees: to copy a prompt's cache for each leaf takes them longer than
# to compute a token. For a larger model it takes a small part of that.
_TREE_PARAMETERS = 2e7
# Tokens that are drawn in trees. A leaf attends to the slots of its whole tree, which gets slower with each token.
_TREE_STEPS = 16
# Approximate maximum number of slots of a tree's cache. Larger trees are not faster.
_MOST_TREE_TOKENS = 32768


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
        cache_tokens: approximate maximum number of tokens whose keys and values are in memory at once;
            0: :func:`~dsrl_transformers.memory.choose_cache_tokens` chooses it.
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
    has_trees: bool = True,
) -> list[Completions]:
    """Draw completions of each prompt from ``softmax(logits / temperature)``, cut to the nucleus of ``top_p``.

    The same call returns the same completions on the same machine, whatever ran before. An attempt depends on the tokens of
    its prompt, the seed, its number and the settings. The other prompts and attempts of the call matter only through
    rounding, because sums are taken in another order: on a CPU in float32 they change about one completion of 32 tokens in
    two thousand with trees, and none of several hundred without. If a prompt is given twice, its completions are drawn
    twice.

    Args:
        model: a causal language model for which :func:`~dsrl_transformers.forest.supports_trees` is true, or
            :func:`~dsrl_transformers.rows.supports_chains`.
        prompts: token ids; no prompt is empty.
        settings: how many completions to draw, and how.
        stop: tokens that end a completion.
        is_cancelled: is called between forward passes; if it returns true, :class:`Cancelled` is raised.
        has_trees: whether trees may be used, which small models do. Else each leaf is a row of its own from the beginning.

    Raises:
        DsrlError: the model's logits are not numbers.
    """
    if settings.n < 1 or settings.max_tokens < 1:
        return [Completions(((),), (0,) * settings.n) for _ in prompts]
    # Greedy attempts are all the same, so one is enough.
    attempts = range(settings.first, settings.first + settings.n) if settings.temperature > 0 else range(1)
    streams = make_streams(prompts, attempts, settings.seed)
    results = _Results(len(prompts), len(attempts))
    rules = DrawRules(settings.temperature, settings.top_p, settings.max_tokens, frozenset(stop), streams)
    cache_tokens = settings.cache_tokens or choose_cache_tokens(model)
    if has_trees and sum(p.numel() for p in model.parameters()) < _TREE_PARAMETERS:
        tree_tokens = min(_MOST_TREE_TOKENS, cache_tokens if rules.max_tokens <= _TREE_STEPS else cache_tokens // 2)
        source: _TreeSource | None = _TreeSource(model, prompts, rules, results, tree_tokens)
        engine = ChainEngine(model, prompts, rules, cache_tokens - tree_tokens, results.add)
    else:
        source = None
        engine = ChainEngine(model, prompts, rules, cache_tokens, results.add)
        numbers = np.arange(streams.size).reshape(streams.shape)
        longest_first = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
        engine.enqueue([Chain(i, numbers[i], []) for i in longest_first])
    while len(engine) or source:
        if is_cancelled():
            raise Cancelled
        if engine.can_resume():
            engine.resume()
        elif source and not engine.is_waiting and (room := engine.count_room(source.slots)):
            source.advance(engine, room)
        else:
            engine.advance()
    return results.make_completions(settings.n)


class _Results:
    """The finished completions: for each attempt at each prompt, the number of its sequence."""

    def __init__(self, prompts: int, attempts: int) -> None:
        self.sequences: list[list[tuple[int, ...]]] = [[] for _ in range(prompts)]
        self.indices = np.zeros((prompts, attempts), dtype=np.int64)

    def add(self, prompt: int, sequence: tuple[int, ...], attempts: np.ndarray) -> None:
        """Store a sequence that the ``attempts`` ([A], numbered over all prompts) at a prompt have drawn."""
        attempts = attempts % self.indices.shape[1]
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
    rules: DrawRules
    results: _Results

    @classmethod
    def start(cls, forest: Forest, prompts: Sequence[int], rules: DrawRules, results: _Results) -> _Growth:
        """Begin with all attempts at ``prompts``: one leaf for each prompt, and no tokens yet."""
        device, n = forest.row.device, rules.streams.shape[1]
        attempt = (torch.tensor(prompts, device=device)[:, None] * n + torch.arange(n, device=device)).flatten()
        leaf = torch.arange(len(prompts), device=device).repeat_interleave(n)
        history = torch.empty(len(prompts), 0, dtype=torch.long, device=device)
        return cls(forest, attempt, leaf, history, rules, results)

    @property
    def step(self) -> int:
        """The number of tokens drawn so far."""
        return int(self.history.shape[1])

    def draw(self, logits: Tensor, is_last: bool = False) -> None:
        """Draw the next token of each attempt, store the finished attempts, and branch the forest for the others.

        ``is_last`` says that the forest does not grow any more.
        """
        rules, step = self.rules, self.step
        if rules.temperature > 0:
            uniform = get_uniform(rules.streams.reshape(-1)[self.attempt.cpu().numpy()], step)
            random = torch.from_numpy(uniform).to(logits.device)
            token = pick_tokens(logits, self.leaf, random, rules.temperature, rules.top_p)
        else:
            token = logits.argmax(-1)[self.leaf]
        vocabulary = logits.shape[-1]
        child, self.leaf = torch.unique(self.leaf * vocabulary + token, return_inverse=True)
        order = torch.argsort(self.leaf, stable=True)
        self.leaf, self.attempt = self.leaf[order], self.attempt[order]
        parent, token = child // vocabulary, child % vocabulary
        self.history = torch.cat((self.history[parent], token[:, None]), dim=1)
        is_end = torch.isin(token, torch.tensor(sorted(self.rules.stop), device=token.device))
        if step + 1 == rules.max_tokens:
            is_end = torch.ones_like(is_end)
        if bool(is_end.any()):
            self._store_finished(is_end)
            alive = (~is_end).nonzero().squeeze(1)
            self._select_leaves(alive)
            parent, token = parent[alive], token[alive]
        self.forest.branch(parent, token)
        if len(token) and not is_last:
            self.forest.tidy()

    def is_too_large(self, cache_tokens: int) -> bool:
        """Return whether the next pass would need more cache than allowed and the forest can be split."""
        forest = self.forest
        if forest.rows < 2 or not forest.leaves or int(forest.row[0]) == int(forest.row[-1]):
            return False
        slots = forest.rows * (forest.slots + int(torch.bincount(forest.row).max()))
        return slots > cache_tokens

    def halve(self) -> list[_Growth]:
        """Split in two, each with its own rows."""
        one, one_leaves, two, two_leaves = self.forest.halve()
        parts = []
        for forest, leaves in ((two, two_leaves), (one, one_leaves)):
            part = replace(self, forest=forest)
            part._select_leaves(leaves)
            parts.append(part)
        return parts

    def make_chains(self) -> list[Chain]:
        """Return what goes on as chains, one for each leaf."""
        n = self.rules.streams.shape[1]
        leaf, attempt = self.leaf.cpu().numpy(), self.attempt.cpu().numpy()
        bounds = np.searchsorted(leaf, np.arange(self.forest.leaves + 1))
        groups = [attempt[bounds[i] : bounds[i + 1]] for i in range(self.forest.leaves)]
        return [
            Chain(int(attempts[0]) // n, attempts, tokens)
            for attempts, tokens in zip(groups, self.history.tolist(), strict=True)
        ]

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
            self.results.add(int(attempts[0]) // n, tuple(tokens), attempts)


class _TreeSource:
    """Draws the first tokens of all completions in trees, and gives the leaves that go on to the chains, piece by piece."""

    def __init__(
        self, model: Any, prompts: Sequence[Sequence[int]], rules: DrawRules, results: _Results, cache_tokens: int
    ) -> None:
        self._model, self._prompts, self._rules, self._results = model, prompts, rules, results
        self._cache_tokens = cache_tokens
        self._batches = deque(_make_batches(prompts, cache_tokens))
        self._growths: list[_Growth] = []
        self._ready: deque[Chain] = deque()  # the leaves from number _first on of _forest
        self._first = 0
        self._forest: Forest | None = None

    def __bool__(self) -> bool:
        """Return whether completions are left."""
        return bool(self._batches or self._growths or self._ready)

    @property
    def slots(self) -> int:
        """The number of slots that the next chain needs; 0 if that is not known yet."""
        return int(self._forest.position.max()) if self._forest is not None else 0

    def advance(self, engine: ChainEngine, room: int) -> None:
        """Give chains to the engine, which has room for ``room``, or work on a tree for one pass."""
        if self._forest is not None:
            chains = [self._ready.popleft() for _ in range(min(room, len(self._ready)))]
            leaves = torch.arange(self._first, self._first + len(chains), device=self._forest.row.device)
            engine.admit(chains, self._forest.copy_rows(leaves))
            self._first += len(chains)
            if not self._ready:
                self._forest = None
        elif self._growths:
            growth = self._growths.pop()
            if not growth.forest.leaves:
                return
            if growth.step >= _TREE_STEPS:
                self._forest, self._first, self._ready = growth.forest, 0, deque(growth.make_chains())
            elif growth.is_too_large(self._cache_tokens):
                self._growths.extend(growth.halve())
            else:
                growth.draw(growth.forest.grow(self._model), is_last=growth.step + 1 == _TREE_STEPS)
                self._growths.append(growth)
        else:
            batch = self._batches.popleft()
            pad = next(iter(self._rules.stop), 0)
            forest, logits = prefill(self._model, [list(self._prompts[i]) for i in batch], pad)
            growth = _Growth.start(forest, batch, self._rules, self._results)
            growth.draw(logits)
            self._growths.append(growth)


def _make_batches(prompts: Sequence[Sequence[int]], cache_tokens: int) -> list[list[int]]:
    """Group prompts of similar length. A padded group takes at most half of the cache; the rest is for its completions."""
    groups: list[list[int]] = []
    for i in sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i)):
        if not groups or (len(groups[-1]) + 1) * len(prompts[groups[-1][0]]) > cache_tokens // 2:
            groups.append([])
        groups[-1].append(i)
    return groups
