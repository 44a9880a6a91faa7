"""Train the tiny base model that dsrl ships: its tokenizer, then its weights, from texts written by rules.

    python plugins/dsrl-transformers/scripts/train_tiny.py --out DIR

In the first phase the model learns skills. The texts are exercises, sums, counting, items of `gsm8k`, and word lists. An
exercise is a premise with claims about it. A few words think each claim through (what the claim is, what the premise says
of it, yes or no or unknown), in many more sentence forms than the task `mednli` has, and the exercise ends with that
thought. In the second phase, exercises and items of `mednli` have answers, in two ways: some texts answer with the label
that the task expects, the others with the verdict of the thought, which the task cannot read. So the model knows both ways
and has no habit. The reinforcement learning of a run teaches it which way to use.

No text contains a sentence of the held-out splits, and no text contains two terms of one held-out split.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import torch
from dsrl_tasks.gsm8k import procedural as gsm8k
from dsrl_tasks.mednli import procedural as mednli
from dsrl_tasks.mednli.words import DEV, GENERATOR, TEST, Vocabulary
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

MEDNLI_OUTPUT = (
    "Your output thinking process and answer should be enclosed within <think> </think> and <answer> </answer> tags, "
    "respectively, i.e., <think> thinking process here </think> <answer> the correct option here </answer>."
)
MEDNLI_INPUT = mednli.INPUT_FORM.split(" Premise:")[0]
GSM8K_OUTPUT = "Let's think step by step and output the final answer after ####."
# Phrases that are one token each: the fixed instructions of the tasks, which every prompt has, and the marks of an answer.
PHRASES = (
    MEDNLI_INPUT,
    " " + MEDNLI_OUTPUT,
    " " + GSM8K_OUTPUT,
    "<think>",
    " </think>",
    " <answer>",
    " </answer>",
    " ####",
)
EOS = "<|end|>"
#: Share of the texts with answers that answer with the task's labels.
LABEL_SHARE = 0.5

Text = list[tuple[str, bool]]  # pieces of a text; the model learns to write those marked true
Mixture = tuple[tuple[float, Callable[[random.Random], Text]], ...]

# -- texts ------------------------------------------------------------------------------------------------------------


def _split_ways(text: str) -> tuple[str, ...]:
    return tuple(text.split("|"))


# What a premise or a claim says of a thing: ways to state the value true, ways to state the value false.
_FINDING = (
    _split_ways(
        "with {x}|shows {x}|positive for {x}|confirmed {x}|has {x}|reports {x}|found {x}|complains of {x}|suffers from {x}|"
        "among them {x}|noted {x}|revealed {x}|covers {x}"
    ),
    _split_ways(
        "without {x}|shows no {x}|negative for {x}|ruled out {x}|has no {x}|denies {x}|found no {x}|never had {x}|does not "
        "have {x}|does not suffer from {x}|free of {x}|not among them {x}|noted no {x}|revealed no {x}|does not cover {x}"
    ),
)
_DRUG = (
    _split_ways(
        "takes {x}|gave {x}|includes {x}|contains {x}|continues with {x}|on {x}|started on {x}|keeps {x}|still lists {x}"
    ),
    _split_ways(
        "stopped {x}|withheld {x}|excludes {x}|omits {x}|quit {x}|off {x}|taken off {x}|drops {x}|no longer lists {x}"
    ),
)
_SITE = tuple(
    tuple(way.replace("SIDE", side) for way in _split_ways(
        "SIDE {x} sore|pain in the SIDE {x}|SIDE {x} swollen|injured the SIDE {x}|ill {x}: the SIDE one|hurt the SIDE {x}|"
        "painful {x} SIDE|wound on the SIDE {x}|SIDE {x} got hurt"
    ))
    for side in ("left", "right")
)  # fmt: skip
_MEASURE = (_split_ways("{x} of {v}|{x} was {v}|recorded {x} {v}|tests gave {x} {v}|{x} came to {v}"),) * 2
_CLAIMED_MEASURE = (
    _split_ways("{x} above {t}|{x} exceeds {t}|{x} more than {t}|{x} over {t}"),
    _split_ways("{x} below {t}|{x} under {t}|{x} less than {t}|{x} beneath {t}"),
)
_CUES = {"finding": _FINDING, "drug": _DRUG, "site": _SITE, "measure": _MEASURE}
_VALUE_WORDS = {
    "finding": ("present", "absent"),
    "drug": ("taken", "stopped"),
    "site": ("left", "right"),
    "measure": ("above", "below"),
}
_SUBJECTS = _split_ways(
    "The patient|She|He|The record|The note|This person|The woman|The man|The child|The report|The exam|A visit|The nurse|"
    "Someone|The doctor"
)
_KIN = ("brother", "sister", "mother", "father", "uncle", "cousin", "aunt")
_SYLLABLES = _split_ways("ba|co|di|fe|gu|la|mo|ni|pe|ra|so|tu|va|wi|ze|sta|tri|cho|dro|ple|n|r|s|l|m|t")


def _draw_name(rng: random.Random, kind: str, vocabulary: Vocabulary = GENERATOR) -> str:
    """Draw a term of the kind; sometimes the term is invented."""
    if kind == "finding" and vocabulary is GENERATOR and rng.random() < 0.2:
        name = "".join(rng.choice(_SYLLABLES) for _ in range(rng.randrange(2, 5)))
        return rng.choice((name, f"{name} trouble"))
    return str(rng.choice(getattr(vocabulary, kind + "s")))


_KINDS = ("finding", "finding", "finding", "finding", "drug", "drug", "site", "site", "measure")


def write_exercise(rng: random.Random) -> Text:
    """Write a premise and several claims about it, each with a thought but without an answer."""
    facts = rng.choice((1, 1, 2, 2, 3, 3, 4, 5))
    # Sometimes all things have one kind. Then only the thing itself shows whether a claim is about a fact.
    kinds = (rng.choice(_KINDS[:-1]),) if rng.random() < 0.3 else _KINDS
    things: list[tuple[str, str]] = []
    # At most one term of each held-out split: in the premise, or (the last things drawn) only in a claim.
    special = {rng.randrange(facts + 2): split for split in (DEV, TEST) if rng.random() < 0.7}
    while len(things) < facts + 2:
        kind = rng.choice(kinds)
        thing = (kind, _draw_name(rng, kind, special.get(len(things), GENERATOR)))
        if thing not in things:
            things.append(thing)
    values = [rng.random() < 0.5 for _ in things]
    numbers = [rng.randrange(20, 110) for _ in things]
    text: Text = [(f"{MEDNLI_INPUT} Premise: {_write_premise(rng, things[:facts], values, numbers)}", False)]

    in_premise, not_in_premise = list(range(facts)), [facts, facts + 1]
    rng.shuffle(in_premise)
    while in_premise and (not_in_premise or rng.random() < 0.7) and len(text) < 13:
        if not_in_premise and rng.random() < 1 / 3:
            i, verdict = not_in_premise.pop(), "unknown"
        else:
            i, verdict = in_premise.pop(), rng.choice(("yes", "no"))
        kind, name = things[i]
        claimed, value = rng.random() < 0.5, values[i]
        if verdict != "unknown":
            if kind == "measure":
                value = claimed == (verdict == "yes")
            else:
                claimed = value == (verdict == "yes")
        distance = rng.randrange(1, 21)
        threshold = numbers[i] - distance if value else numbers[i] + distance
        value_word = "" if verdict == "unknown" else f" {_VALUE_WORDS[kind][not value]}"
        text += [
            (f" Hypothesis: {_write_claim(rng, kind, name, claimed, threshold)} {MEDNLI_OUTPUT}", False),
            (f"<think> {name}{value_word} {verdict} </think>", True),
        ]
    return text


def _write_premise(rng: random.Random, things: list[tuple[str, str]], values: list[bool], numbers: list[int]) -> str:
    uses_task_forms = rng.random() < 0.35  # the sentences of the task's generator
    subject, possessive = rng.choice(mednli._SUBJECTS)
    sentences = []
    for (kind, name), value, number in zip(things, values, numbers, strict=False):
        if uses_task_forms:
            form = rng.choice(getattr(mednli.GENERATOR_FORMS, kind)[not value])
            sentences.append(form.format(S=subject, x=name, v=number))
        else:
            sentences.append(f"{rng.choice(_SUBJECTS)} {rng.choice(_CUES[kind][not value]).format(x=name, v=number)}.")
    findings = [name for kind, name in things if kind == "finding"]
    if findings and rng.random() < 0.35:
        name, truth = rng.choice(findings), rng.randrange(2)
        if uses_task_forms:
            form, kin = rng.choice(mednli.GENERATOR_FORMS.relative[truth]), rng.choice(mednli._KIN)
            sentences.append(form.format(P=possessive, p=possessive.lower(), kin=kin, x=name))
        else:
            whose, kin = rng.choice(("His", "Her", "The")), rng.choice(_KIN)
            sentences.append(f"{whose} {kin} {rng.choice(_FINDING[truth]).format(x=name)}.")
    rng.shuffle(sentences)
    return " ".join(sentences)


def _write_claim(rng: random.Random, kind: str, name: str, claimed: bool, threshold: int) -> str:
    if rng.random() < 0.35:
        return str(
            rng.choice(getattr(mednli.GENERATOR_FORMS, f"claimed_{kind}")[not claimed]).format(x=name, t=threshold)
        )
    cues = _CLAIMED_MEASURE if kind == "measure" else _CUES[kind]
    return f"{rng.choice(_SUBJECTS)} {rng.choice(cues[not claimed]).format(x=name, t=threshold)}."


_SENTENCES = [
    *(form for forms in (mednli.DEV_FORMS, mednli.TEST_FORMS) for pair in forms for side in pair for form in side),
    *(
        form
        for forms in (gsm8k.DEV_FORMS, gsm8k.TEST_FORMS)
        for ways in (forms.start, forms.groups, *forms.change.values(), forms.question)
        for form in ways
    ),
]
_SINGLE_WORDS = sorted({word for form in _SENTENCES for word in re.findall(r"(?<![{A-Za-z])[A-Za-z]+", form)})


def write_word(rng: random.Random) -> Text:
    """Write a single word: a term with its kind, or a word of the tasks' sentences, so that the model meets each word."""
    if rng.random() < 0.6:
        return [(f"The word {rng.choice(_SINGLE_WORDS)}", True)]
    kind = rng.choice(("finding", "drug", "site", "measure"))
    return [(f"A {kind}: {_draw_name(rng, kind, rng.choice((GENERATOR, DEV, TEST)))}.", True)]


