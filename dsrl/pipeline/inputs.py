"""What defines a run beside its settings: the inputs that somebody can edit while their names stay the same.

A run keeps a digest of each. An input belongs to the first stage that it can change: while nothing is there from that stage
on, the input is taken as it is now; afterwards it is refused, by name, so that no run mixes two definitions. Test items
are no part of this: they change the evaluation alone, and it is repeated (:mod:`dsrl.pipeline.run`). Versions of plugins are
kept with the settings and refuse nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from dsrl.errors import SettingsError
from dsrl.pipeline.instructor import Definition
from dsrl.plugins.binding import Plugin
from dsrl.plugins.source_digest import source_digest
from dsrl.plugins.specs import TaskSpec
from dsrl.settings import Settings
from dsrl.storage.run_store import RunStore

#: The teacher that writes by the task's own rules.
_BY_RULES = "procedural"


@dataclass(frozen=True, slots=True)
class Given:
    """The inputs of a run as they are now.

    Attributes:
        settings: as resolved.
        task: the bound plugin with its overrides.
        definition: the task in words, with the demonstrations.
        corpus: the fingerprint of the passage library.
    """

    settings: Settings
    task: Plugin[TaskSpec]
    definition: Definition
    corpus: str

    def code_of(self, *hooks: str) -> str:
        """Give the digest of the code that answers hooks of the task, dsrl's own defaults left out."""
        return source_digest(found for hook in hooks for found in self.task.implementations(hook))


@dataclass(frozen=True, slots=True)
class Input:
    """One input.

    Attributes:
        name: what its digest is kept under.
        stage: the first that it can change.
        changed: the sentence about its change, to be followed by "since this run began".
        value: what the digest is taken of.
    """

    name: str
    stage: str
    changed: str
    value: Callable[[Given], Any]

    def digest(self, given: Given) -> str:
        """Give 16 hexadecimal digits that change with the input."""
        return hashlib.sha256(json.dumps(self.value(given)).encode()).hexdigest()[:16]


def _domains(given: Given) -> Any:
    return given.settings.domain or tuple(given.task.hook.domains())


def _demos(given: Given) -> Any:
    return [(demo.input, demo.output) for demo in given.definition.demos]


def _rules(given: Given) -> Any:
    teachers = {given.settings.teacher_of(purpose)[0] for purpose in ("write", "solve", "rewrite")}
    return given.code_of("procedural_sample", "procedural_solve") if _BY_RULES in teachers else ""


def _answer_format(given: Given) -> Any:
    found = given.task.hook.answer_format() if given.task.implements("answer_format") else None
    return asdict(found) if found else None


INPUTS = (
    Input("description", "keywords", "the task's description has changed", lambda g: g.definition.description),
    Input("domains", "keywords", "the task's domains have changed", _domains),
    Input("demos", "keywords", "the demonstrations have changed", _demos),
    Input("corpus", "passages", "the passage library has changed", lambda g: g.corpus),
    Input(
        "input_instruction",
        "pattern",
        "the task's input instruction has changed",
        lambda g: g.definition.input_instruction,
    ),
    Input(
        "output_instruction",
        "pattern",
        "the task's output instruction has changed",
        lambda g: g.definition.output_instruction,
    ),
    Input("rules", "initial", "the task's code for the teacher 'procedural' has changed", _rules),
    Input(
        "answer_format", "verified", "the task's answer format (its form or its choices) has changed", _answer_format
    ),
    Input(
        "parser",
        "verified",
        "the task's code that reads and compares answers (process_prediction, eval) has changed",
        lambda g: g.code_of("process_prediction", "eval"),
    ),
    Input("reward", "trained", "the task's code that gives the reward has changed", lambda g: g.code_of("reward")),
)


def keep_inputs(store: RunStore, given: Given) -> list[str]:
    """Compare a run's inputs with those that it was made with, and keep what they are now.

    Returns:
        A note for each input that has changed and is taken as it is now.

    Raises:
        SettingsError: inputs have changed that the run was made with; names each.
    """
    kept = store.inputs()
    digests = {each.name: each.digest(given) for each in INPUTS}
    changed = [each for each in INPUTS if each.name in kept and kept[each.name] != digests[each.name]]
    refused = [each.changed for each in changed if store.reached(each.stage)]
    if refused:
        raise SettingsError(
            f"run {given.settings.name!r} cannot go on: {', and '.join(refused)} since this run began; give --name for a "
            "new run, or put back what it was"
        )
    store.keep_inputs(digests, asdict(given.definition))
    if not store.reached("keywords"):
        return []
    return [f"{each.changed} since this run began; what it decides ({each.stage}) is not made yet" for each in changed]
