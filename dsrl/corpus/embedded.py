"""The small library that comes with dsrl: what it holds, and whether it knows a domain."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

#: A keyword that is in so many passages is a subject of the library.
_KNOWN = 3


@dataclass(frozen=True, slots=True)
class Subject:
    """What one file of the library is about.

    Attributes:
        name: the name of the file.
        description: its subjects in words.
        stems: what words begin with that name these subjects.
    """

    name: str
    description: str
    stems: tuple[str, ...]


SUBJECTS = (
    Subject(
        "medical",
        "medicine",
        tuple(
            "medic clinic health disease illness patient diagnos symptom therap hospital doctor surg nurs pharma anatom "
            "physiolog patholog cardi neurolog".split()
        ),
    ),
    Subject(
        "quantities",
        "everyday quantities (for word problems)",
        tuple("math arithmetic algebra geometr quantit calculat number".split()),
    ),
    Subject(
        "general",
        "a little of law, finance, logic, statistics, databases and natural science",
        tuple(
            "law legal contract court financ econom account invest bond share logic deduct fallac statistic probabilit sql "
            "databas quer science physic chemi biolog".split()
        ),
    ),
)


def embedded_library() -> Path:
    """Return the folder of the small library that comes with dsrl."""
    return Path(__file__).parent / "library"


def describe_library() -> str:
    """Return what the library holds, in words."""
    sizes = {subject.name: len(_read_texts(subject.name)) for subject in SUBJECTS}
    return "; ".join(f"{subject.description}: {sizes[subject.name]} passages" for subject in SUBJECTS)


def knows_domain(keywords: Sequence[str]) -> bool:
    """Return whether the library holds passages about a domain: a keyword names one of its subjects, or is in its texts."""
    stems = tuple(stem for subject in SUBJECTS for stem in subject.stems)
    for keyword in keywords:
        term = " ".join(keyword.casefold().split())
        if any(word.startswith(stems) for word in term.replace("-", " ").split()):
            return True
        if term and sum(f" {term}" in text for subject in SUBJECTS for text in _read_texts(subject.name)) >= _KNOWN:
            return True
    return False


@cache
def _read_texts(name: str) -> tuple[str, ...]:
    lines = (embedded_library() / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    records = map(json.loads, lines)
    return tuple(" " + " ".join(f"{record['title']} {record['text']}".casefold().split()) for record in records)