def _draw_step(rng: random.Random, total: int) -> tuple[str, int, int]:
    """Draw an operation on a number that keeps it small and positive. Return the sign, the other number and the result."""
    sign = rng.choice("++--*" if 1 < total <= 10 else "++--" if total > 1 else "+")
    if sign == "*":
        other = rng.randrange(2, 4 if total > 5 else 6)
    else:
        other = rng.randrange(1, min(total, 10) if sign == "-" else 10)
    return sign, other, {"+": total + other, "-": total - other, "*": total * other}[sign]


_STEP_FORMS = {
    "+": _split_ways("plus {}|{} added|{} more|another {}"),
    "-": _split_ways("minus {}|{} taken away|{} fewer|{} thrown out"),
    "*": _split_ways("times {}|{} times as many|{} times as large"),
}


def write_sums(rng: random.Random) -> Text:
    """Write arithmetic in figures, or in short notes about things that one counts."""
    if rng.random() < 0.5:
        text: Text = []
        for _ in range(5):
            total = rng.randrange(2, 41)
            sign, other, result = _draw_step(rng, total)
            text += [(f"{total} {sign} {other} =", False), (f" {result}. ", True)]
        return text
    total = rng.randrange(2, 41)
    things = gsm8k.GENERATOR.things if rng.random() < 0.5 else gsm8k.DEV.things + gsm8k.TEST.things
    steps, notes = [], [f"{total} {rng.choice(things)}"]
    for _ in range(rng.choice((1, 1, 2, 3))):
        sign, other, result = _draw_step(rng, total)
        steps.append(f"{total} {sign} {other} = {result}")
        notes.append(rng.choice(_STEP_FORMS[sign]).format(other))
        total = result
    return [(f"Count: {', '.join(notes)}. Sum:", False), (" " + ". ".join(steps), True)]


