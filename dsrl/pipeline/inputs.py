"""What defines a run beside its settings: inputs that can change while their names in the settings stay the same.

The run stores a digest of each input. An input belongs to the first stage that it can change. As long as the run has no
results of that stage or a later one, a changed input is accepted. After that it is refused with its name, so that no run
mixes two definitions. Test items are not an input in this sense: they change only the evaluation, which is repeated
(:mod:`dsrl.pipeline.stages.evaluated`). Versions of plugins are stored with the settings; a change of them is only noted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from dsrl.errors import SettingsError
from dsrl.pipeline.context import RunContext
from dsrl.storage.run_store import RunStore
from dsrl.types import Purpose

#: The teacher that writes by the rules of the task.
_RULE_TEACHER = "procedural"


@dataclass(frozen=True, slots=True)
class RunInput:
    """One input of a run.

    Attributes:
        name: the key of its digest in the store.
        stage: the first stage that it can change.
        change: a sentence about its change, to be continued with "since this run began".
        get_value: returns what the digest is made of.
    """

    name: str
    stage: str
    change: str
    get_value: Callable[[RunContext], Any]

    def compute_digest(self, context: RunContext) -> str:
        """Return 16 hexadecimal digits that change with the input."""
        return hashlib.sha256(json.dumps(self.get_value(context)).encode()).hexdigest()[:16]


def _get_demos(context: RunContext) -> Any:
    return [(demo.input, demo.output) for demo in context.definition.demos]


def _get_rules(context: RunContext) -> Any:
    writers: tuple[Purpose, ...] = ("write", "solve", "rewrite")
    names = {context.teachers[purpose].plugin.name for purpose in writers}
    return context.task.digest_code("procedural_sample", "procedural_solve") if _RULE_TEACHER in names else ""


def _get_answer_format(context: RunContext) -> Any:
    task = context.task
    answer_format = task.hook.answer_format() if task.implements("answer_format") else None
    return asdict(answer_format) if answer_format else None


INPUTS = (
    RunInput("description", "keywords", "the task's description has changed", lambda c: c.definition.description),
    RunInput("domains", "keywords", "the task's domains have changed", lambda c: c.domains),
    RunInput("demos", "keywords", "the demonstrations have changed", _get_demos),
    RunInput("corpus", "passages", "the passage library has changed", lambda c: c.corpus_fingerprint),
    RunInput(
        "input_instruction",
        "pattern",
        "the task's input instruction has changed",
        lambda c: c.definition.input_instruction,
    ),
    RunInput(
        "output_instruction",
        "pattern",
        "the task's output instruction has changed",
        lambda c: c.definition.output_instruction,
    ),
    RunInput("rules", "initial", "the task's code for the teacher 'procedural' has changed", _get_rules),
    RunInput(
        "answer_format",
        "verified",
        "the task's answer format (its form or its choices) has changed",
        _get_answer_format,
    ),
    RunInput(
        "parser",
        "verified",
        "the task's code that reads and compares answers (process_prediction, eval) has changed",
        lambda c: c.task.digest_code("process_prediction", "eval"),
    ),
    RunInput(
        "reward", "trained", "the task's code that gives the reward has changed", lambda c: c.task.digest_code("reward")
    ),
)


def record_inputs(store: RunStore, context: RunContext) -> list[str]:
    """Compare the inputs of a run with those that it was made with, and store the digests of the present ones.

    Returns:
        A note for each input that has changed and is accepted.

    Raises:
        SettingsError: inputs have changed that the run has used; the text names each.
    """
    before = store.inputs()
    digests = {each.name: each.compute_digest(context) for each in INPUTS}
    changed = [each for each in INPUTS if each.name in before and before[each.name] != digests[each.name]]
    refused = [each.change for each in changed if store.stages.has_reached(each.stage)]
    if refused:
        raise SettingsError(
            f"run {context.settings.name!r} cannot continue: {', and '.join(refused)} since this run began. Undo the "
            "change, or give --name for a new run"
        )
    store.keep_inputs(digests, asdict(context.definition))
    if not store.stages.has_reached("keywords"):
        return []
    return [
        f"{each.change} since this run began; this is accepted, because the stage {each.stage!r} has not started"
        for each in changed
    ]
