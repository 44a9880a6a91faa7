"""Sampling without shared computation, for models that cannot work on trees: each completion is a row of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from dsrl_transformers.decode import Cancelled, Completions, DecodeSettings


@torch.inference_mode()
def decode_plainly(
    model: Any,
    prompts: Sequence[Sequence[int]],
    settings: DecodeSettings,
    stop: Collection[int],
    is_cancelled: Callable[[], bool] = lambda: False,
) -> list[Completions]:
    """Draw as :func:`dsrl_transformers.decode.decode` does, with the model's own ``generate``, prompt by prompt.

    The random numbers depend on the seed and on the prompt's place among equal prompts, so other prompts and earlier calls
    do not change the result. The attempts at one prompt share the random numbers. Therefore the attempts before number
    ``first`` are computed too, and then left out.
    """
    if settings.n < 1 or settings.max_tokens < 1:
        return [Completions(((),), (0,) * settings.n) for _ in prompts]
    config = _make_config(settings, stop)
    is_greedy = settings.temperature <= 0
    first, n = (0, 1) if is_greedy else (settings.first, settings.n)
    repeats: dict[tuple[int, ...], int] = {}
    results = []
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        for prompt in map(tuple, prompts):
            repeat = repeats[prompt] = repeats.get(prompt, -1) + 1
            digest = hashlib.blake2b(f"{settings.seed}/{repeat}/{prompt}".encode(), digest_size=8).digest()
            torch.manual_seed(int.from_bytes(digest, "little"))
            max_rows = max(1, settings.cache_tokens // (len(prompt) + settings.max_tokens))
            rows: list[tuple[int, ...]] = []
            while len(rows) < first + n:
                if is_cancelled():
                    raise Cancelled
                count = min(max_rows, first + n - len(rows))
                ids = torch.tensor([prompt] * count, device=model.device)
                out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
                rows += [_cut_after_stop(row, stop) for row in out[:, len(prompt) :].tolist()]
            results.append(_make_completions(rows * settings.n if is_greedy else rows[first:]))
    return results


def _make_config(settings: DecodeSettings, stop: Collection[int]) -> GenerationConfig:
    is_random = settings.temperature > 0
    return GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=settings.max_tokens,
        do_sample=is_random,
        eos_token_id=sorted(stop) or None,
        pad_token_id=min(stop, default=0),
        repetition_penalty=1.0,
        **({"temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0} if is_random else {}),
    )


def _make_completions(rows: Sequence[tuple[int, ...]]) -> Completions:
    distinct = list(dict.fromkeys(rows))
    number = {tokens: i for i, tokens in enumerate(distinct)}
    return Completions(tuple(distinct), tuple(number[tokens] for tokens in rows))


def _cut_after_stop(tokens: list[int], stop: Collection[int]) -> tuple[int, ...]:
    end = next((i + 1 for i, token in enumerate(tokens) if token in stop), len(tokens))
    return tuple(tokens[:end])
