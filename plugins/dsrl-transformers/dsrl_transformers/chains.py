"""Completions in rows of cache: one row each, and a waiting completion takes the row of one that ends.

A row holds the keys and values of a prompt and its completion in its first slots. All rows have the same number of slots,
which grows in blocks. The rows in use are the first ones, so that a pass computes no row in vain and copies no cache.

Attempts that have drawn the same tokens so far share a row. When they draw different tokens, the row is copied. What a row
computes does not depend on the other rows, except where the kernels for matrices do: on a CPU in float32 they do not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer

from dsrl_transformers.draws import DrawRules, get_uniform, pick_one_each, require_numbers

_BLOCK = 64  # slots by which rows grow
_ALIGNMENT = 16  # the number of slots that a pass looks at is a multiple of this: fused kernels for CUDA want 8
_MOST_ROWS = {"cpu": 128, "cuda": 512}
_FEWEST_ROWS = 4  # of a pass: with fewer, a CPU takes other kernels, whose rounding differs
_PREFILL_TOKENS = {"cpu": 2048, "cuda": 16384}  # of one pass over prompts
_STEPS = {"cpu": 1, "cuda": 8}  # tokens that are drawn between two looks at what has ended


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


class _RowLayer(CacheLayerMixin):
    """The keys and values of one layer, [B, H, S, D]. A pass writes one token into each of the first rows."""

    is_sliding = False
    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values, self.is_initialized = keys, values, True
        self.row = self.slot = torch.empty(0, dtype=torch.long)
        self.width = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: the tensors are there from the beginning."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the token of each row. Return the slots that the pass looks at, without a copy."""
        self.keys[self.row, :, self.slot] = key_states[:, :, 0]
        self.values[self.row, :, self.slot] = value_states[:, :, 0]
        rows = len(key_states)
        return self.keys[:rows, :, : self.width], self.values[:rows, :, : self.width]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.width, 0

    def get_seq_length(self) -> int:
        return self.width - 1

    def get_max_length(self) -> int:
        return -1


