"""Rows of key-value cache that hold whole trees of continuations.

A row holds one prompt and every distinct continuation of it that is not finished. Each token is there once, however many
continuations go through it. A mask over the row's slots says what a continuation attends to. So one forward pass adds a
token to all open ends (leaves) of all rows, and nothing is copied for a branch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

# Time that one slot of cache costs in a forward pass, in passes of one token through the weights: for its copy and the
# attention in its row, and for the attention of one more leaf. Measured with a model of a million parameters on a CPU. Only
# the speed depends on these numbers.
_SLOT_COST = 1 / 64
_ATTENTION_COST = 1 / 1024


@dataclass
class Forest:
    """Rows of cache and the leaves on them.

    Attributes:
        cache: the keys and values, ``B`` rows of ``S`` slots: a ``DynamicCache``, of plain layers only.
        row: [R] the row of each leaf, ascending.
        visible: [R, S] the slots that a leaf attends to.
        position: [R] the position of the leaf's own token, which is not in the cache yet.
        token: [R] that token.
    """

    cache: Any
    row: Tensor
    visible: Tensor
    position: Tensor
    token: Tensor

    @property
    def leaves(self) -> int:
        """The number of leaves, ``R``."""
        return int(self.row.shape[0])

    @property
    def rows(self) -> int:
        """The number of rows of cache, ``B``."""
        return int(self.cache.layers[0].keys.shape[0])

    @property
    def slots(self) -> int:
        """The number of slots of a row, ``S``."""
        return int(self.cache.layers[0].keys.shape[2])

    def grow(self, model: Any) -> Tensor:
        """Put the tokens of the leaves into the cache. Return the logits of the token after each leaf, [R, V]."""
        column = _number_in_group(self.row)
        width = int(column.max()) + 1
        rows, slots, device = self.rows, self.slots, self.row.device
        tokens = torch.zeros(rows, width, dtype=torch.long, device=device)
        positions = torch.zeros_like(tokens)
        # A place without a leaf attends to itself only: a softmax over nothing would be NaN.
        visible = torch.zeros(rows, width, slots + width, dtype=torch.bool, device=device)
        visible[:, :, slots:] = torch.eye(width, dtype=torch.bool, device=device)
        tokens[self.row, column] = self.token
        positions[self.row, column] = self.position
        visible[self.row, column, :slots] = self.visible
        output = model(
            input_ids=tokens,
            attention_mask=make_tree_mask(model, visible),
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.visible = visible[self.row, column]
        self.position = self.position + 1
        logits: Tensor = output.logits[self.row, column]
        return logits

    def branch(self, parent: Tensor, token: Tensor) -> None:
        """Replace the leaves by their children: the parent of each child, [R'], ascending, and its token, [R']."""
        self.row, self.visible, self.position = self.row[parent], self.visible[parent], self.position[parent]
        self.token = token

    def halve(self) -> tuple[Forest, Tensor, Forest, Tensor]:
        """Split the rows in two; at least two rows must have leaves. Each half comes with the numbers of its leaves here."""
        is_first = self.row < self.row[self.leaves // 2]
        if not bool(is_first.any()):  # the first row holds more than half of the leaves
            is_first = self.row == self.row[0]
        parts = []
        for is_in_half in (is_first, ~is_first):
            leaf = is_in_half.nonzero().squeeze(1)
            part = Forest(self.cache, self.row[leaf], self.visible[leaf], self.position[leaf], self.token[leaf])
            part._rearrange(part.row)
            parts.append((part, leaf))
        return (*parts[0], *parts[1])

    def copy_rows(self, leaves: Tensor) -> DynamicCache:
        """Copy what each of ``leaves`` ([R']) attends to into the first slots of a row of its own."""
        visible = self.visible[leaves]
        slots = int(visible.sum(1).max())
        order = torch.argsort((~visible).to(torch.uint8), dim=1, stable=True)[:, :slots]
        return _gather_slots(self.cache, self.row[leaves], order)

    def tidy(self) -> None:
        """Rearrange the leaves if that makes the next pass cheaper: with fewer rows, or with fewer leaves per row."""
        per_row = torch.bincount(self.row, minlength=self.rows)
        widest, depth = int(per_row.max()), int(self.position.max())
        best, best_width = _estimate_cost(self.rows, widest, self.slots), 0
        width = 1
        while True:
            rows = int(((per_row + width - 1) // width).sum())
            slots = depth if width == 1 else self.slots
            cost = _estimate_cost(rows, width, slots) + rows * slots * _SLOT_COST
            if cost < best:
                best, best_width = cost, width
            if width >= widest:
                break
            width = min(2 * width, widest)
        if best_width:
            self._rearrange(self.row * widest + _number_in_group(self.row) // best_width)

    def _rearrange(self, group: Tensor) -> None:
        """Give each group of leaves ([R], ascending, within a row) a row with only the slots that the group attends to."""
        _, row = torch.unique_consecutive(group, return_inverse=True)
        first = torch.searchsorted(row, torch.arange(int(row[-1]) + 1, device=row.device))
        counts = torch.zeros(len(first), self.slots, dtype=torch.int32, device=row.device)
        counts.index_add_(0, row, self.visible.to(torch.int32))
        is_needed = counts > 0
        slots = int(is_needed.sum(1).max())
        # The needed slots first, in their order.
        order = torch.argsort((~is_needed).to(torch.uint8), dim=1, stable=True)[:, :slots]
        self.cache = _gather_slots(self.cache, self.row[first], order)
        self.visible = self.visible.gather(1, order[row])
        self.row = row


def prefill(model: Any, prompts: list[list[int]], pad: int) -> tuple[Forest, Tensor]:
    """Run prompts through the model. Return them as a forest, one row with one leaf each, and the logits after each, [P, V].

    The leaves have no token yet: call :meth:`Forest.branch` next.
    """
    device = model.device
    longest = max(map(len, prompts))
    tokens = torch.tensor([[pad] * (longest - len(ids)) + ids for ids in prompts], device=device)
    length = torch.tensor([len(ids) for ids in prompts], device=device)
    visible = torch.arange(longest, device=device) >= (longest - length)[:, None]
    cache = DynamicCache()  # without the model's config: plain layers, which keep all tokens
    output = model(
        input_ids=tokens,
        attention_mask=visible.long(),
        position_ids=(visible.long().cumsum(1) - 1).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    row = torch.arange(len(prompts), device=device)
    return Forest(cache, row, visible, length, torch.full_like(row, pad)), output.logits[:, -1]


def make_tree_mask(model: Any, visible: Tensor) -> Tensor:
    """Make a model's attention mask from [B, Q, S], which is true where a query attends to a slot."""
    if model.config._attn_implementation == "sdpa":
        return visible[:, None]
    # The eager implementation adds the mask to the scores.
    lowest = torch.finfo(model.dtype).min
    return torch.zeros(visible.shape, dtype=model.dtype, device=visible.device).masked_fill_(~visible, lowest)[:, None]


def supports_trees(model: Any) -> bool:
    """Return whether a model computes trees correctly. The function tries it: one prompt with two branches of two tokens.

    Some models cannot: those that do not keep keys and values of every token (sliding windows, state spaces), and those that
    derive positions from the mask.
    """
    if model.config._attn_implementation not in ("sdpa", "eager"):
        return False
    if any(type(layer) is not DynamicLayer for layer in DynamicCache(config=model.config).layers):
        return False
    vocabulary = model.get_input_embeddings().weight.shape[0]
    prompt, one, two = ([(7 * i + k) % vocabulary for i in range(m)] for k, m in ((1, 5), (2, 2), (3, 2)))
    try:
        with torch.inference_mode():
            forest, _ = prefill(model, [prompt, prompt[:3]], 0)
            forest.branch(
                torch.tensor([0, 0], device=model.device), torch.tensor([one[0], two[0]], device=model.device)
            )
            forest.grow(model)
            forest.branch(
                torch.tensor([0, 1], device=model.device), torch.tensor([one[1], two[1]], device=model.device)
            )
            tree_logits = forest.grow(model).float()
            plain = torch.tensor([prompt + one, prompt + two], device=model.device)
            plain_logits = model(input_ids=plain, attention_mask=torch.ones_like(plain)).logits[:, -1].float()
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
        return False
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.1
    return bool((tree_logits - plain_logits).abs().max() <= tolerance * plain_logits.std())


def _estimate_cost(rows: int, width: int, slots: int) -> float:
    """Return the time of a forward pass, in passes of one token through the weights."""
    return rows * (width * (1 + slots * _ATTENTION_COST) + slots * _SLOT_COST)


def _number_in_group(group: Tensor) -> Tensor:
    """Number the members of each run of equal values: [3, 3, 5] -> [0, 1, 0]."""
    place = torch.arange(len(group), device=group.device)
    return place - torch.searchsorted(group, group)


def _gather_slots(cache: Any, rows: Tensor, slots: Tensor) -> DynamicCache:
    """Copy ``slots`` ([B', S']) of ``rows`` ([B']) into a new cache."""
    _, heads, length, _ = cache.layers[0].keys.shape
    head = torch.arange(heads, device=rows.device)
    place = ((rows[:, None] * heads + head) * length)[:, :, None] + slots[:, None, :]  # [B', H, S'] in [B * H * S]
    copy = DynamicCache()
    for layer in cache.layers:
        new: Any = layer.__class__()
        new.lazy_initialization(layer.keys, layer.values)
        for name in ("keys", "values"):
            whole = getattr(layer, name)
            chosen = whole.reshape(-1, whole.shape[-1]).index_select(0, place.flatten())
            setattr(new, name, chosen.view(*place.shape, whole.shape[-1]))
        copy.layers.append(new)
    return copy
