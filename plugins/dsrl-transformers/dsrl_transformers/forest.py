"""Rows of key-value cache that hold whole trees of continuations.

A row is one prompt and every distinct continuation of it that is still wanted: each token once, whatever number of
continuations goes through it. What a continuation may look at is a mask over the row's slots, so one forward pass
takes all open ends (leaves) of all rows a token further and nothing is copied for a branch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

# Time that one slot of cache costs in a forward pass, in passes of one token through the weights: for being copied and
# attended to in its row, and for being attended to by one more leaf. Tried out on a model of a million parameters on a CPU;
# only speed depends on them.
_SLOT_COST = 1 / 64
_LOOK_COST = 1 / 1024


@dataclass
class Forest:
    """Rows of cache and the leaves on them.

    Attributes:
        cache: the keys and values, ``B`` rows of ``S`` slots: a ``DynamicCache``, of plain layers only.
        row: [R] the row of each leaf, ascending.
        sees: [R, S] the slots that a leaf looks at.
        position: [R] position of the leaf's own token, which is not in the cache yet.
        token: [R] that token.
    """

    cache: Any
    row: Tensor
    sees: Tensor
    position: Tensor
    token: Tensor

    @property
    def leaves(self) -> int:
        """How many leaves there are: ``R``."""
        return int(self.row.shape[0])

    @property
    def rows(self) -> int:
        """How many rows of cache there are: ``B``."""
        return int(self.cache.layers[0].keys.shape[0])

    @property
    def slots(self) -> int:
        """How many slots a row has: ``S``."""
        return int(self.cache.layers[0].keys.shape[2])

    def grow(self, model: Any) -> Tensor:
        """Put the leaves' tokens into the cache; give the logits of what follows each, [R, V], in leaf order."""
        column = _rank_in_group(self.row)
        width = int(column.max()) + 1
        rows, slots, device = self.rows, self.slots, self.row.device
        tokens = torch.zeros(rows, width, dtype=torch.long, device=device)
        positions = torch.zeros_like(tokens)
        # A place without a leaf looks at itself only: a softmax over nothing would be NaN.
        sees = torch.zeros(rows, width, slots + width, dtype=torch.bool, device=device)
        sees[:, :, slots:] = torch.eye(width, dtype=torch.bool, device=device)
        tokens[self.row, column] = self.token
        positions[self.row, column] = self.position
        sees[self.row, column, :slots] = self.sees
        output = model(
            input_ids=tokens,
            attention_mask=tree_mask(model, sees),
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.sees = sees[self.row, column]
        self.position = self.position + 1
        logits: Tensor = output.logits[self.row, column]
        return logits

    def branch(self, parent: Tensor, token: Tensor) -> None:
        """Replace the leaves by children: [R'] the parent of each, ascending, and its token."""
        self.row, self.sees, self.position = self.row[parent], self.sees[parent], self.position[parent]
        self.token = token

    def halve(self) -> tuple[Forest, Tensor, Forest, Tensor]:
        """Split the rows in two: each half with the numbers of its leaves here. There must be two rows with leaves."""
        first = self.row < self.row[self.leaves // 2]
        if not bool(first.any()):  # the first row holds more than half of the leaves
            first = self.row == self.row[0]
        parts = []
        for chosen in (first, ~first):
            leaf = chosen.nonzero().squeeze(1)
            part = Forest(self.cache, self.row[leaf], self.sees[leaf], self.position[leaf], self.token[leaf])
            part._rearrange(part.row)
            parts.append((part, leaf))
        return (*parts[0], *parts[1])

    def tidy(self) -> None:
        """Lay the leaves out anew if that makes the next pass cheaper: fewer rows, or fewer leaves a row."""
        per_row = torch.bincount(self.row, minlength=self.rows)
        widest, depth = int(per_row.max()), int(self.position.max())
        best, best_width = _cost(self.rows, widest, self.slots), 0
        width = 1
        while True:
            rows = int(((per_row + width - 1) // width).sum())
            slots = depth if width == 1 else self.slots
            cost = _cost(rows, width, slots) + rows * slots * _SLOT_COST
            if cost < best:
                best, best_width = cost, width
            if width >= widest:
                break
            width = min(2 * width, widest)
        if best_width:
            self._rearrange(self.row * widest + _rank_in_group(self.row) // best_width)

    def _rearrange(self, group: Tensor) -> None:
        """Give each group of leaves ([R], ascending, within a row) a row with only the slots that it looks at."""
        _, row = torch.unique_consecutive(group, return_inverse=True)
        first = torch.searchsorted(row, torch.arange(int(row[-1]) + 1, device=row.device))
        used = torch.zeros(len(first), self.slots, dtype=torch.int32, device=row.device)
        used.index_add_(0, row, self.sees.to(torch.int32))
        used = used > 0
        slots = int(used.sum(1).max())
        # Used slots first, in their order.
        kept = torch.argsort((~used).to(torch.uint8), dim=1, stable=True)[:, :slots]
        self.cache = _gather(self.cache, self.row[first], kept)
        self.sees = self.sees.gather(1, kept[row])
        self.row = row


def prefill(model: Any, prompts: list[list[int]], pad: int) -> tuple[Forest, Tensor]:
    """Run prompts through the model, each as a row with one leaf; give that and the logits after each, [P, V].

    The leaves have no token yet: :meth:`Forest.branch` is next.
    """
    device = model.device
    longest = max(map(len, prompts))
    tokens = torch.tensor([[pad] * (longest - len(ids)) + ids for ids in prompts], device=device)
    length = torch.tensor([len(ids) for ids in prompts], device=device)
    sees = torch.arange(longest, device=device) >= (longest - length)[:, None]
    cache = DynamicCache(config=model.config)
    output = model(
        input_ids=tokens,
        attention_mask=sees.long(),
        position_ids=(sees.long().cumsum(1) - 1).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    row = torch.arange(len(prompts), device=device)
    return Forest(cache, row, sees, length, torch.full_like(row, pad)), output.logits[:, -1]


def tree_mask(model: Any, sees: Tensor) -> Tensor:
    """Make a model's attention mask out of [B, Q, S], true where a query looks at a slot."""
    if model.config._attn_implementation == "sdpa":
        return sees[:, None]
    # The eager implementation adds the mask to the scores.
    lowest = torch.finfo(model.dtype).min
    return torch.zeros(sees.shape, dtype=model.dtype, device=sees.device).masked_fill_(~sees, lowest)[:, None]


def holds_trees(model: Any) -> bool:
    """Say whether a model can work on trees: found out by trying, on one prompt with two branches of two tokens.

    Models with another memory than keys and values of every token (sliding windows, state spaces), and those that
    derive positions from the mask, cannot.
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
            got = forest.grow(model).float()
            plain = torch.tensor([prompt + one, prompt + two], device=model.device)
            want = model(input_ids=plain, attention_mask=torch.ones_like(plain)).logits[:, -1].float()
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
        return False
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.1
    return bool((got - want).abs().max() <= tolerance * want.std())


def _cost(rows: int, width: int, slots: int) -> float:
    return rows * (width * (1 + slots * _LOOK_COST) + slots * _SLOT_COST)


def _rank_in_group(group: Tensor) -> Tensor:
    """Number the members of each run of equal values: [3, 3, 5] -> [0, 1, 0]."""
    place = torch.arange(len(group), device=group.device)
    return place - torch.searchsorted(group, group)


def _gather(cache: Any, rows: Tensor, slots: Tensor) -> DynamicCache:
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
