"""One forward pass, with gradient, over a prompt and many completions of it, each common prefix computed once.

The tokens of a prompt and the tree of its completions lie in one row; a mask lets each token look at the prompt and at
its own ancestors only. The log-probabilities, and their gradients, are those of a row for every completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dsrl_transformers.forest import tree_mask


@dataclass(frozen=True)
class Trie:
    """A prompt with completions.

    A node is a token of a completion; completions with a common beginning share its nodes. Parents come first.

    Attributes:
        prompt: its tokens.
        tokens: the token of each node.
        parents: the node before each, -1 for the prompt's end.
        paths: the nodes of each completion, in the order of its tokens.
        inner: the nodes that something follows. Only these go through the model: nothing is asked about what comes
            after a last token.
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    paths: tuple[tuple[int, ...], ...]
    inner: tuple[int, ...]

    @property
    def size(self) -> int:
        """Tokens that go through the model."""
        return len(self.prompt) + len(self.inner)


def plant(prompt: Sequence[int], completions: Sequence[Sequence[int]]) -> Trie:
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


def log_probabilities(model: Any, tries: Sequence[Trie], temperature: float, pad: int) -> Tensor:
    """Give the log-probability of every node of every trie, end to end: [sum of len(trie.tokens)], float32.

    Args:
        model: a causal language model. One for which :func:`~dsrl_transformers.forest.holds_trees` is false may only be
            given tries of one completion.
        tries: what goes into one forward pass.
        temperature: logits are divided by it.
        pad: any token.
    """
    prompt, inner = max(len(t.prompt) for t in tries), max(len(t.inner) for t in tries)
    tokens = torch.full((len(tries), prompt + inner), pad)
    positions = torch.zeros_like(tokens)
    real = torch.zeros(tokens.shape, dtype=torch.bool)
    branches = torch.zeros(len(tries), inner, inner, dtype=torch.bool)
    where_row: list[int] = []
    where_place: list[int] = []
    target: list[int] = []
    for row, trie in enumerate(tries):
        place = {node: i for i, node in enumerate(trie.inner)}
        start, end = prompt - len(trie.prompt), prompt + len(trie.inner)
        tokens[row, start:end] = torch.tensor([*trie.prompt, *(trie.tokens[node] for node in trie.inner)])
        positions[row, start:prompt] = torch.arange(len(trie.prompt))
        real[row, start:end] = True
        for i, node in enumerate(trie.inner):
            parent = trie.parents[node]
            if parent >= 0:
                branches[row, i] = branches[row, place[parent]]
            branches[row, i, i] = True
        positions[row, prompt:] = len(trie.prompt) - 1 + branches[row].sum(1)
        where_row += [row] * len(trie.tokens)
        where_place += [0 if parent < 0 else 1 + place[parent] for parent in trie.parents]
        target += trie.tokens
    device = model.device
    chains = all(len(trie.paths) == 1 for trie in tries)
    logits = model(
        input_ids=tokens.to(device),
        # Without branches the ordinary mask will do, which every model understands.
        attention_mask=(real.long().to(device) if chains else tree_mask(model, _sees(real, branches).to(device))),
        position_ids=positions.clamp(min=0).to(device),
        use_cache=False,
        logits_to_keep=inner + 1,
    ).logits
    logits = logits.float() / temperature
    total = logits.logsumexp(-1)
    at, of = torch.tensor(where_row, device=device), torch.tensor(where_place, device=device)
    log_p: Tensor = logits[at, of, torch.tensor(target, device=device)] - total[at, of]
    return log_p


def _sees(real: Tensor, branches: Tensor) -> Tensor:
    """Extend the ancestors [B, I, I] among the inner nodes to all places [B, S, S], the prompt's first."""
    places, inner = real.shape[1], branches.shape[1]
    prompt = places - inner
    sees = torch.tril(torch.ones(places, places, dtype=torch.bool)).repeat(len(real), 1, 1)
    sees[:, prompt:, prompt:] = branches
    sees &= real[:, None, :]
    # Padding looks at itself: a softmax over nothing would be NaN.
    return sees | torch.eye(places, dtype=torch.bool)
