from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from dsrl_transformers import chains
from dsrl_transformers.decode import Cancelled, Completions, DecodeSettings, decode
from dsrl_transformers.draws import get_uniform, invert, make_streams, pick_one_each
from dsrl_transformers.rows import RowCache, supports_chains

from .conftest import build_model
from .test_decode import STOP, draw, prompts, sequences

Tokens = list[list[tuple[int, ...]]]


def draw_chains(model: Any, of: list[list[int]], n: int, **settings: Any) -> Tokens:
    """Draw 40 tokens with rows from the beginning."""
    return sequences(draw(model, of, n, **{"how": decode_chains, "max_tokens": 40, **settings}))


def decode_chains(*arguments: Any) -> list[Completions]:
    return decode(*arguments, has_trees=False)


@torch.no_grad()
def draw_plainly(model: Any, of: list[list[int]], n: int, temperature: float = 1.0, max_tokens: int = 40) -> Tokens:
    """Draw what ``draw`` does, one attempt after the other, with the whole text in each forward pass."""
    streams = make_streams(of, range(n), 1)
    rows = []
    for prompt, prompt_streams in zip(of, streams, strict=True):
        row = []
        for attempt in range(n):
            tokens: list[int] = []
            while len(tokens) < max_tokens and not STOP & {*tokens[-1:]}:
                logits = model(torch.tensor([prompt + tokens])).logits[:, -1]
                uniform = torch.from_numpy(get_uniform(prompt_streams[attempt : attempt + 1], len(tokens)))[:, None]
                token = invert(logits, uniform, temperature, 1.0)[0] if temperature else logits.argmax(-1)
                tokens.append(int(token))
            row.append(tuple(tokens))
        rows.append(row)
    return rows


@pytest.mark.parametrize("temperature", [1.0, 0.6, 0.0])
def test_rows_and_trees_give_what_a_plain_decoder_gives(model: Any, temperature: float) -> None:
    of = [*prompts(5), [3], [3, 4], [3, 4, 5]]
    plain = draw_plainly(model, of, 4, temperature)
    assert draw_chains(model, of, 4, temperature=temperature) == plain
    assert sequences(draw(model, of, 4, max_tokens=40, temperature=temperature)) == plain


