"""School the base models of the worlds: their tokenizer, then their weights.

    OMP_NUM_THREADS=1 python plugins/dsrl-worlds/scripts/school.py --out plugins/dsrl-worlds/dsrl_worlds/models

A model learns the answers to both tasks for chains of its world, of which short ones with few of the operations are
the most frequent. So it knows some answers well, some in part, and some hardly. No text is a chain of a held-out
split. It takes a few minutes a model on one core.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from pathlib import Path

import torch
from dsrl_worlds.tasks import ChainClasses, Chains
from dsrl_worlds.world import LENGTHS, OPERATIONS, STATES, WORLDS, World
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

EOS, UNKNOWN = "<|end|>", "<|unknown|>"
#: How often chains of 1, 2, 3 and 4 operations are drawn, and the Zipf exponent of the operations.
LENGTH_WEIGHTS = (4, 3, 2, 1)
EXPONENT = 1.5
BATCH = 64
#: The settings of a run with such a model that differ from the paper's.
RECIPE = """\
# Settings for this model that differ from the paper's.
[selection]
select = 256

[train]
learning_rate = 5e-4
batch_size = 32
max_completion_tokens = 8

[model]
tasks = ["chains", "chain_classes"]
"""
CARD = """\
# chains-{world}

A Llama of 200 thousand parameters that knows the rules of world {world} of dsrl-worlds in part.

`plugins/dsrl-worlds/scripts/school.py` schooled it with {steps} steps of {batch} texts; `dsrl.toml` has the settings of a
run with it that differ from the paper's. Right greedy answers on the development split, by the number of operations:

| task | 1 | 2 | 3 | 4 |
| --- | --- | --- | --- | --- |
"""
LEARNING_RATE = 3e-3


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Make the tokenizer: each word of the language and each output instruction is one token."""
    words = [f"n{i}" for i in range(STATES)] + [f"op{i}" for i in range(OPERATIONS)] + ["c0", "c1", "c2", "=", "."]
    vocabulary = {word: number for number, word in enumerate([*words, UNKNOWN])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    instructions = [task().output_instruction() for task in (Chains, ChainClasses)]
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in instructions])
    tokenizer.add_special_tokens([AddedToken(EOS, normalized=False, special=True)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=EOS,
        unk_token=UNKNOWN,
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )


def build_model(vocabulary: int, eos: int) -> LlamaForCausalLM:
    """Build a model with random weights."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=eos,
        eos_token_id=eos,
        pad_token_id=eos,
    )
    return LlamaForCausalLM(config)


def draw_batch(
    rng: random.Random, world: World, tokenizer: PreTrainedTokenizerFast
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw questions with their answers. Return their tokens, and the targets (-100 for tokens that are not learned)."""
    tasks = [task(world=world.number) for task in (Chains, ChainClasses)]
    rows, targets = [], []
    for _ in range(BATCH):
        (length,) = rng.choices(LENGTHS, LENGTH_WEIGHTS)
        chain = world.draw(rng, length, EXPONENT)
        task = rng.choice(tasks)
        solution = task.procedural_solve(str(chain))
        assert solution is not None
        question = tokenizer.convert_tokens_to_ids([*str(chain).split(), task.output_instruction()])
        answer = tokenizer.convert_tokens_to_ids([*solution.output.split(), EOS])
        rows.append([*question, *answer])
        targets.append([-100] * len(question) + answer)
    width = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.eos_token_id] * (width - len(row)) for row in rows])
    return ids, torch.tensor([row + [-100] * (width - len(row)) for row in targets])


def school(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, world: World, seed: int, steps: int) -> None:
    """Train a model on the chains of a world."""
    rng = random.Random(f"schooling {world.number} {seed}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    start, average = time.monotonic(), math.nan
    for step in range(steps):
        ids, targets = draw_batch(rng, world, tokenizer)
        # The rate does not fall at the end: what the model half knows then stays half known.
        factor = min(1.0, (step + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * factor
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1), targets[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average = loss.item() if math.isnan(average) else 0.98 * average + 0.02 * loss.item()
        if (step + 1) % 500 == 0:
            print(f"step {step + 1} loss {average:.4f} {time.monotonic() - start:.0f}s", flush=True)


@torch.inference_mode()
def measure(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, task: Chains) -> dict[int, float]:
    """Return number of operations -> share of right greedy answers on the development split."""
    items = task.make_held_out_items()
    shares = {}
    for length in LENGTHS:
        own = [item for item in items if item.input.count("op") == length]
        ids = torch.tensor([tokenizer(f"{item.input} {task.output_instruction()}")["input_ids"] for item in own])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=8)
        texts = tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
        answers = [task.process_prediction(text) for text in texts]
        labels = [task.process_prediction(item.output) for item in own]
        shares[length] = sum(a == b for a, b in zip(answers, labels, strict=True)) / len(own)
    return shares


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save the model, its tokenizer and its recipe; the weights in bfloat16, which halves the file."""
    eos = tokenizer.eos_token_id
    model.generation_config = GenerationConfig(bos_token_id=eos, eos_token_id=eos, pad_token_id=eos)
    state = {name: weight.to(torch.bfloat16) for name, weight in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=state)
    tokenizer.save_pretrained(folder)
    (folder / "dsrl.toml").write_text(RECIPE, encoding="utf-8")


def main() -> None:
    """School the models and save them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the folders of the models")
    parser.add_argument("--worlds", type=int, nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    tokenizer = make_tokenizer()
    for number in options.worlds:
        torch.manual_seed(number)
        model = build_model(len(tokenizer), tokenizer.eos_token_id)
        print(f"world {number}: {sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
        school(model, tokenizer, World(number), number, options.steps)
        folder = options.out / f"chains_{number}"
        save(model, tokenizer, folder)
        saved = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
        card = CARD.format(world=number, steps=options.steps, batch=BATCH)
        for name, task in (("chains", Chains), ("chain_classes", ChainClasses)):
            shares = measure(saved, tokenizer, task(world=number, split="dev")).values()
            card += f"| `{name}` | {' | '.join(f'{share:.0%}' for share in shares)} |\n"
        (folder / "README.md").write_text(card, encoding="utf-8")
        print(card, flush=True)


if __name__ == "__main__":
    main()
