"""Train the tiny base model that dsrl ships: its tokenizer, then its weights, from texts written by rules.

    python plugins/dsrl-transformers/scripts/train_tiny.py --out DIR

The texts are of four sorts. Notes: facts in the style of a record and a claim to judge, the skill of the task `mednli`
in other sentences than any of the task's splits. Sums: arithmetic, and counting in short notes. Word lists. And items of
the tasks in the generators' own sentences, few of them and mostly easy, so that the model knows the form of an answer but
has yet to learn to use in it what it can do in the notes: that is left to the run's reinforcement learning.
Sentences of the held-out splits appear in none of them. Of the held-out splits' terms no two appear in one text.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import torch
from dsrl_tasks.gsm8k import procedural as gsm8k
from dsrl_tasks.mednli import procedural as mednli
from dsrl_tasks.mednli.words import DEV, GENERATOR, TEST
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional as F
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

MEDNLI_OUTPUT = (
    "Your output thinking process and answer should be enclosed within <think> </think> and <answer> </answer> tags, "
    "respectively, i.e., <think> thinking process here </think> <answer> the correct option here </answer>."
)
MEDNLI_INPUT = mednli.INPUT_FORM.split(" Premise:")[0]
GSM8K_OUTPUT = "Let's think step by step and output the final answer after ####."
# Phrases that are one token each: the tasks' fixed instructions, which every prompt repeats, and the marks of an answer.
PHRASES = (
    MEDNLI_INPUT,
    " " + MEDNLI_OUTPUT,
    " " + GSM8K_OUTPUT,
    "<think>",
    " </think> <answer>",
    " </answer>",
    " ####",
)
EOS = "<|end|>"

Text = tuple[str, str]  # what is given, what the model learns to write
Mixture = tuple[tuple[float, Callable[[random.Random], Text]], ...]

# -- texts ------------------------------------------------------------------------------------------------------------

_FINDING = (
    ["with {x}", "shows {x}", "positive for {x}", "confirmed {x}", "has {x}", "reports {x}", "found {x}", "complains of {x}", "suffers from {x}", "{x} is present", "{x}: yes", "among them {x}", "case with {x}", "arrived with {x}"],
    ["without {x}", "shows no {x}", "negative for {x}", "ruled out {x}", "has no {x}", "denies {x}", "found no {x}", "never had {x}", "does not have {x}", "does not suffer from {x}", "{x} is absent", "{x}: no", "free of {x}", "not among them {x}", "case without {x}", "arrived free of {x}"],
)
_DRUG = (
    ["takes {x}", "gave {x}", "given {x}", "includes {x}", "contains {x}", "continues with {x}", "on {x}", "started on {x}", "{x}: taken"],
    ["stopped {x}", "withheld {x}", "excludes {x}", "omits {x}", "quit {x}", "off {x}", "taken off {x}", "{x}: stopped"],
)
_SITE = (
    ["left {x} sore", "pain in the left {x}", "left {x} swollen", "injured the left {x}", "{x}: left", "{x} that is ill: left one", "hurt the left {x}", "painful left {x}"],
    ["right {x} sore", "pain in the right {x}", "right {x} swollen", "injured the right {x}", "{x}: right", "{x} that is ill: right one", "hurt the right {x}", "painful right {x}"],
)
_MEASURE = (["{x} of {v}", "{x} was {v}", "{x} recorded: {v}", "{x}: {v}", "tests gave {x} {v}"],) * 2
_CLAIMED_MEASURE = (
    ["{x} above {t}", "{x} over {t}", "{x} exceeds {t}", "{x} more than {t}"],
    ["{x} below {t}", "{x} under {t}", "{x} less than {t}"],
)
_CUES = {"finding": _FINDING, "drug": _DRUG, "site": _SITE, "measure": _MEASURE}
_SEEN = {
    "finding": ("present", "absent"),
    "drug": ("taken", "stopped"),
    "site": ("left", "right"),
    "measure": ("above", "below"),
}
_OPENINGS = ("Note", "Record", "Chart", "Facts", "Nurses", "Doctors", "Exam", "Tests", "Patient")
_KIN = ("brother", "sister", "mother", "father", "uncle", "cousin")
_WHO = ("she", "he", "this person", "the woman", "the man", "the child", "someone")
_SYLLABLES = ["ba", "co", "di", "fe", "gu", "la", "mo", "ni", "pe", "ra", "so", "tu", "va", "wi", "ze", "sta", "tri", "cho", "dro", "ple", "n", "r", "s", "l", "m", "t"]


def _name(rng: random.Random, kind: str, heldout: bool) -> str:
    """A term of the kind; a held-out one only where the text has none yet."""
    if kind == "finding" and rng.random() < 0.15:
        name = "".join(rng.choice(_SYLLABLES) for _ in range(rng.randrange(2, 5)))
        return rng.choice((name, f"{name} trouble"))
    vocabulary = rng.choice((DEV, TEST)) if heldout else GENERATOR
    return rng.choice(getattr(vocabulary, kind + "s"))


def note(rng: random.Random) -> Text:
    """Facts and a claim in the style of a record, to be judged: yes, no or unknown."""
    count = rng.choice((1, 1, 2, 2, 3, 3, 4))
    things: list[tuple[str, str]] = []
    special = rng.randrange(count + 1) if rng.random() < 0.6 else -1
    while len(things) < count + 1:
        kind = rng.choice(("finding", "finding", "finding", "drug", "site", "measure"))
        thing = (kind, _name(rng, kind, heldout=len(things) == special))
        if thing not in things:
            things.append(thing)
    claimed = special if special >= 0 and rng.random() < 0.6 else rng.randrange(count + 1)
    verdict = rng.choice(("yes", "no", "unknown"))
    claimed_value = rng.random() < 0.5
    values = [rng.random() < 0.5 for _ in things]
    thresholds = [rng.randrange(30, 90) for _ in things]
    if verdict == "unknown":
        dropped = claimed
    else:
        dropped = rng.choice([i for i in range(count + 1) if i != claimed])
        values[claimed] = claimed_value == (verdict == "yes")
    facts = []
    whole = rng.random() < 0.5  # sentences rather than catchwords
    for i, (kind, name) in enumerate(things):
        if i != dropped:
            distance = rng.randrange(1, 21)
            number = thresholds[i] + distance if values[i] else thresholds[i] - distance
            fact = rng.choice(_CUES[kind][not values[i]]).format(x=name, v=number)
            facts.append(f"{rng.choice(_WHO)} {fact}" if whole else fact)
    if rng.random() < 0.3:
        findings = [name for kind, name in things if kind == "finding"] or [rng.choice(GENERATOR.findings)]
        cue = rng.choice(_FINDING[rng.randrange(2)]).format(x=rng.choice(findings))
        facts.append(f"{rng.choice(_KIN)}: {cue}")
    rng.shuffle(facts)
    kind, name = things[claimed]
    cues = _CLAIMED_MEASURE if kind == "measure" else _CUES[kind]
    claim = rng.choice(cues[not claimed_value]).format(x=name, t=thresholds[claimed])
    seen = "unknown" if verdict == "unknown" else _SEEN[kind][not values[claimed]]
    if whole and rng.random() < 0.5:
        claim = f"{rng.choice(_WHO)} {claim}"
    given = f"{rng.choice(_OPENINGS)}: {rng.choice(('. ',) if whole else ('; ', ', ', '. ')).join(facts)}. Claim: {claim}."
    if rng.random() < 0.3:
        return given + " Seen:", f" {seen}"
    return given + " Seen, verdict:", f" {seen}, {verdict}"


_SENTENCES = (
    *(form for forms in (mednli.DEV_FORMS, mednli.TEST_FORMS) for pair in forms for side in pair for form in side),
    *(form for forms in (gsm8k.DEV_FORMS, gsm8k.TEST_FORMS) for ways in (forms.start, forms.groups, *forms.change.values(), forms.question) for form in ways),
)
_SINGLE = sorted({word for form in _SENTENCES for word in re.findall(r"(?<![{A-Za-z])[A-Za-z]+", form)})


def words(rng: random.Random) -> Text:
    """Single words: terms by their kind, and the words of the tasks' sentences, so that each has been met."""
    if rng.random() < 0.5:
        return "", f"The word {rng.choice(_SINGLE)}"
    kind = rng.choice(("finding", "drug", "site", "measure"))
    return "", f"A {kind}: {_name(rng, kind, heldout=rng.random() < 0.5)}."


