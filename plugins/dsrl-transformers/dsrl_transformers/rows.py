"""Rows of key-value cache for texts that share nothing.

A row holds the keys and values of a text in its first slots. A pass adds a token to each of the first rows, and copies no
cache. What a row computes does not depend on the other rows, except where the kernels for matrices do: on a CPU in float32
they do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer

from dsrl_transformers.forest import make_tree_mask

ALIGNMENT = 16  # the number of slots that a pass looks at is a multiple of this: fused kernels for CUDA want 8


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
        # Under autocast a pass may return another type than the pass that the tensors were made like.
        self.keys[self.row, :, self.slot] = key_states[:, :, 0].to(self.keys.dtype)
        self.values[self.row, :, self.slot] = value_states[:, :, 0].to(self.values.dtype)
        rows = len(key_states)
        return self.keys[:rows, :, : self.width], self.values[:rows, :, : self.width]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.width, 0

    def get_seq_length(self) -> int:
        return self.width - 1

    def get_max_length(self) -> int:
        return -1

    def get_max_cache_shape(self) -> int:
        """Return the same; in transformers before 5.11, which verl needs, the method has this name."""
        return -1


@dataclass(frozen=True, slots=True)
class _Piece:
    """Keys and values of one layer, [B, H, S, D]."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True, slots=True)
class Prefix:
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

    def read(self, row: int, width: int) -> Prefix:
        """Copy the first ``width`` slots of a row."""
        part = (slice(row, row + 1), slice(None), slice(width))
        return Prefix([_Piece(layer.keys[part].clone(), layer.values[part].clone()) for layer in self.layers])

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
    place = torch.arange(width, device=slot.device)
    full = (place <= slot[:, None])[:, None]  # [A, 1, width]
    window, kinds = get_window(model), _get_layer_types(model)
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
                    rows.allocate(2, ALIGNMENT, cache)
                rows.write(i, 1, cache)
                whole = torch.tensor([prompt + more[i]], device=model.device)
                expected.append(model(input_ids=whole, attention_mask=torch.ones_like(whole)).logits[0, -2:].float())
            drawn = []
            for step in (0, 1):
                token = torch.tensor([row[step] for row in more], device=model.device)
                slot = torch.tensor([len(prompt) + step for prompt in prompts], device=model.device)
                drawn.append(rows.forward(model, token, slot, ALIGNMENT, False).float())
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
    longest = max(map(len, texts))
    width = round_up(longest - start, ALIGNMENT)
    places = torch.arange(start, start + width, device=model.device).clamp(max=longest - 1)
    ids = [[*text[start:], *[0] * (width - len(text) + start)] for text in texts]
    model(
        input_ids=torch.tensor(ids, device=model.device),
        position_ids=places.expand(len(texts), -1),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        raise ValueError("The model's cache has layers of its own.")
    return cache


def round_up(count: int, block: int) -> int:
    """Return the smallest multiple of ``block`` that is not below ``count``."""
    return -(-count // block) * block


def get_window(model: Any) -> int | None:
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