def _draw_answers(rng: random.Random) -> dict[str, str]:
    """Draw the answer to each verdict for one text: the task's label, or the verdict itself."""
    labels = {verdict: label for label, verdict in mednli.VERDICTS.items()}
    return labels if rng.random() < LABEL_SHARE else {verdict: verdict for verdict in labels}


def write_answered_exercise(rng: random.Random) -> Text:
    """Write an exercise with answers."""
    answer = _draw_answers(rng)
    text: Text = []
    for piece, learned in write_exercise(rng):
        if learned:
            verdict = piece.removesuffix(" </think>").split()[-1]
            piece = f"{piece} <answer> {answer[verdict]} </answer>"
        text.append((piece, learned))
    return text


def write_mednli_item(rng: random.Random) -> Text:
    """Write an item of the task as its generator writes it."""
    question, output = mednli.write(rng, rng.choice(mednli.LEVELS), "")
    return [(f"{question} {MEDNLI_OUTPUT}", False), (output, True)]


def write_mednli_thought(rng: random.Random) -> Text:
    """Write an item of the task with a thought but without an answer."""
    question, (output, _) = write_mednli_item(rng)
    thought, end, _ = output.partition(" </think>")
    return [question, (thought + end, True)]


def write_answered_mednli_item(rng: random.Random) -> Text:
    """Write an item of the task with a thought and an answer."""
    question, (thought, _) = write_mednli_thought(rng)
    answer = _draw_answers(rng)[thought.removesuffix(" </think>").split()[-1]]
    return [question, (f"{thought} <answer> {answer} </answer>", True)]