@dataclass(frozen=True, slots=True)
class _Piece:
    """Keys and values of one layer, [B, H, S, D]."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True, slots=True)
class _Prefix:
    """A copy of a row."""

    layers: list[_Piece]


class RowCache:
    """Rows of keys and values: ``capacity`` slots each."""

    def __init__(self) -> None:
        self.layers: list[_RowLayer] = []
        self.rows = self.capacity = 0

    def allocate(self, rows: int, capacity: int, like: Any) -> None:
        """Make the tensors, with the shapes and types of another cache."""
        self.layers = []
        for layer in like.layers:
            tensors = []
            for whole in (layer.keys, layer.values):
                # Zeros, because a mask does not hide what is not a number.
                tensors.append(whole.new_zeros(rows, whole.shape[1], capacity, whole.shape[3]))
            self.layers.append(_RowLayer(*tensors))
        self.rows, self.capacity = rows, capacity

    def resize(self, rows: int, capacity: int, used: int) -> None:
        """Move the first ``used`` rows to new tensors, layer by layer, so that little is in memory twice."""
        width = min(capacity, self.capacity)
        for layer in self.layers:
            for name in ("keys", "values"):
                old = getattr(layer, name)
                new = old.new_zeros(rows, old.shape[1], capacity, old.shape[3])
                new[:used, :, :width] = old[:used, :, :width]
                setattr(layer, name, new)
        self.rows, self.capacity = rows, capacity

    def write(self, first: int, count: int, cache: Any) -> None:
        """Copy the rows of another cache to ``count`` rows from number ``first`` on; a single row is copied to all."""
        for layer, source in zip(self.layers, cache.layers, strict=True):
            slots = source.keys.shape[2]
            layer.keys[first : first + count, :, :slots] = source.keys
            layer.values[first : first + count, :, :slots] = source.values

    def read(self, row: int, width: int) -> _Prefix:
        """Copy the first ``width`` slots of a row."""
        part = (slice(row, row + 1), slice(None), slice(width))
        return _Prefix([_Piece(layer.keys[part].clone(), layer.values[part].clone()) for layer in self.layers])

    def copy(self, source: Sequence[int], target: Sequence[int], width: int) -> None:
        """Copy the first ``width`` slots of rows to other rows. No row is both a source and a target."""
        if source:
            for layer in self.layers:
                for tensor in (layer.keys, layer.values):
                    for one, other in zip(source, target, strict=True):
                        tensor[other, :, :width] = tensor[one, :, :width]

    def forward(self, model: Any, token: Tensor, slot: Tensor, width: int, is_even: bool) -> Tensor:
        """Put a token of each row ([A]) into its slot ([A]). Return the logits of the token that follows, [A, V].

        ``width`` is the number of slots that the pass looks at. If ``is_even``, all rows end in its last slot.
        """
        row = torch.arange(len(token), device=token.device)
        for layer in self.layers:
            layer.row, layer.slot, layer.width = row, slot, width
        output = model(
            input_ids=token[:, None],
            attention_mask=None if is_even else make_row_masks(model, slot, width),
            position_ids=slot[:, None],
            past_key_values=Cache(layers=list(self.layers)),
            use_cache=True,
        )
        logits: Tensor = output.logits[:, -1]
        return logits


def make_row_masks(model: Any, slot: Tensor, width: int) -> Any:
    """Make the attention masks of one token in ``slot`` ([A]) of each row: one mask, or one for each kind of layer."""
    from dsrl_transformers.forest import make_tree_mask  # forest.py takes nothing from this module

    place = torch.arange(width, device=slot.device)
    full = (place <= slot[:, None])[:, None]  # [A, 1, width]
    window, kinds = _get_window(model), _get_layer_types(model)
    if window is None:
        return make_tree_mask(model, full)
    sliding = full & (place > slot[:, None, None] - window)
    if not kinds:
        return make_tree_mask(model, sliding)
    masks = {"full_attention": full, "sliding_attention": sliding}
    return {kind: make_tree_mask(model, masks[kind]) for kind in kinds}


def supports_chains(model: Any) -> bool:
    """Return whether a model computes rows of cache correctly: all rows hold the tokens of all layers.

    Sliding windows are possible, because they are only masks. State spaces, chunks and positions that come from the mask
    are not. The function tries it with two rows.
    """
    if model.config._attn_implementation not in ("sdpa", "eager"):
        return False
    if not _get_layer_types(model) <= {"full_attention", "sliding_attention"}:
        return False
    vocabulary = model.get_input_embeddings().weight.shape[0]
    prompts, more = [[1, 8, 15, 22, 29], [1, 8, 15]], [[2, 3], [4, 2]]
    prompts, more = ([[token % vocabulary for token in row] for row in rows] for rows in (prompts, more))
    try:
        with torch.inference_mode():
            rows, expected = RowCache(), []
            for i, prompt in enumerate(prompts):
                cache = prefill_rows(model, [prompt])
                if i == 0:
                    rows.allocate(2, _ALIGNMENT, cache)
                rows.write(i, 1, cache)
                whole = torch.tensor([prompt + more[i]], device=model.device)
                expected.append(model(input_ids=whole, attention_mask=torch.ones_like(whole)).logits[0, -2:].float())
            drawn = []
            for step in (0, 1):
                token = torch.tensor([row[step] for row in more], device=model.device)
                slot = torch.tensor([len(prompt) + step for prompt in prompts], device=model.device)
                drawn.append(rows.forward(model, token, slot, _ALIGNMENT, False).float())
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError):
        return False
    plain = torch.stack(expected)
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.1
    return bool((torch.stack(drawn, 1) - plain).abs().max() <= tolerance * plain.std())


def prefill_rows(model: Any, texts: Sequence[Sequence[int]], prefix: Any = None, start: int = 0) -> DynamicCache:
    """Run token ids through the model. Return their keys and values, in the first slots of a row for each text.

    Padding stands behind the tokens, which attend to what is before them only. So no mask is needed, which allows flash
    attention, and a row does not depend on the length of the others. ``prefix`` is a cache with one row that holds the first
    ``start`` tokens, if all texts begin with the same.
    """
    cache = DynamicCache()  # without the model's config: plain layers, which keep all tokens
    if prefix is not None:
        for i, layer in enumerate(prefix.layers):
            shape = (len(texts), -1, -1, -1)
            cache.update(layer.keys[:, :, :start].expand(shape), layer.values[:, :, :start].expand(shape), i)
    width = _round_up(max(map(len, texts)) - start, _ALIGNMENT)
    ids = [[*text[start:], *[0] * (width - len(text) + start)] for text in texts]
    model(
        input_ids=torch.tensor(ids, device=model.device),
        position_ids=torch.arange(start, start + width, device=model.device).expand(len(texts), -1),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        raise ValueError("The model's cache has layers of its own.")
    return cache


def _count_shared(prompts: Sequence[Sequence[int]]) -> int:
    """Return how many tokens all prompts begin with, in blocks: at least one token of each prompt is not counted."""
    first, last = min(map(tuple, prompts)), max(map(tuple, prompts))
    pairs = zip(first[:-1], last, strict=False)
    count = next((i for i, (a, b) in enumerate(pairs) if a != b), len(first) - 1)
    return min(count, len(last) - 1) // _ALIGNMENT * _ALIGNMENT


class ChainEngine:
    """Draws the tokens of many chains at once.

    Args:
        model: a model for which :func:`supports_chains` is true.
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
            return self._fit_rows(_round_up(slots + self._steps, _BLOCK))
        longest = max(slots, *map(self._count_slots, self._chains)) + self._steps
        return max(self._fit_rows(_round_up(longest, _BLOCK)) - len(self._chains), 0)

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
            capacity = _round_up(slots, _BLOCK)
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
        steps = self._steps if most == 1 else 1
        drawn_before = np.array([len(chain.tokens) for chain in chains])
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
            width = width if is_even else _round_up(width, _ALIGNMENT)
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
            and _get_window(self._model) is None
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
        prefixes: dict[int, _Prefix] = {}
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
        capacity = _round_up(slots, _BLOCK)
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


def _round_up(count: int, block: int) -> int:
    return -(-count // block) * block


def _get_window(model: Any) -> int | None:
    """Return the length of the model's sliding windows in tokens; None if it has none."""
    config = model.config.get_text_config(decoder=True)
    kinds = getattr(config, "layer_types", None)
    if kinds and "sliding_attention" not in kinds:
        return None
    window: int | None = getattr(config, "sliding_window", None)
    return window


def _get_layer_types(model: Any) -> set[str]:
    """Return the kinds of the model's layers; none if the config does not name them."""
    return set(getattr(model.config.get_text_config(decoder=True), "layer_types", None) or ())