@pytest.mark.parametrize("has_trees", [True, False])
def test_the_order_in_which_rows_are_taken_over_does_not_matter(
    model: Any, has_trees: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sample(of: list[list[int]], cache_tokens: int = 10**6) -> Tokens:
        settings = DecodeSettings(8, 1.0, 1.0, 40, 1, cache_tokens)
        return sequences(decode(model, of, settings, range(2, 5), has_trees=has_trees))

    of = prompts(12)
    together = sample(of)
    assert len({len(tokens) for row in together for tokens in row}) > 10
    assert sample(of[::-1])[::-1] == together
    for cache_tokens in (1, 300, 2000):
        assert sample(of, cache_tokens) == together
    for rows in (1, 3, 7):
        monkeypatch.setattr(chains, "_MOST_ROWS", {"cpu": rows})
        assert sample(of) == together


def test_company_does_not_matter_in_rows(model: Any) -> None:
    of = prompts(12)
    together = draw_chains(model, of, 16)
    assert [draw_chains(model, [prompt], 16)[0] for prompt in of] == together
    assert draw_chains(model, of, 16) == together


def test_several_tokens_between_two_looks_give_the_same(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on CUDA."""
    of = prompts(6)
    one = draw_chains(model, of, 8, stop=range(2, 5))
    monkeypatch.setattr(chains, "_STEPS", {"cpu": 8})
    assert draw_chains(model, of, 8, stop=range(2, 5)) == one
    greedy = draw_chains(model, of, 1, temperature=0)
    monkeypatch.setattr(chains.ChainEngine, "_may_be_unmasked", lambda engine: True)
    assert draw_chains(model, of[:1], 1, temperature=0) == greedy[:1]


@pytest.mark.parametrize("steps", [1, 8])
def test_no_position_lies_beyond_the_context(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    monkeypatch.setattr(chains, "_STEPS", {"cpu": steps})
    # This model has a table of positions, and raises an error beyond its end.
    config = GPT2Config(vocab_size=61, n_embd=32, n_layer=2, n_head=4, n_positions=30, initializer_range=0.3)
    model = GPT2LMHeadModel(config).eval()
    of = [[3 + i] * 20 for i in range(4)]
    drawn = draw_chains(model, of, 4, max_tokens=10, stop=())
    assert {len(tokens) for row in drawn for tokens in row} == {10}


def test_the_rows_stay_within_the_memory(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def record(method: Callable[..., None]) -> Callable[..., None]:
        def call(cache: RowCache, rows: int, capacity: int, *arguments: Any) -> None:
            sizes.append(rows * capacity)
            method(cache, rows, capacity, *arguments)

        return call

    monkeypatch.setattr(RowCache, "allocate", record(RowCache.allocate))
    monkeypatch.setattr(RowCache, "resize", record(RowCache.resize))
    draw_chains(model, prompts(20), 16, max_tokens=150, stop=(), cache_tokens=3000)
    assert len(sizes) > 2
    assert max(sizes) <= 3000
    assert min(sizes) > 1500


def test_a_prompt_is_computed_once(model: Any) -> None:
    """Also what all prompts begin with; the padding counts."""
    passes: list[int] = []

    def count(module: Any, arguments: Any, settings: dict[str, Any]) -> None:
        if settings["input_ids"].shape[1] > 1:
            passes.append(settings["input_ids"].numel())

    handle = model.register_forward_pre_hook(count, with_kwargs=True)
    draw_chains(model, [[7] * 40 + prompt for prompt in prompts(6, longest=12)], 16)
    handle.remove()
    assert passes == [32, 6 * 32]


def test_cancelling_between_two_passes(model: Any) -> None:
    for has_trees in (True, False):
        calls = 0

        def is_cancelled() -> bool:
            nonlocal calls
            calls += 1
            return calls > 25

        with pytest.raises(Cancelled):
            decode(model, prompts(4), DecodeSettings(4, 1.0, 1.0, 60, 1, 10**6), (), is_cancelled, has_trees)
        assert calls == 26


def test_sliding_windows() -> None:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    size: dict[str, Any] = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    size |= {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3, "sliding_window": 8}
    gemma = Gemma3TextConfig(
        **size, head_dim=8, query_pre_attn_scalar=8, layer_types=["sliding_attention", "full_attention"]
    )
    for model in (MistralForCausalLM(MistralConfig(**size)).eval(), Gemma3ForCausalLM(gemma).eval()):
        assert supports_chains(model), type(model)
        of = prompts(5)
        assert draw_chains(model, of, 3) == draw_plainly(model, of, 3), type(model)


def test_models_that_do_not_keep_all_tokens_have_no_rows() -> None:
    from transformers import BloomConfig, BloomForCausalLM, MambaConfig, MambaForCausalLM

    assert not supports_chains(MambaForCausalLM(MambaConfig(vocab_size=30, hidden_size=16, num_hidden_layers=1)).eval())
    bloom = BloomForCausalLM(BloomConfig(vocab_size=30, hidden_size=16, n_layer=1, n_head=2)).eval()
    assert not supports_chains(bloom)
    assert supports_chains(build_model())
    assert supports_chains(build_model(attn_implementation="eager"))


@pytest.mark.parametrize("vocabulary", [61, 128, 1000])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_picked_tokens_are_those_of_doubles(vocabulary: int, temperature: float) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = 4 * torch.randn(200, vocabulary, generator=generator)
    logits[:, 1] = -torch.inf
    uniform = torch.rand(200, 100, dtype=torch.double, generator=generator)
    below = torch.softmax(logits.double() / temperature, -1).cumsum(-1)
    exact = torch.searchsorted(below, uniform * below[:, -1:], right=True)
    token, is_valid = pick_one_each(logits, uniform, temperature, 1.0)
    assert is_valid
    assert not (token == 1).any()
    assert int((token != exact).sum()) <= 4  # of 20,000
    ends = torch.tensor([[0.0, 1 - 2.0**-53]], dtype=torch.double).expand(200, 2)
    token, _ = pick_one_each(logits, ends, temperature, 1.0)
    assert (logits.gather(1, token) > -torch.inf).all()
    assert np.isfinite(token.numpy()).all()


def test_the_head_of_the_vocabulary_is_enough_for_the_nucleus() -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(60, 4000, generator=generator) * torch.linspace(0.1, 8, 60)[:, None]
    logits = logits.bfloat16().float()  # many are equal
    uniform = torch.rand(60, 200, dtype=torch.double, generator=generator)
    p, order = torch.softmax(logits.double(), -1).sort(dim=-1, descending=True, stable=True)
    below = p.cumsum(-1)
    mass = below.gather(1, torch.searchsorted(below, 0.9 * below[:, -1:]).clamp(max=3999))
    expected = order.gather(1, torch.searchsorted(below, uniform * mass, right=True))
    token, _ = pick_one_each(logits, uniform, 1.0, 0.9)
    assert int((token != expected).sum()) <= 2


def test_the_forward_pass_may_have_another_type_than_the_weights() -> None:
    """The trainer computes its rollouts like this: weights in float32, the forward pass in bfloat16."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (row,) = draw_chains(build_model(), [[1, 5, 6]], 3)
    assert len(row) == 3
    assert all(row)
