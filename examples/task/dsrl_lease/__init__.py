"""The task ``lease``: does a clause of a lease allow what the tenant wants to do?"""

from __future__ import annotations

from collections.abc import Sequence

from dsrl import AnswerFormat, Example, hookimpl


@hookimpl
def description() -> str:
    return (
        "You are given a clause of a residential lease and a plan of the tenant. Decide whether the clause allows the plan. "
        "Read the clause word by word: conditions, exceptions and deadlines decide. If the clause is silent, the plan is "
        "allowed."
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
