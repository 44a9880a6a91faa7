"""How much of a MedNLI label can be guessed from one sentence alone (Gururangan et al. 2018)?

    python benchmarks/hypothesis_only.py --train 1000 --test 1000

Trains a bag-of-words logistic regression on the hypotheses of samples of the procedural generator, another on the
premises, and prints the accuracy of both on the held-out test split and on fresh samples of the generator itself, where
the words are the same. Chance is one third.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from itertools import pairwise

import torch
from dsrl_tasks.mednli import procedural

PARTS = {
    "hypothesis": re.compile(r"Hypothesis: (.*)", re.DOTALL),
    "premise": re.compile(r"Premise: (.*) Hypothesis:", re.DOTALL),
}
Item = tuple[str, str]


def label(output: str) -> int:
    return procedural.LABELS.index(output.split("<answer>")[1].split("</answer>")[0].strip())


def words(text: str) -> list[str]:
    """Words and pairs of neighbouring words."""
    single = re.findall(r"\w+", text.lower())
    return single + [f"{first} {second}" for first, second in pairwise(single)]


def vectors(texts: list[str], vocabulary: dict[str, int]) -> torch.Tensor:
    counts = torch.zeros(len(texts), len(vocabulary))
    for row, text in enumerate(texts):
        for word in words(text):
            if word in vocabulary:
                counts[row, vocabulary[word]] = 1.0
    return counts


def accuracies(train: list[Item], tests: dict[str, list[Item]], part: str) -> dict[str, float]:
    """Accuracy on each test set of a logistic regression that has seen only one part of the training items."""

    def read(items: list[Item]) -> list[str]:
        found = [PARTS[part].search(given) for given, _ in items]
        return [match[1] for match in found if match]

    texts = read(train)
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(word for text in texts for word in words(text)))}
    features, labels = vectors(texts, vocabulary), torch.tensor([label(output) for _, output in train])
    model = torch.nn.Linear(len(vocabulary), len(procedural.LABELS))
    torch.nn.init.zeros_(model.weight)
    # Full-batch and convex: it ends at the regularised optimum, without a seed.
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(features), labels) + 1e-3 * model.weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    result = {}
    for name, items in tests.items():
        guesses = model(vectors(read(items), vocabulary)).argmax(-1)
        result[name] = (guesses == torch.tensor([label(output) for _, output in items])).double().mean().item()
    return result


def generated(n: int, seed: str) -> list[Item]:
    rng = random.Random(seed)
    return [procedural.write(rng, rng.choice(procedural.LEVELS), "") for _ in range(n)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    train = generated(options.train, f"train {options.seed}")
    tests = {
        "test": procedural.make_held_out_items("test", options.test),
        "generator": generated(options.test, f"fresh {options.seed}"),
    }
    print(json.dumps({part: accuracies(train, tests, part) for part in PARTS}, indent=2))


if __name__ == "__main__":
    main()
