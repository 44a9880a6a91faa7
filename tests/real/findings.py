"""Override of mednli for a small real model: does a sentence of a record say that the patient has a finding? yes or no.

The test items share neither findings nor wordings with the samples that the rules write. Guessing is right in half of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from dsrl import AnswerFormat, Example, Solved, hookimpl

FINDINGS = (
    "fever", "cough", "asthma", "gout", "anemia", "nausea", "sepsis", "diabetes", "migraine", "chest pain", "vertigo",
    "a rash", "edema", "pneumonia", "a stroke", "hypertension", "jaundice", "seizures", "back pain", "arthritis",
)  # fmt: skip
PRESENT = (
    "The patient reports {}.", "The chart shows {}.", "She was treated for {}.", "He suffers from {}.",
    "Tests confirmed {}.", "He was admitted with {}.",
)  # fmt: skip
ABSENT = (
    "The patient denies {}.", "The chart shows no {}.", "She never had {}.", "He is free of {}.", "Tests ruled out {}.",
    "He was admitted without {}.",
)  # fmt: skip
TEST_FINDINGS = (
    "epilepsy", "insomnia", "bronchitis", "a hernia", "kidney stones", "tinnitus", "eczema", "dementia", "an ulcer",
    "a sore throat", "palpitations", "colitis",
)  # fmt: skip
TEST_PRESENT = ("The nurse noted {}.", "The exam revealed {}.", "He complains of {}.", "She was diagnosed with {}.")
TEST_ABSENT = (
    "There is no sign of {}.", "The exam was negative for {}.", "He does not have {}.", "No evidence of {} was found.",
)  # fmt: skip


def list_items(findings: Sequence[str], present: Sequence[str], absent: Sequence[str]) -> list[Example]:
    """Return one item for each finding and wording."""
    wordings = [(wording, "yes") for wording in present] + [(wording, "no") for wording in absent]
    return [
        Example(f"{wording.format(finding)} Does the patient have {finding}?", label)
        for finding in findings
        for wording, label in wordings
    ]


ITEMS = list_items(FINDINGS, PRESENT, ABSENT)
LABELS = {item.input: item.output for item in ITEMS}


@hookimpl
def description() -> str:
    return "You are given a sentence from a patient's record. Say whether the patient has the finding in the question."


@hookimpl
def input_instruction() -> str:
    return "A sentence from the record, then 'Does the patient have', the finding, and a question mark."


@hookimpl
def output_instruction() -> str:
    return "Answer with yes or no and nothing else."


@hookimpl
def answer_format() -> AnswerFormat:
    return AnswerFormat("choice", ("yes", "no"))


@hookimpl
def load_dataset(path: str, split: str) -> list[Example]:
    items = list_items(TEST_FINDINGS, TEST_PRESENT, TEST_ABSENT)
    Random(7).shuffle(items)
    return items


@hookimpl
def procedural_sample(seed: int) -> Example:
    return Random(seed).choice(ITEMS)


@hookimpl
def procedural_solve(input: str) -> Solved | None:
    label = LABELS.get(input)
    return Solved(label, 1) if label else None
