from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch
from dsrl_transformers.objective import Group, backward, compute_clipped_loss, cut_groups, estimate_kl, make_batches
from dsrl_transformers.trie import build_trie, compute_log_probabilities

from .conftest import build_model


def group(rewards: list[float], counts: list[int]) -> Group:
    return Group((3,), tuple((4 + i,) for i in range(len(rewards))), tuple(counts), tuple(rewards))


def test_advantages_by_hand() -> None:
    # Rewards 1, 1, 0, 0: mean 0.5, standard deviation sqrt(4 * 0.25 / 3) = 0.57735.
    assert group([1, 0], [2, 2]).advantages == pytest.approx((0.86587, -0.86587), abs=1e-4)
    # Rewards 1, 0.1, 0.1, 0: mean 0.3, squares 0.49 + 2 * 0.04 + 0.09 = 0.66.
    spread = (0.66 / 3) ** 0.5
    unequal = group([1, 0.1, 0], [1, 2, 1])
    assert unequal.mean == pytest.approx(0.3)
    assert unequal.spread == pytest.approx(spread)
    assert unequal.advantages == pytest.approx((0.7 / spread, -0.2 / spread, -0.3 / spread), rel=1e-3)


def test_no_advantage_without_a_difference() -> None:
    assert group([0.1, 0.1], [7, 9]).advantages == (0, 0)
    assert group([1], [1]).advantages == (0,)
    assert cut_groups([group([1, 1], [3, 5])], keep_equal=False, share=True, max_tokens=512) == []
    assert len(cut_groups([group([1, 1], [3, 5])], keep_equal=True, share=True, max_tokens=512)) == 1


def test_clipping() -> None:
    log_p = torch.log(torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1]))
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0])
    assert compute_clipped_loss(log_p, torch.zeros(5), advantage).tolist() == pytest.approx(
        [-1.2, 1.5, -0.5, 0.8, -2.2]
    )


def test_divergence_is_unbiased_and_never_negative() -> None:
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.3, 0.5])
    k3 = estimate_kl(p.log(), q.log())
    assert bool((k3 >= 0).all())
    assert float((p * k3).sum()) == pytest.approx(float((p * (p / q).log()).sum()))


def test_a_trie_holds_a_prefix_once() -> None:
    trie = build_trie([9], [(1, 2, 3), (1, 2, 4), (1, 5), (1, 2)])
    assert trie.tokens == (1, 2, 3, 4, 5)
    assert trie.parents == (-1, 0, 1, 1, 0)
    assert trie.paths == ((0, 1, 2), (0, 1, 3), (0, 4), (0, 1))
    assert trie.inner == (0, 1)
    assert trie.size == 3


def random_groups(seed: int = 0) -> list[Group]:
    """Groups whose completions share beginnings, one of them with equal rewards."""
    rng = random.Random(seed)
    groups = []
    for number in range(5):
        prompt = tuple(rng.randrange(3, 61) for _ in range(rng.randrange(1, 15)))
        completions = sorted({tuple(rng.choice((5, 6)) for _ in range(rng.randrange(1, 6))) for _ in range(6)})
        counts = tuple(rng.randrange(1, 5) for _ in completions)
        rewards = tuple(1.0 if number == 2 else rng.choice((0.0, 0.1, 1.0)) for _ in completions)
        groups.append(Group(prompt, tuple(completions), counts, rewards))
    return groups


def plain_loss(model: Any, start: Any, groups: list[Group], temperature: float, kl_coef: float) -> torch.Tensor:
    """GRPO as the paper writes it: a forward pass for each of the G answers, sums in loops."""
    total = torch.zeros(())
    for g in groups:
        answers = [(c, r) for c, n, r in zip(g.completions, g.counts, g.rewards, strict=True) for _ in range(n)]
        rewards = torch.tensor([r for _, r in answers])
        for completion, reward in answers:
            advantage = (reward - rewards.mean()) / (rewards.std() + 1e-4)
            ids = torch.tensor([g.prompt + completion])

            def log_p(m: Any, ids: torch.Tensor = ids, g: Group = g) -> torch.Tensor:
                logits = m(ids).logits[0, len(g.prompt) - 1 : -1] / temperature
                return torch.log_softmax(logits, -1).gather(1, ids[0, len(g.prompt) :, None])[:, 0]

            now = log_p(model)
            gap = log_p(start).detach() - now
            ratio = torch.exp(now - now.detach())
            policy = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
            terms = policy - kl_coef * (torch.exp(gap) - gap - 1)
            total = total - terms.mean() / len(answers) / len(groups)
    return total


@pytest.mark.parametrize("is_head_linear", [True, False])
@pytest.mark.parametrize("kl_coef", [0.0, 0.1])
@pytest.mark.parametrize(("share", "max_tokens", "tokens"), [(True, 512, 10**6), (True, 12, 40), (False, 512, 100)])
def test_loss_and_gradient_are_those_of_plain_grpo(
    share: bool, max_tokens: int, tokens: int, kl_coef: float, is_head_linear: bool
) -> None:
    model, start = build_model(spread=0.2), build_model(spread=0.2, seed=1)
    plain = copy.deepcopy(model)
    groups = random_groups()
    want = plain_loss(plain, start, groups, 1.2, kl_coef)
    want.backward()

    pieces = cut_groups(groups, keep_equal=kl_coef > 0, share=share, max_tokens=max_tokens)
    got = sum(
        backward(
            part,
            lambda tries: compute_log_probabilities(model, tries, 1.2, 0, is_head_linear),
            (lambda tries: compute_log_probabilities(start, tries, 1.2, 0, is_head_linear)) if kl_coef else None,
            kl_coef,
        ).loss
        for part in make_batches(pieces, tokens)
    )
    assert got == pytest.approx(float(want.detach()), abs=1e-5)
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        scale = float(theirs.grad.abs().max())
        assert scale > 0
        assert float((ours.grad - theirs.grad).abs().max()) < 1e-4 * scale, name


def test_pieces_keep_their_bounds() -> None:
    pieces = cut_groups(random_groups(), keep_equal=True, share=True, max_tokens=12)
    assert sum(sum(piece.weights) for piece in pieces) == pytest.approx(1)
    for piece in pieces:
        assert len(piece.trie.paths) == 1 or piece.trie.size <= max(12, 2 * len(piece.trie.prompt))
    parts = make_batches(pieces, 40)
    assert sum(map(len, parts)) == len(pieces)
    for part in parts:
        width = max(len(p.trie.prompt) for p in part) + max(len(p.trie.inner) for p in part)
        assert len(part) == 1 or len(part) * width <= 40
