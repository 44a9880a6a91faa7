"""Completions in rows of cache: one row each, and a waiting completion takes the row of one that ends.

The rows in use are the first ones, so that a pass computes no row in vain. All rows have the same number of slots, which
grows in blocks. Attempts that have drawn the same tokens so far share a row, which is copied when they draw different ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dsrl_transformers.draws import DrawRules, get_uniform, pick_one_each, require_numbers
from dsrl_transformers.rows import ALIGNMENT, Prefix, RowCache, get_window, prefill_rows, round_up

_BLOCK = 64  # slots by which rows grow
_MOST_ROWS = {"cpu": 128, "cuda": 512}
_FEWEST_ROWS = 4  # of a pass: with fewer, a CPU takes other kernels, whose rounding differs
_STEPS = {"cpu": 1, "cuda": 8}  # tokens that are drawn between two looks at what has ended
_PREFILL_TOKENS = {"cpu": 2048, "cuda": 16384}  # of one pass over prompts


@dataclass(slots=True)
class Chain:
    """A completion that is not finished.

    Attributes:
        prompt: number of its prompt.
        attempts: [A] the attempts that have drawn these tokens, numbered ``prompt * n + i``.
        tokens: the tokens drawn so far. The last one, or the last one of the prompt, goes through the model next.
        prefix: a cache whose only row holds the tokens before that one, for a chain that waits; None: not computed.
    """

    prompt: int
    attempts: np.ndarray
    tokens: list[int]
    prefix: Any = None


class ChainEngine:
    """Draws the tokens of many chains at once.

    Args:
        model: a model for which :func:`~dsrl_transformers.rows.supports_chains` is true.
        prompts: token ids of all prompts of the call.
        rules: what decides the next tokens.
        cache_tokens: approximate maximum number of slots of all rows together.
        store: is called with prompt, tokens and attempts of each finished completion.
    """

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        rules: DrawRules,
        cache_tokens: int,
        store: Callable[[int, tuple[int, ...], np.ndarray], None],
    ) -> None:
        self._model, self._prompts, self._rules, self._store = model, prompts, rules, store
        self._cache, self._cache_tokens = RowCache(), cache_tokens
        self._shared = _count_shared(prompts) if len(prompts) > 1 else 0
        self._prefix: Any = None  # the keys and values of these tokens
        self._most_chains = 0  # that the rows hold
        self._streams = rules.streams.reshape(-1)
        self._chains: list[Chain] = []  # the chain of each row in use
        self._waiting: deque[Chain] = deque()  # chains that lost their row, or never had one
        device = model.device.type
        self._most_rows, self._steps = _MOST_ROWS.get(device, 128), _STEPS.get(device, 1)

    def __len__(self) -> int:
        """Return the number of chains that are not finished."""
        return len(self._chains) + len(self._waiting)

    @property
    def is_waiting(self) -> bool:
        """Whether chains have no row."""
        return bool(self._waiting)

    def count_room(self, slots: int = 0) -> int:
        """Return how many more rows with ``slots`` slots in use are allowed: at least one if no row is in use."""
        if not self._chains:
            return self._fit_rows(round_up(slots + self._steps, _BLOCK))
        longest = max(slots, *map(self._count_slots, self._chains)) + self._steps
        return max(self._fit_rows(round_up(longest, _BLOCK)) - len(self._chains), 0)

    def enqueue(self, chains: Sequence[Chain]) -> None:
        """Let chains wait for a row."""
        self._waiting.extend(chains)

    def can_resume(self) -> bool:
        """Return whether the next waiting chain can have a row."""
        return bool(self._waiting) and self.count_room(self._count_slots(self._waiting[0])) > 0

    def resume(self) -> None:
        """Give rows to waiting chains. Their prefixes are computed if they are not known."""
        waiting, group = self._waiting, [self._waiting.popleft()]
        prefix, longest = group[0].prefix, self._count_slots(group[0])
        room = self.count_room(longest)
        if prefix is not None:
            while len(group) < room and waiting and waiting[0].prefix is prefix:
                group.append(waiting.popleft())
            for chain in group:
                chain.prefix = None
            self.admit(group, prefix)
            return
        # A chain will soon need as many rows as it has attempts.
        attempts, most_tokens = len(group[0].attempts), _PREFILL_TOKENS.get(self._model.device.type, 2048)
        while attempts < room and waiting and (len(group) + 1) * longest <= most_tokens:
            if waiting[0].prefix is not None or self._count_slots(waiting[0]) > longest:
                break
            group.append(waiting.popleft())
            attempts += len(group[-1].attempts)
        texts = [[*self._prompts[chain.prompt], *chain.tokens] for chain in group]
        if self._shared and self._prefix is None:
            self._prefix = prefill_rows(self._model, [self._prompts[0][: self._shared]])
        self.admit(group, prefill_rows(self._model, texts, self._prefix, self._shared))

    def admit(self, chains: Sequence[Chain], cache: Any) -> None:
        """Give chains rows. The tokens before the last one of each are in the first slots of the rows of ``cache``.

        If ``cache`` has only one row, it is for all of them.
        """
        slots = max(map(self._count_slots, [*self._chains, *chains])) + self._steps
        slots = max(slots, cache.layers[0].keys.shape[2])
        if not self._cache.layers:
            capacity = round_up(slots, _BLOCK)
            self._most_chains = max(self._fit_rows(capacity), len(chains))
            self._cache.allocate(max(self._most_chains, _FEWEST_ROWS), capacity, cache)
        self._reserve(len(chains), slots)
        self._cache.write(len(self._chains), len(chains), cache)
        self._chains += chains

    def advance(self) -> None:
        """Draw one token for each row, or several if the device need not be asked after each.

        Raises:
            DsrlError: the model's logits are not numbers.
        """
        self._reserve(0, max(map(self._count_slots, self._chains)) + self._steps)
        drawn = self._draw()
        free, forks = [], []
        for row, chain in enumerate(self._chains):
            alive = self._extend(chain, drawn[row])
            if alive:
                self._chains[row] = alive[0]
                forks += [(row, fork) for fork in alive[1:]]
            else:
                free.append(row)
        self._place_forks(forks, free)
        self._close_gaps(free)

    def _draw(self) -> np.ndarray:
        """Return the next tokens of each row: [A, steps, 1], or [A, 1, K] if a row has up to ``K`` attempts."""
        rules, chains, device = self._rules, self._chains, self._model.device
        most = max(len(chain.attempts) for chain in chains)
        drawn_before = np.array([len(chain.tokens) for chain in chains])
        steps = min(self._steps, rules.max_tokens - int(drawn_before.min())) if most == 1 else 1
        attempts = np.zeros((len(chains), most), dtype=np.int64)
        for row, chain in enumerate(chains):
            attempts[row, : len(chain.attempts)] = chain.attempts
        step = drawn_before[:, None, None] + np.arange(steps)[None, :, None]
        uniform = torch.from_numpy(get_uniform(self._streams[attempts][:, None], step)).to(device)
        slots = np.array([self._count_slots(chain) for chain in chains])
        # A row that has ended draws on until the next look, in its last slot.
        last = slots + rules.max_tokens - drawn_before - 1
        count = max(len(chains), _FEWEST_ROWS)
        places = np.zeros((count, steps), dtype=np.int64)
        places[: len(chains)] = np.minimum(slots[:, None] + np.arange(steps), last[:, None])
        place = torch.from_numpy(places).to(device)
        own = [chain.tokens[-1] if chain.tokens else self._prompts[chain.prompt][-1] for chain in chains]
        token = torch.tensor([*own, *[0] * (count - len(chains))], device=device)
        is_valid = torch.ones((), dtype=torch.bool, device=device)
        may_be_unmasked = self._may_be_unmasked()
        drawn = []
        for i in range(steps):
            width = int(places[:, i].max()) + 1
            is_even = may_be_unmasked and int(places[:, i].min()) + 1 == width
            width = width if is_even else round_up(width, ALIGNMENT)
            logits = self._cache.forward(self._model, token, place[:, i], width, is_even)[: len(chains)]
            if rules.temperature > 0:
                picked, is_row_valid = pick_one_each(logits, uniform[:, i], rules.temperature, rules.top_p)
                is_valid &= is_row_valid
            else:
                picked = logits.argmax(-1)[:, None]
            drawn.append(picked)
            token = torch.nn.functional.pad(picked[:, 0], (0, count - len(chains)))
        require_numbers(is_valid)
        return torch.stack(drawn, 1).cpu().numpy()

    def _may_be_unmasked(self) -> bool:
        """Return whether rows of equal length need no mask. Then CUDA has flash attention."""
        config = self._model.config
        return (
            self._model.device.type == "cuda"
            and config._attn_implementation == "sdpa"
            and get_window(self._model) is None
        )

    def _extend(self, chain: Chain, drawn: np.ndarray) -> list[Chain]:
        """Add the drawn tokens ([steps, K]) to a chain. Store what ends. Return what goes on: a chain for each token."""
        rules = self._rules
        if len(chain.attempts) == 1:
            for token in drawn[:, 0].tolist():
                chain.tokens.append(token)
                if token in rules.stop or len(chain.tokens) == rules.max_tokens:
                    self._store(chain.prompt, tuple(chain.tokens), chain.attempts)
                    return []
            return [chain]
        alive = []
        tokens = drawn[0, : len(chain.attempts)]
        for token in np.unique(tokens).tolist():
            fork = Chain(chain.prompt, chain.attempts[tokens == token], [*chain.tokens, token])
            if token in rules.stop or len(fork.tokens) == rules.max_tokens:
                self._store(fork.prompt, tuple(fork.tokens), fork.attempts)
            else:
                alive.append(fork)
        return alive

    def _place_forks(self, forks: list[tuple[int, Chain]], free: list[int]) -> None:
        """Copy the rows of chains that branched to free rows, which are taken from ``free``, or let them wait."""
        source, target = [], []
        prefixes: dict[int, Prefix] = {}
        for row, fork in forks:
            if free:
                place = free.pop()
                self._chains[place] = fork
            elif len(self._chains) < self._most_chains:
                place = len(self._chains)
                self._chains.append(fork)
            else:
                if row not in prefixes:
                    prefixes[row] = self._cache.read(row, self._count_slots(fork))
                fork.prefix = prefixes[row]
                self._waiting.appendleft(fork)
                continue
            source.append(row)
            target.append(place)
        width = max((self._count_slots(fork) for _, fork in forks), default=0)
        self._cache.copy(source, target, width)

    def _close_gaps(self, free: list[int]) -> None:
        """Move the last rows to the free ones, so that the rows in use are the first ones."""
        count = len(self._chains) - len(free)
        gaps = [row for row in free if row < count]
        moved = sorted(set(range(count, len(self._chains))) - set(free))
        for row, gap in zip(moved, gaps, strict=True):
            self._chains[gap] = self._chains[row]
        del self._chains[count:]
        self._cache.copy(moved, gaps, max((self._count_slots(self._chains[gap]) for gap in gaps), default=0))

    def _reserve(self, more: int, slots: int) -> None:
        """Make room for ``slots`` slots and ``more`` rows. If that is too much, the shortest chains lose theirs and wait."""
        cache = self._cache
        if len(self._chains) + more <= self._most_chains and slots <= cache.capacity:
            return
        capacity = round_up(slots, _BLOCK)
        rows = self._most_chains = max(self._fit_rows(capacity), more)
        if len(self._chains) + more > rows:
            order = sorted(range(len(self._chains)), key=lambda row: (-self._count_slots(self._chains[row]), row))
            lost = sorted(order[rows - more :])
            self._waiting.extendleft(self._chains[row] for row in lost)
            self._close_gaps(lost)
        cache.resize(max(rows, _FEWEST_ROWS), capacity, len(self._chains))

    def _fit_rows(self, capacity: int) -> int:
        """Return how many rows of ``capacity`` slots are allowed."""
        return max(1, min(self._most_rows, len(self._streams), self._cache_tokens // capacity))

    def _count_slots(self, chain: Chain) -> int:
        """Return the number of tokens of a chain in the cache, which is the slot of its last token."""
        return len(self._prompts[chain.prompt]) + len(chain.tokens) - 1


def _count_shared(prompts: Sequence[Sequence[int]]) -> int:
    """Return how many tokens all prompts begin with, in blocks: at least one token of each prompt is not counted."""
    first, last = min(map(tuple, prompts)), max(map(tuple, prompts))
    pairs = zip(first[:-1], last, strict=False)
    count = next((i for i, (a, b) in enumerate(pairs) if a != b), len(first) - 1)
    return min(count, len(last) - 1) // ALIGNMENT * ALIGNMENT
