from __future__ import annotations

import pytest
import torch
from dsrl_transformers.log_probability import compute_token_log_probabilities, has_linear_head
from hypothesis import given, settings
from hypothesis import strategies as st

from .conftest import build_model


def compute_plainly(
    hidden: torch.Tensor, weight: torch.Tensor, place: torch.Tensor, token: torch.Tensor, temperature: float
) -> torch.Tensor:
    return torch.log_softmax(hidden @ weight.T / temperature, -1)[place, token]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 7), st.integers(2, 11), st.integers(1, 20), st.integers(1, 40), st.integers(0, 99)
)
def test_values_and_gradients_are_those_of_the_plain_formula(
    places: int, size: int, vocabulary: int, nodes: int, max_logits: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    hidden = torch.randn(places, size, generator=random, dtype=torch.double).requires_grad_()
    weight = torch.randn(vocabulary, size, generator=random, dtype=torch.double).requires_grad_()
    place = torch.randint(places, (nodes,), generator=random)
    token = torch.randint(vocabulary, (nodes,), generator=random)
    gradient = torch.randn(nodes, generator=random, dtype=torch.double)
    want = compute_plainly(hidden, weight, place, token, 1.3)
    wanted = torch.autograd.grad(want, (hidden, weight), gradient)
    got = compute_token_log_probabilities(hidden, weight, place, token, 1.3, max_logits)
    assert torch.allclose(got, want, atol=1e-12)
    for one, two in zip(torch.autograd.grad(got, (hidden, weight), gradient), wanted, strict=True):
        assert torch.allclose(one, two, atol=1e-12)


@pytest.mark.parametrize("max_logits", [0, 21])
def test_numerical_gradient(max_logits: int) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(5, 4, dtype=torch.double, requires_grad=True)
    weight = torch.randn(7, 4, dtype=torch.double, requires_grad=True)
    place, token = torch.tensor([4, 0, 0, 2, 2, 2]), torch.tensor([1, 6, 6, 0, 3, 5])
    assert torch.autograd.gradcheck(
        lambda h, w: compute_token_log_probabilities(h, w, place, token, 0.7, max_logits), (hidden, weight)
    )


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, weight = torch.randn(5, 4, requires_grad=True), torch.randn(7, 4)
    compute_token_log_probabilities(hidden, weight, torch.tensor([1]), torch.tensor([2]), 1.0, 7).sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_no_tensor_of_all_logits_is_made() -> None:
    places, vocabulary, max_logits = 64, 1000, 4000
    hidden, weight = torch.randn(places, 4, requires_grad=True), torch.randn(vocabulary, 4, requires_grad=True)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    with Watch():
        place = torch.arange(places)
        compute_token_log_probabilities(hidden, weight, place, place, 1.0, max_logits).sum().backward()
    assert largest == max(max_logits, weight.numel())


def test_models_with_a_linear_head() -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    assert has_linear_head(build_model())
    config = Gemma2Config(
        vocab_size=61,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        final_logit_softcapping=0.5,
        initializer_range=0.3,
    )
    assert not has_linear_head(Gemma2ForCausalLM(config).eval())
