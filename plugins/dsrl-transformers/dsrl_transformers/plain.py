"""Sampling without shared computation, for models that cannot work on trees: each completion is a row of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from dsrl_transformers.decode import Cancelled, Drawn


@torch.inference_mode()
def decode_plainly(
    model: Any,
    prompts: Sequence[Sequence[int]],
    n: int,
    *,
    temperature: float,
    top_p: float,
    max_tokens: int,
    stop: Collection[int],
    seed: int,
    cache_tokens: int,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Drawn]:
    """Draw as :func:`dsrl_transformers.decode.decode` does, by the model's own ``generate``, prompt by prompt.

    The random numbers follow from the seed and the prompt's place among equal ones, so the result does not depend on
    the other prompts or on earlier calls.
    """
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=max_tokens,
        do_sample=temperature > 0,
        eos_token_id=sorted(stop) or None,
        pad_token_id=min(stop, default=0),
        repetition_penalty=1.0,
        **({"temperature": temperature, "top_p": top_p, "top_k": 0} if temperature > 0 else {}),
    )
    if n < 1 or max_tokens < 1:
        return [Drawn(((),), (0,) * n) for _ in prompts]
    seen: dict[tuple[int, ...], int] = {}
    drawn = []
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        for prompt in map(tuple, prompts):
            again = seen[prompt] = seen.get(prompt, -1) + 1
            digest = hashlib.blake2b(f"{seed}/{again}/{prompt}".encode(), digest_size=8).digest()
            torch.manual_seed(int.from_bytes(digest, "little"))
            wanted = n if temperature > 0 else 1
            most = max(1, cache_tokens // (len(prompt) + max_tokens))
            rows: list[tuple[int, ...]] = []
            while len(rows) < wanted:
                if cancelled():
                    raise Cancelled
                count = min(most, wanted - len(rows))
                ids = torch.tensor([prompt] * count, device=model.device)
                out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
                rows += [_until_stop(row, stop) for row in out[:, len(prompt) :].tolist()]
            distinct = list(dict.fromkeys(rows))
            number = {tokens: i for i, tokens in enumerate(distinct)}
            which = [number[tokens] for tokens in rows] * (n if wanted == 1 else 1)
            drawn.append(Drawn(tuple(distinct), tuple(which[:n])))
    return drawn


def _until_stop(tokens: list[int], stop: Collection[int]) -> tuple[int, ...]:
    end = next((i + 1 for i, token in enumerate(tokens) if token in stop), len(tokens))
    return tuple(tokens[:end])
