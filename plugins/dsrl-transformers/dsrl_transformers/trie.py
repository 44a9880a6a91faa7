"""One forward pass, with gradient, over a prompt and many completions of it. Each common prefix is computed once.

The tokens of a prompt and the tree of its completions lie in one row. A mask lets each token attend to the prompt and to
its own ancestors only. The log-probabilities, and their gradients, are the same as with a separate row for every completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dsrl_transformers.log_probability import compute_token_log_probabilities


@dataclass(frozen=True)
class Trie:
    """A prompt with completions.

    A node is a token of a completion. Completions with a common beginning share its nodes. Parents come before children.

    Attributes:
        prompt: the tokens of the prompt.
        tokens: the token of each node.
        parents: the node before each node; -1 is the end of the prompt.
        paths: the nodes of each completion, in the order of its tokens.
        inner: the nodes that have children. Only these go through the model, because nobody needs to know what comes
            after a last token.
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    paths: tuple[tuple[int, ...], ...]
    inner: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of tokens that go through the model."""
        return len(self.prompt) + len(self.inner)


def build_trie(prompt: Sequence[int], completions: Sequence[Sequence[int]]) -> Trie:
    """Build the trie of ``completions``."""
    nodes: dict[tuple[int, int], int] = {}
    paths = []
    for completion in completions:
        path, node = [], -1
        for token in completion:
            node = nodes.setdefault((node, token), len(nodes))
            path.append(node)
        paths.append(tuple(path))
    parents = tuple(parent for parent, _ in nodes)
    tokens = tuple(token for _, token in nodes)
    return Trie(tuple(prompt), tokens, parents, tuple(paths), tuple(sorted(set(parents) - {-1})))


def compute_log_probabilities(
    model: Any, tries: Sequence[Trie], temperature: float, pad: int, is_head_linear: bool = False
) -> Tensor:
    """Return the log-probability of every node of every trie, one after the other: [sum of len(trie.tokens)], float32.

    Args:
        model: a causal language model. If :func:`~dsrl_transformers.forest.supports_trees` is false for it, every trie must
            have one completion only.
        tries: the tries of one forward pass.
        temperature: the logits are divided by it.
        pad: the token that fills the unused places; any token will do.
        is_head_linear: whether :func:`~dsrl_transformers.log_probability.has_linear_head` is true for the model. Then the
            logits of all places are never in memory at once.
    """
    batch = _lay_out(tries, pad)
    device = model.device
    inputs = {
        "input_ids": batch.tokens.to(device),
        "attention_mask": None if batch.visible is None else _make_mask(model, batch.visible.to(device)),
        "position_ids": batch.positions.to(device),
        "use_cache": False,
    }
    place, token = batch.place.to(device), batch.token.to(device)
    if is_head_linear:
        hidden = model.base_model(**inputs).last_hidden_state.flatten(0, 1)
        needed, place = torch.unique(place, return_inverse=True)
        weight = model.get_output_embeddings().weight
        return compute_token_log_probabilities(hidden[needed], weight, place, token, temperature)
    width = batch.tokens.shape[1]
    first = min(len(trie.prompt) for trie in tries) - 1  # nothing is predicted before the end of a prompt
    logits = model(**inputs, logits_to_keep=width - first).logits
    logits = logits.float() / temperature
    total = logits.logsumexp(-1)
    row, column = place // width, place % width - first
    log_p: Tensor = logits[row, column, token] - total[row, column]
    return log_p


@dataclass(frozen=True)
class _Batch:
    """The input of one forward pass, a trie a row: its prompt, then its inner nodes, then padding.

    Attributes:
        tokens, positions: [B, S].
        visible: [B, S, S], which places a place attends to; None if it is all places before it. Then no mask is needed, and
            the fast kinds of attention work.
        place: [M] of each node, the place in ``B * S`` that predicts it.
        token: [M] its token.
    """

    tokens: Tensor
    positions: Tensor
    visible: Tensor | None
    place: Tensor
    token: Tensor


def _lay_out(tries: Sequence[Trie], pad: int) -> _Batch:
    width = max(trie.size for trie in tries)
    tokens = torch.full((len(tries), width), pad)
    positions = torch.arange(width).repeat(len(tries), 1)
    # Padding comes last, so nothing attends to it. It attends to everything: a softmax over nothing would be NaN.
    visible = None
    if any(len(trie.paths) > 1 for trie in tries):
        visible = torch.ones(width, width, dtype=torch.bool).tril().repeat(len(tries), 1, 1)
    node_place: list[int] = []
    node_token: list[int] = []
    for row, trie in enumerate(tries):
        start, end = len(trie.prompt), trie.size
        place = {node: start + i for i, node in enumerate(trie.inner)}
        place[-1] = start - 1
        tokens[row, :end] = torch.tensor([*trie.prompt, *(trie.tokens[node] for node in trie.inner)])
        if visible is not None:
            # In NumPy: PyTorch takes ten times as long for the many small steps.
            branches = np.eye(end - start, dtype=bool)
            for i, node in enumerate(trie.inner):
                if trie.parents[node] >= 0:
                    branches[i] |= branches[place[trie.parents[node]] - start]
            visible[row, start:end, start:end] = torch.from_numpy(branches)
            positions[row, start:end] = torch.from_numpy(start - 1 + branches.sum(1))
        node_place += [row * width + place[parent] for parent in trie.parents]
        node_token += trie.tokens
    return _Batch(tokens, positions, visible, torch.tensor(node_place), torch.tensor(node_token))


def _make_mask(model: Any, visible: Tensor) -> Tensor:
    """Make the mask that is added to the scores, [B, 1, S, S]. In the type of the scores, so that all layers share it."""
    kind = visible.device.type
    dtype = torch.float64 if model.dtype == torch.float64 else torch.float32
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min)[:, None]
