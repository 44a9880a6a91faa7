"""Train the tiny base model that dsrl ships: its tokenizer, then its weights, from texts written by rules.

    python plugins/dsrl-transformers/scripts/train_tiny.py --out DIR

In the first phase the model learns skills. The texts are exercises, sums, counting, items of `gsm8k`, `math`, `text2sql` and
`logiqa`, and word lists. An exercise is a premise with claims about it. A few words think each claim through (what the claim
is, what the premise says of it, yes or no or unknown), in many more sentence forms than the task `mednli` has, and the
exercise ends with that thought. In the second phase, exercises and items of `mednli` have answers, in two ways: with the
label that the task expects, or with the verdict of the thought, which the task cannot read. So the model knows both ways.
The reinforcement learning of a run teaches it which way to use. The texts are in `tiny_texts.py`.

No text contains a sentence of the held-out splits, and no text contains two terms of one held-out split.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tiny_texts import ANSWERS, PHRASES, SKILLS, Mixture, draw, write_mednli_item, write_word
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

EOS = "<|end|>"

# -- tokenizer --------------------------------------------------------------------------------------------------------


def train_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """Train a tokenizer of ``size`` tokens."""
    rng = random.Random("tokenizer")
    texts = [
        "".join(piece for piece, _ in draw(rng, mixture))
        for mixture in (SKILLS, ((0.5, write_word), (0.5, write_mednli_item)))
        for _ in range(8_000)
    ]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    for phrase in PHRASES:
        texts = [text.replace(phrase, " ") for text in texts]
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(PHRASES) - 1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(phrase, normalized=False) for phrase in PHRASES])
    tokenizer.add_special_tokens([AddedToken(EOS, normalized=False, special=True)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=EOS,
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


# -- weights ----------------------------------------------------------------------------------------------------------


def build_model(vocabulary: int, eos: int) -> LlamaForCausalLM:
    """Build the model with random weights."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=eos,
        eos_token_id=eos,
        pad_token_id=eos,
    )
    return LlamaForCausalLM(config)


def make_batches(
    tokenizer: PreTrainedTokenizerFast, rng: random.Random, mixture: Mixture, tokens: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Draw texts and put those of similar length together: their tokens, and how often each token counts in the loss."""
    texts = [draw(rng, mixture) for _ in range(4096)]
    pieces = iter(tokenizer([piece for text in texts for piece, _ in text])["input_ids"])
    rows = []
    eos = tokenizer.eos_token_id
    for text in texts:
        ids: list[int] = []
        shares: list[float] = []
        for number, (_, learned) in enumerate(text):
            piece = next(pieces)
            ids += piece
            # Of the pieces that are not to be learned, only the beginning of a text counts a little: the model must not
            # learn to write claims after a thought.
            shares += [1.0 if learned else 0.0 if number else 0.1] * len(piece)
        # A text that ends with a thought is not finished: it must not teach the model to stop there.
        is_finished = not text[-1][0].endswith(" </think>")
        rows.append(([*ids, eos], [*shares, float(is_finished)]))
    rows.sort(key=lambda row: len(row[0]))
    result, start = [], 0
    while start < len(rows):
        end = start + 1
        while end < len(rows) and (end - start + 1) * len(rows[end][0]) <= tokens:
            end += 1
        width = len(rows[end - 1][0])
        ids = torch.tensor([row + [eos] * (width - len(row)) for row, _ in rows[start:end]])
        weights = torch.tensor([weight + [0.0] * (width - len(weight)) for _, weight in rows[start:end]])
        result.append((ids, weights))
        start = end
    rng.shuffle(result)
    return result


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalised steps, in single precision: torch's own uses bfloat16, which is slow on most CPUs."""

    def __init__(self, params: list[torch.nn.Parameter], lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 0.05)
                x = p.grad.lerp(momentum, 0.95)
                x = x.T if p.shape[0] > p.shape[1] else x
                x = x / (x.norm() + 1e-7)
                for _ in range(5):
                    y = x @ x.T
                    x = 3.4445 * x + (-4.7750 * y + 2.0315 * y @ y) @ x
                x = x.T if p.shape[0] > p.shape[1] else x
                p.mul_(1 - group["lr"] * 0.05).sub_(x, alpha=0.2 * group["lr"] * max(p.shape) ** 0.5)


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    mixture: Mixture,
    rng: random.Random,
    *,
    steps: int,
    tokens: int,
    rate: float,
    every: int = 100,
    report: Callable[[int, LlamaForCausalLM], None] | None = None,
) -> None:
    """Train for ``steps`` batches of ``tokens`` tokens on texts of a mixture, with the peak learning rate ``rate``."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [
        Muon(matrices, lr=rate),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    queue: list[tuple[torch.Tensor, torch.Tensor]] = []
    start, average = time.monotonic(), math.nan
    for step in range(steps):
        queue = queue or make_batches(tokenizer, rng, mixture, tokens)
        ids, weights = queue.pop()
        factor = min(1.0, (step + 1) / 50, max(0.02, (steps - step) / (0.4 * steps)))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        learned = weights[:, 1:] > torch.rand(ids.shape[0], ids.shape[1] - 1)
        loss = cross_entropy(model.lm_head(hidden[learned]), ids[:, 1:][learned])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        average = loss.item() if math.isnan(average) else 0.98 * average + 0.02 * loss.item()
        if (step + 1) % every == 0:
            print(f"step {step + 1} loss {average:.4f} {time.monotonic() - start:.0f}s", flush=True)
            if report:
                report(step + 1, model)


def main() -> None:
    """Train the tokenizer and the model, and save both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for model and tokenizer")
    parser.add_argument("--steps", type=int, default=2400, help="steps on the skills")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--answer-steps", type=int, default=250, help="steps on answers too")
    parser.add_argument("--answer-rate", type=float, default=2e-3)
    parser.add_argument("--tokens", type=int, default=3500, help="tokens in a batch")
    parser.add_argument("--vocabulary", type=int, default=2304)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    tokenizer = train_tokenizer(options.vocabulary)
    model = build_model(len(tokenizer), tokenizer.eos_token_id)
    print(f"{len(tokenizer)} tokens, {sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    phases = ((SKILLS, options.steps, options.rate), (ANSWERS, options.answer_steps, options.answer_rate))
    for phase, (mixture, steps, rate) in enumerate(phases):
        torch.manual_seed(options.seed + phase)
        rng = random.Random(options.seed + phase)
        train(model, tokenizer, mixture, rng, steps=steps, tokens=options.tokens, rate=rate)
        save(model, tokenizer, options.out)
        # Continue with the weights as they were saved, which are rounded.
        model = LlamaForCausalLM.from_pretrained(options.out, dtype=torch.float32)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save model and tokenizer in the form in which dsrl ships them: weights in bfloat16."""
    eos = tokenizer.eos_token_id
    model.generation_config = GenerationConfig(bos_token_id=eos, eos_token_id=eos, pad_token_id=eos)
    state = {name: weight.to(torch.bfloat16) for name, weight in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=state)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
