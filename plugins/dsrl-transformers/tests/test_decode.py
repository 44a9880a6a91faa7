from __future__ import annotations

import functools
import logging
import random
from collections import Counter
from typing import Any

import pytest
import torch
from dsrl_transformers.decode import Cancelled, Completions, DecodeSettings, decode
from dsrl_transformers.forest import supports_trees
from dsrl_transformers.language_model import LanguageModel
from dsrl_transformers.plain import decode_plainly

from dsrl.errors import DsrlError

STOP = {2}

decode_chains = functools.partial(decode, has_trees=False)


def prompts(count: int, longest: int = 20, seed: int = 0) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(3, 61) for _ in range(rng.randrange(3, longest))] for _ in range(count)]


def draw(
    model: Any, of: list[list[int]], n: int, how: Any = decode, stop: Any = STOP, **settings: Any
) -> list[Completions]:
    usual = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 8, "seed": 1, "cache_tokens": 10**6}
    completions: list[Completions] = how(model, of, DecodeSettings(n=n, **{**usual, **settings}), stop)
    return completions


def cancel(model: Any, of: list[list[int]], how: Any) -> None:
    how(model, of, DecodeSettings(4, 1.0, 1.0, 8, 1, 10**6), STOP, lambda: True)


def sequences(drawn: list[Completions]) -> list[list[tuple[int, ...]]]:
    return [[d.distinct[i] for i in d.indices] for d in drawn]


def exact(model: Any, prompt: list[int], length: int, temperature: float, top_p: float) -> dict[tuple[int, ...], float]:
    """The probability of every completion, by enumeration."""
    open_ends: dict[tuple[int, ...], float] = {(): 1.0}
    done: dict[tuple[int, ...], float] = {}
    for step in range(length):
        following: dict[tuple[int, ...], float] = {}
        for prefix, p in open_ends.items():
            with torch.no_grad():
                logits = model(torch.tensor([prompt + list(prefix)])).logits[0, -1].double()
            ranked = sorted(enumerate(torch.softmax(logits / temperature, -1).tolist()), key=lambda x: -x[1])
            kept, mass = [], 0.0
            for token, q in ranked:
                if mass < top_p:
                    kept.append((token, q))
                mass += q
            whole = sum(q for _, q in kept)
            for token, q in kept:
                end = token in STOP or step + 1 == length
                (done if end else following)[(*prefix, token)] = p * q / whole
        open_ends = following
    return done


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.3, 0.8)])
@pytest.mark.parametrize("how", [decode, decode_chains, decode_plainly])
def test_draws_have_the_model_s_distribution(how: Any, temperature: float, top_p: float) -> None:
    from .conftest import build_model

    small = build_model(vocabulary=6, spread=0.2)
    prompt = [3, 4, 5, 3]
    n = 6000
    expected = exact(small, prompt, 3, temperature, top_p)
    assert sum(expected.values()) == pytest.approx(1)
    (drawn,) = draw(small, [prompt], n, how=how, temperature=temperature, top_p=top_p, max_tokens=3)
    seen = Counter(sequences([drawn])[0])
    assert set(seen) <= set(expected)
    # Chi-square, cells of small expectation joined; its mean is the degrees of freedom and its variance twice that.
    large = {s: p for s, p in expected.items() if n * p >= 5}
    cells = [(seen[s], n * p) for s, p in large.items()]
    cells.append((n - sum(o for o, _ in cells), n * (1 - sum(large.values()))))
    cells = [(o, e) for o, e in cells if e > 1]
    chi2 = sum((o - e) ** 2 / e for o, e in cells)
    freedom = len(cells) - 1
    assert freedom > 10
    assert abs(chi2 - freedom) < 4 * (2 * freedom) ** 0.5


def test_attempts_are_independent_of_each_other(model: Any) -> None:
    # Neighbours agree no more often than the completions' probabilities say.
    (drawn,) = draw(model, [[5, 6, 7]], 4000, max_tokens=1)
    counts = torch.tensor(drawn.counts, dtype=torch.double) / 4000
    chance = float((counts**2).sum())
    agree = sum(a == b for a, b in zip(drawn.indices, drawn.indices[1:], strict=False)) / 3999
    assert abs(agree - chance) < 4 * (chance * (1 - chance) / 3999) ** 0.5


@pytest.mark.parametrize("how", [decode, decode_chains, decode_plainly])
def test_greedy_is_what_generate_gives(model: Any, how: Any) -> None:
    of = prompts(10)
    for prompt, drawn in zip(of, draw(model, of, 3, how=how, temperature=0), strict=True):
        ids = torch.tensor([prompt])
        want = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=8, eos_token_id=2
        )
        assert drawn == Completions((tuple(want[0, len(prompt) :].tolist()),), (0, 0, 0))


@pytest.mark.parametrize("how", [decode, decode_chains, decode_plainly])
def test_counts_and_ends(model: Any, how: Any) -> None:
    # A stop token that is drawn often.
    for drawn in draw(model, prompts(8), 32, how=how, stop=range(2, 12), max_tokens=5):
        assert sum(drawn.counts) == len(drawn.indices) == 32
        assert len(set(drawn.distinct)) == len(drawn.distinct)
        for tokens in drawn.distinct:
            assert not any(token in range(2, 12) for token in tokens[:-1])
            assert len(tokens) == 5 or tokens[-1] in range(2, 12)


def test_no_prompts_and_no_tokens(model: Any) -> None:
    assert draw(model, [], 4) == []
    assert sequences(draw(model, [[3]], 2, max_tokens=0)) == [[(), ()]]