def sums(rng: random.Random) -> Text:
    """Arithmetic in figures, or in a short note about things that are counted."""
    total = rng.randrange(2, 41)
    things = rng.choice(
        gsm8k.GENERATOR.things if rng.random() < 0.5 else gsm8k.DEV.things + gsm8k.TEST.things
    )
    steps, told = [], [f"{total} {things}"]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        sign = rng.choice("++--*" if 1 < total <= 10 else "++--" if total > 1 else "+")
        if sign == "*":
            b = rng.randrange(2, 6)
        else:
            b = rng.randrange(1, min(total, 21) if sign == "-" else 21)
        result = {"+": total + b, "-": total - b, "*": total * b}[sign]
        steps.append(f"{total} {sign} {b} = {result}")
        ways = {"+": "plus {}|{} added|{} more|another {}", "-": "minus {}|{} taken away|{} fewer|{} thrown out"}
        ways["*"] = "times {}|{} times as many|{} times as large"
        told.append(rng.choice(ways[sign].split("|")).format(b))
        total = result
    if rng.random() < 0.4:
        left, right = steps[0].split(" = ")
        return f"{left} =", f" {right}"
    return f"Count: {', '.join(told)}. Sum:", " " + ". ".join(steps)


def mednli_item(rng: random.Random) -> Text:
    level = rng.choice((1, 1, 1, 2, 2, 3))
    given, answer = mednli.write(rng, level, "")
    return f"{given} {MEDNLI_OUTPUT}", answer