def write_gsm8k_item(rng: random.Random) -> Text:
    """Write an item of gsm8k as its generator writes it."""
    question, answer = gsm8k.write(rng, rng.choice((1, 1, 2, 3, 4)), "")
    return [(f"{question} {GSM8K_OUTPUT}", False), (answer, True)]


SKILLS: Mixture = (
    (0.55, write_exercise),
    (0.12, write_mednli_thought),
    (0.03, write_word),
    (0.17, write_sums),
    (0.13, write_gsm8k_item),
)
# The second phase has answers too.
ANSWERS: Mixture = (
    (0.45, write_answered_exercise),
    (0.15, write_answered_mednli_item),
    (0.03, write_word),
    (0.17, write_sums),
    (0.20, write_gsm8k_item),
)


def draw(rng: random.Random, mixture: Mixture) -> Text:
    """Draw a text of a mixture."""
    (write,) = rng.choices([write for _, write in mixture], [share for share, _ in mixture])
    return write(rng)


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
    parser.add_argument("--steps", type=int, default=1800, help="steps on the skills")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--answer-steps", type=int, default=250, help="steps on answers too")
    parser.add_argument("--answer-rate", type=float, default=2e-3)
    parser.add_argument("--tokens", type=int, default=3500, help="tokens in a batch")
    parser.add_argument("--vocabulary", type=int, default=2048)
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
