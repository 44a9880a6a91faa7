"""The task ``lease_check``: does a clause of a lease allow what the tenant wants to do?

The first five hooks are the task. The teacher ``procedural`` needs the rules below them, which write a simple kind of such
questions, so that the task runs without a language model as teacher. Without the rules, choose another teacher.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from dsrl import AnswerFormat, Example, Solved, hookimpl


@hookimpl
def description() -> str:
    return (
        "You are given a clause of a residential lease and a plan of the tenant. Decide whether the clause allows the plan. "
        "Read the clause word by word: numbers, conditions, exceptions and deadlines decide. If the clause is silent, the "
        "plan is allowed."
    )


@hookimpl
def input_instruction() -> str:
    return "An input has two lines. The first begins with 'Clause:', the second with 'Plan:'."


@hookimpl
def answer_format() -> AnswerFormat:
    # From this follow the instruction for the model, the parser, the comparison and the reward.
    return AnswerFormat("tag", ("yes", "no"))


@hookimpl
def domains() -> Sequence[str]:
    # If there are passage libraries, passages are searched for each of these.
    return ("pets", "subletting", "repairs", "noise", "deposit")


@hookimpl
def demos() -> Sequence[Example]:
    return (
        Example(
            "Clause: The tenant may keep one cat, but no other animal.\nPlan: The tenant buys a small dog.",
            "<think> A dog is another animal. </think> <answer> no </answer>",
        ),
        Example(
            "Clause: The tenant may sublet a room after giving notice of 30 days.\n"
            "Plan: The tenant gives notice on 1 May and sublets a room from 15 June.",
            "<think> From 1 May to 15 June are 45 days, more than 30. </think> <answer> yes </answer>",
        ),
        Example(
            "Clause: Walls may be painted in white only.\nPlan: The tenant hangs up a blue picture.",
            "<think> The clause is about paint. It is silent on pictures. </think> <answer> yes </answer>",
        ),
    )


# --- rules for the teacher procedural, and a test set made by them ----------------------------------------------------

LEVELS = 3
ANIMALS = ("cats", "dogs", "birds", "rabbits", "fish")
#: The test set speaks of other animals than the samples, so that it asks for more than memory.
TEST_ANIMALS = ("hamsters", "parrots", "turtles", "snakes")
_COUNT = re.compile(r"([1-9]) (\w+)")


@hookimpl
def load_dataset(path: str) -> Sequence[Example] | None:
    if path:
        return None  # dsrl reads the file of --dataset-path.
    return [_make_sample(seed, 1 + seed % LEVELS, TEST_ANIMALS) for seed in range(200)]


@hookimpl
def procedural_sample(seed: int, difficulty: int) -> Example:
    return _make_sample(seed, difficulty, ANIMALS)


@hookimpl
def procedural_solve(input: str) -> Solved | None:
    # The input can be any text. None says that the rules did not write it.
    first, _, second = input[:1000].partition("\n")
    if not first.startswith("Clause: The tenant may keep ") or not second.startswith("Plan: The tenant has "):
        return None
    limits = {animal: int(count) for count, animal in _COUNT.findall(first)}
    plan = _COUNT.findall(second)
    if len(plan) != 1 or plan[0][1] not in limits:
        return None
    count, animal = int(plan[0][0]), plan[0][1]
    answer = "yes" if count <= limits[animal] else "no"
    thought = f"{limits[animal]} {animal}, {count} {animal}"
    return Solved(f"<think> {thought} </think> <answer> {answer} </answer>", len(limits))


def _make_sample(seed: int, difficulty: int, animals: Sequence[str]) -> Example:
    """Make a sample: the level is the number of animals in the clause, and both answers are equally likely."""
    rng = random.Random(seed)
    limits = {animal: rng.randint(1, 8) for animal in rng.sample(animals, min(max(difficulty, 1), LEVELS))}
    animal = rng.choice(list(limits))
    count = rng.choice((rng.randint(1, limits[animal]), rng.randint(limits[animal] + 1, 9)))
    clause = " and ".join(f"{limit} {name}" for name, limit in limits.items())
    text = f"Clause: The tenant may keep {clause}.\nPlan: The tenant has {count} {animal}."
    solution = procedural_solve(input=text)
    assert solution is not None
    return Example(text, solution.output)