@pytest.mark.parametrize("how", [decode, decode_chains, decode_plainly])
def test_neighbours_order_and_earlier_calls_do_not_matter(model: Any, how: Any) -> None:
    of = prompts(12)
    together = sequences(draw(model, of, 16, how=how))
    torch.rand(7)
    assert sequences(draw(model, of[::-1], 16, how=how))[::-1] == together
    assert [sequences(draw(model, [p], 16, how=how))[0] for p in of] == together
    assert sequences(draw(model, of, 16, how=how, seed=2)) != together


def test_the_first_attempts_do_not_depend_on_how_many_follow(model: Any) -> None:
    many, few = sequences(draw(model, prompts(4), 16)), sequences(draw(model, prompts(4), 5))
    assert [row[:5] for row in many] == few


@pytest.mark.parametrize("how", [decode, decode_chains, decode_plainly])
@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_attempts_can_be_drawn_in_two_calls(model: Any, how: Any, temperature: float) -> None:
    settings = {"how": how, "temperature": temperature, "cache_tokens": 200}
    whole = sequences(draw(model, [*prompts(4), [3, 4], [3, 4]], 16, **settings))
    for first in (0, 5, 15):
        rest = sequences(draw(model, [*prompts(4), [3, 4], [3, 4]], 16 - first, first=first, **settings))
        assert rest == [row[first:] for row in whole]


def test_the_global_random_state_is_left_alone(model: Any) -> None:
    for how in (decode, decode_chains, decode_plainly):
        torch.manual_seed(3)
        before = torch.get_rng_state()
        draw(model, prompts(2), 4, how=how)
        assert torch.equal(before, torch.get_rng_state())


def test_a_prompt_given_twice_is_drawn_twice(model: Any) -> None:
    one, two = draw(model, [[3, 4, 5]] * 2, 16)
    assert sequences([one]) != sequences([two])


@pytest.mark.parametrize("cache_tokens", [1, 60, 200, 1000])
def test_a_small_cache_changes_nothing(model: Any, cache_tokens: int) -> None:
    of = prompts(12)
    assert sequences(draw(model, of, 16, cache_tokens=cache_tokens)) == sequences(draw(model, of, 16))


def test_long_diverse_completions_match_a_plain_forward_pass(model: Any) -> None:
    # Long enough for the forest to be laid out anew several times.
    of = prompts(3)
    for prompt, drawn in zip(of, draw(model, of, 24, max_tokens=60, stop=()), strict=True):
        assert len(drawn.distinct) == 24
        rows = torch.tensor([prompt + list(tokens) for tokens in drawn.distinct])
        with torch.no_grad():
            logits = model(rows).logits[:, len(prompt) - 1 : -1]
        p = torch.softmax(logits.double(), -1).gather(2, rows[:, len(prompt) :, None])
        # Tokens drawn from the right distribution have about its entropy; from a wrong one, far less probability.
        surprise = -p.log().mean()
        entropy = torch.distributions.Categorical(logits=logits.double()).entropy().mean()
        assert abs(float(surprise - entropy)) < 0.15


def test_eager_attention_gives_the_same() -> None:
    from .conftest import build_model

    eager, sdpa = build_model(attn_implementation="eager"), build_model()
    assert supports_trees(eager)
    assert supports_trees(sdpa)
    assert sequences(draw(eager, prompts(4), 8)) == sequences(draw(sdpa, prompts(4), 8))


def test_models_that_cannot_work_on_trees_are_found_out() -> None:
    from transformers import (
        BloomConfig,
        BloomForCausalLM,
        MambaConfig,
        MambaForCausalLM,
        MistralConfig,
        MistralForCausalLM,
    )

    size = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1}
    window = MistralConfig(**size, intermediate_size=16, num_attention_heads=2, num_key_value_heads=2, sliding_window=4)
    assert not supports_trees(MistralForCausalLM(window).eval())
    assert not supports_trees(MambaForCausalLM(MambaConfig(**size)).eval())
    assert not supports_trees(BloomForCausalLM(BloomConfig(vocab_size=30, hidden_size=16, n_layer=1, n_head=2)).eval())


def test_other_families_work_on_trees() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

    size: dict[str, Any] = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3}
    for family in (
        Qwen2ForCausalLM(Qwen2Config(**size, **heads)),
        Qwen3ForCausalLM(Qwen3Config(**size, **heads, head_dim=8)),
        GPT2LMHeadModel(GPT2Config(vocab_size=61, n_embd=32, n_layer=2, n_head=4, n_positions=64)),
    ):
        assert supports_trees(family.eval()), type(family)


def test_damaged_weights_are_named(model: Any) -> None:
    with torch.no_grad():
        model.lm_head.weight[3] = float("nan")
    with pytest.raises(DsrlError, match="not numbers"):
        draw(model, prompts(2), 4)


def test_cancelling(model: Any) -> None:
    for how in (decode, decode_chains, decode_plainly):
        with pytest.raises(Cancelled):
            cancel(model, prompts(2), how)


def test_long_prompts_lose_their_beginning(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = type("Tokenizer", (), {"bos_token_id": 1})()
    lm = LanguageModel(model=None, tokenizer=tokenizer, stop=frozenset(STOP), context=20, has_trees=True)
    long, with_start, short = list(range(3, 33)), [1, *range(3, 33)], [5, 6]
    with caplog.at_level(logging.WARNING):
        shortened, settings = lm.fit_to_context([long, with_start, short], DecodeSettings(1, 1.0, 1.0, 6, 1, 100))
    assert settings.max_tokens == 6
    assert shortened == [long[-14:], [1, *with_start[-13:]], short]
    assert "2 of 3 prompts" in caplog.text
    shortened, settings = lm.fit_to_context([long], DecodeSettings(1, 1.0, 1.0, 500, 1, 100))
    assert (shortened, settings.max_tokens) == ([long[-10:]], 10)