def gsm8k_item(rng: random.Random) -> Text:
    level = rng.choice((1, 1, 2, 3, 4))
    given, answer = gsm8k.write(rng, level, "")
    return f"{given} {GSM8K_OUTPUT}", answer


PRE_TRAINING: Mixture = (
    (0.74, note),
    (0.05, words),
    (0.21, sums),
)
WARM_UP: Mixture = (
    (0.50, note),
    (0.05, words),
    (0.10, sums),
    (0.20, mednli_item),
    (0.15, gsm8k_item),
)


def draw(rng: random.Random, mixture: Mixture) -> Text:
    (sort,) = rng.choices([sort for _, sort in mixture], [share for share, _ in mixture])
    return sort(rng)


# -- tokenizer --------------------------------------------------------------------------------------------------------


def train_tokenizer(size: int) -> PreTrainedTokenizerFast:
    rng = random.Random("tokenizer")
    texts = ["".join(draw(rng, mixture)) for mixture in (PRE_TRAINING, WARM_UP) for _ in range(10_000)]
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
        tokenizer_object=tokenizer, eos_token=EOS, pad_token=EOS, model_max_length=2048, clean_up_tokenization_spaces=False
    )


# -- weights ----------------------------------------------------------------------------------------------------------


def build(vocabulary: int, eos: int) -> LlamaForCausalLM:
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


def batches(tokenizer: PreTrainedTokenizerFast, rng: random.Random, mixture: Mixture, tokens: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Texts of like length together: ids and how often each token is learned."""
    drawn = [draw(rng, mixture) for _ in range(4096)]
    rows = []
    eos = tokenizer.eos_token_id
    given = tokenizer([text[0] for text in drawn])["input_ids"]
    answers = tokenizer([text[1] for text in drawn])["input_ids"]
    for before, after in zip(given, answers, strict=True):
        rows.append((before + after + [eos], [0.06] * len(before) + [1.0] * (len(after) + 1)))
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
    """Momentum whose steps are orthogonalised, in single precision: torch's own works in bfloat16, slow on most CPUs."""

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
    *,
    seed: int,
    steps: int,
    tokens: int,
    rate: float,
    report: Callable[[int, LlamaForCausalLM], None] | None = None,
) -> None:
    rng = random.Random(seed)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [
        Muon(matrices, lr=rate),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    queue: list[tuple[torch.Tensor, torch.Tensor]] = []
    started, average = time.monotonic(), math.nan
    for step in range(steps):
        queue = queue or batches(tokenizer, rng, mixture, tokens)
        ids, weights = queue.pop()
        factor = min(1.0, (step + 1) / 50, max(0.02, (steps - step) / (0.4 * steps)))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        learned = weights[:, 1:] > torch.rand(ids.shape[0], ids.shape[1] - 1)
        loss = F.cross_entropy(model.lm_head(hidden[learned]), ids[:, 1:][learned])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        average = loss.item() if math.isnan(average) else 0.98 * average + 0.02 * loss.item()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1} loss {average:.4f} {time.monotonic() - started:.0f}s", flush=True)
            if report:
                report(step + 1, model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--tokens", type=int, default=6000, help="tokens in a batch")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--vocabulary", type=int, default=2048)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    tokenizer = train_tokenizer(options.vocabulary)
    model = build(len(tokenizer), tokenizer.eos_token_id)
    print(f"{len(tokenizer)} tokens, {sum(p.numel() for p in model.parameters()):,} parameters")
    train(model, tokenizer, seed=options.seed, steps=options.steps, tokens=options.tokens, rate=options.rate)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id
    )
    model.to(torch.bfloat16).save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    (options.out / "training.json").write_text(json.dumps({k: str(v) for k, v in vars(options).items()}) + "\n")


if __name__ == "__main__":
    main()
