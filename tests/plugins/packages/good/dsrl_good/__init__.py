"""Capitals: a task of a stranger. Answers stand between square brackets; half a reward for the right first letter."""

from __future__ import annotations

import re

from dsrl import UNREADABLE, Example, hookimpl

CAPITALS = {"France": "Paris", "Italy": "Rome", "Norway": "Oslo", "Peru": "Lima"}


@hookimpl
def description():
    return "You are given a country. Name its capital."


@hookimpl
def input_instruction():
    return "Write 'Country: ' and the name of a country."


@hookimpl
def output_instruction():
    return "Give the capital in [square brackets]."


@hookimpl
def domains():
    return ["geography"]


@hookimpl
def demos():
    return [Example("Country: Spain", "[Madrid]")]


@hookimpl
def load_dataset(path, split):
    return [Example(f"Country: {country}", f"[{capital}]") for country, capital in CAPITALS.items()]


@hookimpl
def process_prediction(output):
    found = re.findall(r"\[([^\[\]]+)\]", output)
    return found[-1].strip() if found else UNREADABLE


@hookimpl(specname="eval")
def evaluate(prediction, label):
    return prediction == label


@hookimpl
def reward(output, label):
    prediction = process_prediction(output)
    if prediction is UNREADABLE:
        return -1.0
    return 1.0 if prediction == label else 0.5 * (prediction[:1] == label[:1])


@hookimpl
def procedural_sample(seed, difficulty, passage):
    country = sorted(CAPITALS)[seed % len(CAPITALS)]
    return Example(f"Country: {country}", f"[{CAPITALS[country]}]")


@hookimpl
def procedural_solve(input):
    from dsrl import Solved

    capital = CAPITALS.get(input.removeprefix("Country: "))
    return Solved(f"[{capital}]", 1) if capital else None
