"""How the prompts of a call are divided among workers."""

from __future__ import annotations

from collections.abc import Sequence

from dsrl import Prompt

#: Attempts of a chunk, and its prompts, if the user does not say how many.
_ATTEMPTS, _MOST_PROMPTS, _FEWEST_PROMPTS = 2048, 256, 16


def make_chunks(prompts: Sequence[Prompt], n: int, size: int = 0) -> list[list[int]]:
    """Divide prompts into chunks. Return the places of the prompts of each.

    The chunks depend on the call only, never on how many workers there are or which of them die. Copies of a prompt stay in
    one chunk, because a sampler gives each copy other attempts only if it sees all of them.

    Args:
        prompts: the prompts of the call.
        n: attempts at each.
        size: prompts of a chunk; 0 chooses.
    """
    size = size or max(_FEWEST_PROMPTS, min(_MOST_PROMPTS, _ATTEMPTS // max(1, n)))
    copies: dict[tuple[str, str, bool], list[int]] = {}
    for place, prompt in enumerate(prompts):
        copies.setdefault((str(prompt), prompt.system, prompt.is_chat), []).append(place)
    chunks: list[list[int]] = []
    for places in copies.values():
        if not chunks or len(chunks[-1]) >= size:
            chunks.append([])
        chunks[-1] += places
    return chunks
