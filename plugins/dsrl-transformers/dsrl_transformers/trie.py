"""One forward pass, with gradient, over a prompt and many completions of it. Each common prefix is computed once.

The tokens of a prompt and the tree of its completions lie in one row. A mask lets each token attend to the prompt and to
its own ancestors only. The log-probabilities, and their gradients, are the same as with a separate row for every completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dsrl_transformers.forest import make_tree_mask


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


def compute_log_probabilities(model: Any, tries: Sequence[Trie], temperature: float, pad: int) -> Tensor:
    """Return the log-probability of every node of every trie, one after the other: [sum of len(trie.tokens)], float32.

    Args:
        model: a causal language model. If :func:`~dsrl_transformers.forest.supports_trees` is false for it, every trie must
            have one completion only.
        tries: the tries of one forward pass.
        temperature: the logits are divided by it.
        pad: the token that fills the unused places; any token will do.
    """
    prompt, inner = max(len(t.prompt) for t in tries), max(len(t.inner) for t in tries)
    tokens = torch.full((len(tries), prompt + inner), pad)
    positions = torch.zeros_like(tokens)
    is_token = torch.zeros(tokens.shape, dtype=torch.bool)
    branches = torch.zeros(len(tries), inner, inner, dtype=torch.bool)
    # Of each node: its row, the place whose logits predict it, and its token.
    node_row: list[int] = []
    node_place: list[int] = []
    node_token: list[int] = []
    for row, trie in enumerate(tries):
        place = {node: i for i, node in enumerate(trie.inner)}
        start, end = prompt - len(trie.prompt), prompt + len(trie.inner)
        tokens[row, start:end] = torch.tensor([*trie.prompt, *(trie.tokens[node] for node in trie.inner)])
        positions[row, start:prompt] = torch.arange(len(trie.prompt))
        is_token[row, start:end] = True
        for i, node in enumerate(trie.inner):
            parent = trie.parents[node]
            if parent >= 0:
                branches[row, i] = branches[row, place[parent]]
            branches[row, i, i] = True
        positions[row, prompt:] = len(trie.prompt) - 1 + branches[row].sum(1)
        node_row += [row] * len(trie.tokens)
        node_place += [0 if parent < 0 else 1 + place[parent] for parent in trie.parents]
        node_token += trie.tokens
    device = model.device
    if all(len(trie.paths) == 1 for trie in tries):
        mask = is_token.long().to(device)  # without branches: the ordinary mask, which every model understands
    else:
        mask = make_tree_mask(model, _extend_to_prompt(is_token, branches).to(device))
    logits = model(
        input_ids=tokens.to(device),
        attention_mask=mask,
        position_ids=positions.clamp(min=0).to(device),
        use_cache=False,
        logits_to_keep=inner + 1,
    ).logits
    logits = logits.float() / temperature
    total = logits.logsumexp(-1)
    rows, places, ids = (torch.tensor(numbers, device=device) for numbers in (node_row, node_place, node_token))
    log_p: Tensor = logits[rows, places, ids] - total[rows, places]
    return log_p


def _extend_to_prompt(is_token: Tensor, branches: Tensor) -> Tensor:
    """Extend the ancestors [B, I, I] among the inner nodes to all places [B, S, S], the places of the prompt first."""
    places, inner = is_token.shape[1], branches.shape[1]
    prompt = places - inner
    visible = torch.tril(torch.ones(places, places, dtype=torch.bool)).repeat(len(is_token), 1, 1)
    visible[:, prompt:, prompt:] = branches
    visible &= is_token[:, None, :]
    # Padding attends to itself: a softmax over nothing would be NaN.
    return visible | torch.eye(places, dtype=torch.bool)
