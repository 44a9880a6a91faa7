"""On a CUDA device: what the CPU answers, too little memory, and memory that is given back."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from dsrl_transformers.decode import DecodeSettings, decode
from dsrl_transformers.language_model import load_model
from dsrl_transformers.plain import decode_plainly
from dsrl_transformers.sampler import TransformersSampler

from dsrl import Prompt

from .conftest import build_model
from .test_chains import decode_chains
from .test_decode import draw, prompts, sequences
from .test_grpo import ITEMS, job, train, weights
from .test_sampler import PROMPTS, sample

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@contextmanager
def limited_memory(spare: int) -> Iterator[None]:
    """Let torch take only ``spare`` bytes more than it has now."""
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + spare) / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("how", [decode, decode_chains, decode_plainly])
def test_greedy_is_that_of_the_cpu(model: Any, how: Any) -> None:
    of = [*prompts(40), [3], [3, 4], [3, 4]]
    plain = sequences(draw(model, of, 2, how=how, temperature=0, max_tokens=40))
    assert sequences(draw(model.cuda(), of, 2, how=how, temperature=0, max_tokens=40)) == plain


@pytest.mark.parametrize("how", [decode, decode_chains])
@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_draws_are_those_of_the_cpu(model: Any, how: Any, top_p: float) -> None:
    of = [*prompts(30), *([5 + i, 6, 7, 8] for i in range(20))]  # also many of the same length, which need no mask
    plain = sequences(draw(model, of, 16, how=how, top_p=top_p, max_tokens=40))
    drawn = sequences(draw(model.cuda(), of, 16, how=how, top_p=top_p, max_tokens=40))
    pairs = [pair for ours, theirs in zip(drawn, plain, strict=True) for pair in zip(ours, theirs, strict=True)]
    assert sum(one == other for one, other in pairs) >= 0.99 * len(pairs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_and_trees_are_those_of_plain_passes(dtype: torch.dtype) -> None:
    small = build_model(max_position_embeddings=2048).to("cuda", dtype)
    of = [prompt * 4 for prompt in prompts(12)]
    # Greedy, so that a difference shows: in bfloat16 a tie is decided by rounding now and then.
    plain = sequences(draw(small, of, 1, how=decode_plainly, temperature=0, max_tokens=64))
    for how in (decode, decode_chains):
        drawn = sequences(draw(small, of, 1, how=how, temperature=0, max_tokens=64))
        first = [
            sum(a == b for a, b in zip(x[0][:4], y[0][:4], strict=True)) for x, y in zip(drawn, plain, strict=True)
        ]
        assert drawn == plain or (dtype == torch.bfloat16 and sum(first) >= 0.9 * 4 * len(of))


def test_the_same_call_gives_the_same_answers(model_dir: Path) -> None:
    sampler = TransformersSampler(str(model_dir))
    texts = sample(sampler, [*PROMPTS, *PROMPTS], 32, max_tokens=60)
    assert sample(sampler, [*PROMPTS, *PROMPTS], 32, max_tokens=60) == texts
    asyncio.run(sampler.aclose())


def test_device_and_dtype_are_chosen(model_dir: Path) -> None:
    lm = load_model(str(model_dir))
    assert (lm.model.device.type, lm.model.dtype) == ("cuda", torch.bfloat16)
    trained = load_model(str(model_dir), purpose="train")
    assert (trained.model.dtype, trained.autocast_dtype) == (torch.float32, torch.bfloat16)
    assert lm.has_trees
    assert trained.has_trees


def test_a_closed_sampler_gives_its_memory_back(model_dir: Path) -> None:
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    sampler = TransformersSampler(str(model_dir))
    sample(sampler, PROMPTS * 20, 16, max_tokens=60)
    assert torch.cuda.memory_allocated() > before
    asyncio.run(sampler.aclose())
    gc.collect()
    assert torch.cuda.memory_allocated() <= before + 2**20


def test_too_little_memory_for_the_cache_halves_it(model_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    lm = load_model(str(model_dir), "cuda", "float32")
    settings = DecodeSettings(64, 1.0, 1.0, 100, 1, 2**20)
    of = [lm.encode(Prompt("abc" * 40 + str(i))) for i in range(8)]
    lm.has_trees, lm.has_chains = False, True
    lm.complete(of, settings)
    used = torch.cuda.max_memory_allocated()
    with limited_memory(max(2**25, used // 3)), caplog.at_level(logging.WARNING):
        drawn = lm.complete(of, settings)
    assert "memory is too small" in caplog.text
    assert lm.cache_limit
    assert all(len(completions.indices) == 64 for completions in drawn)


def test_too_little_memory_for_a_pass_halves_it(
    model_dir: Path, tmp_path: Path, parrot: Any, caplog: pytest.LogCaptureFixture
) -> None:
    of = job(
        model_dir, tmp_path, items=ITEMS[:12], device="cuda", epochs=1, group_size=48, max_completion_tokens=200,
        temperature=1.5,
    )  # fmt: skip
    with limited_memory(2**26), caplog.at_level(logging.WARNING):
        steps = train(parrot, of)
    assert "too small for a training pass" in caplog.text
    assert [step.metrics["skipped"] for step in steps] == [0]


def test_a_training_is_that_of_the_cpu(model_dir: Path, tmp_path: Path, parrot: Any) -> None:
    plain = train(parrot, job(model_dir, tmp_path / "cpu", device="cpu", dtype="float32"))
    steps = train(parrot, job(model_dir, tmp_path / "cuda", device="cuda", dtype="float32"))
    for step, other in zip(steps[:3], plain[:3], strict=True):
        assert step.metrics["reward"] == pytest.approx(other.metrics["reward"], abs=0.02)
        assert step.metrics["grad_norm"] == pytest.approx(other.metrics["grad_norm"], rel=0.05)
    one, two = weights(tmp_path / "cpu" / "model"), weights(tmp_path / "cuda" / "model")
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 0.02


def test_a_training_goes_on_after_a_kill(model_dir: Path, tmp_path: Path, parrot: Any) -> None:
    of = job(model_dir, tmp_path, device="cuda", dtype="float32")
    seen = []

    def interrupt(step: Any) -> None:
        seen.append(step.step)
        if step.step == 4:
            raise KeyboardInterrupt

    from dsrl_transformers.grpo import GRPOTrainer

    with pytest.raises(KeyboardInterrupt):
        GRPOTrainer(checkpoint_seconds=0).train(of, parrot, interrupt)
    rest = train(parrot, of)
    assert [step.step for step in rest] == [4, 5, 6]
    assert weights(of.output_dir)
