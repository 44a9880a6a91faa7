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
from typing import Any, NamedTuple

from dsrl.errors import SettingsError
from dsrl.pipeline.context import RunContext
from dsrl.pipeline.run_tasks import RunTask
from dsrl.storage.run_store import RunStore
from dsrl.types import Example, Purpose

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
        before: the value in a run that an earlier version of dsrl began, which did not know this input; None: it is taken
            to be as it is now.
    """

    name: str
    stage: str
    change: str
    get_value: Callable[[RunTask], Any]
    before: Any = None

    def compute_digest(self, task: RunTask) -> str:
        """Return 16 hexadecimal digits that change with the input."""
        return compute_digest(self.get_value(task))


def compute_digest(value: Any) -> str:
    """Return 16 hexadecimal digits that change with a value."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _get_demos(task: RunTask) -> Any:
    pairs = [(demo.input, demo.output) for demo in task.definition.demos]
    if not task.domain_demos:
        return pairs
    return [pairs, {domain: [(d.input, d.output) for d in demos] for domain, demos in task.domain_demos.items()}]


def _get_rules(task: RunTask) -> Any:
    purposes: tuple[Purpose, ...] = ("write", "solve", "rewrite", *(("judge",) if task.rubric else ()))
    names = {task.teachers[purpose].plugin.name for purpose in purposes}
    return task.plugin.digest_code("procedural_sample", "procedural_solve") if _RULE_TEACHER in names else ""


def _get_answer_format(run_task: RunTask) -> Any:
    task = run_task.plugin
    answer_format = task.hook.answer_format() if task.implements("answer_format") else None
    return asdict(answer_format) if answer_format else None


def _get_judge(task: RunTask) -> Any:
    role = task.teachers["judge"]
    return [role.label, *sorted(map(str, role.plugin.ref.options.items()))] if task.rubric else ""


INPUTS = (
    RunInput("description", "keywords", "the task's description has changed", lambda t: t.definition.description),
    RunInput("domains", "keywords", "the task's domains have changed", lambda t: t.domains),
    RunInput("demos", "keywords", "the demonstrations have changed", _get_demos),
    RunInput(
        "input_instruction",
        "pattern",
        "the task's input instruction has changed",
        lambda t: t.definition.input_instruction,
    ),
    RunInput(
        "output_instruction",
        "pattern",
        "the task's output instruction has changed",
        lambda t: t.definition.output_instruction,
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
        lambda t: t.plugin.digest_code("process_prediction", "eval"),
    ),
    RunInput("rubric", "verified", "the rubric has changed", lambda t: t.rubric, before=""),
    RunInput("judge", "verified", "the teacher that judges has changed", _get_judge, before=""),
    RunInput(
        "reward",
        "trained",
        "the task's code that gives the reward has changed",
        lambda t: t.plugin.digest_code("reward"),
    ),
)


class InputState(NamedTuple):
    """One input of a run as it is now.

    The key of its digest, its stage, a sentence about its change, its digest, and the digest that a run without a stored
    one had.
    """

    name: str
    stage: str
    change: str
    digest: str
    before: str


def list_inputs(context: RunContext) -> list[InputState]:
    """List the inputs of a run: those of each task, and the passage library. With several tasks, names have the task."""
    corpus = compute_digest(context.corpus_fingerprint)
    states = [InputState("corpus", "passages", "the passage library has changed", corpus, corpus)]
    for key, task in context.tasks.items():
        for each in INPUTS:
            name, change = (f"{each.name}:{key}", f"task {key}: {each.change}") if key else (each.name, each.change)
            digest = each.compute_digest(task)
            before = digest if each.before is None else compute_digest(each.before)
            states.append(InputState(name, each.stage, change, digest, before))
    return states


def _describe_definitions(context: RunContext) -> dict[str, Any]:
    """Return the definition of the task, or with several tasks ``tasks``: name -> definition."""

    def describe(task: RunTask) -> dict[str, Any]:
        definition = {**asdict(task.definition), "demos": list(map(_describe_demo, task.definition.demos))}
        if task.rubric:
            definition |= {"rubric": task.rubric, "judge": task.teachers["judge"].label}
        if task.domain_demos:
            definition["domain_demos"] = {d: list(map(_describe_demo, own)) for d, own in task.domain_demos.items()}
        return definition

    tasks = context.tasks
    return describe(tasks[""]) if "" in tasks else {"tasks": {key: describe(task) for key, task in tasks.items()}}


def _describe_demo(demo: Example) -> dict[str, str]:
    return {name: text for name, text in asdict(demo).items() if text or name != "domain"}


def record_inputs(store: RunStore, context: RunContext) -> list[str]:
    """Compare the inputs of a run with those that it was made with, and store the digests of the present ones.

    Returns:
        A note for each input that has changed and is accepted.

    Raises:
        SettingsError: inputs have changed that the run has used; the text names each.
    """
    before, now = store.inputs(), list_inputs(context)
    changed = [each for each in now if before.get(each.name, each.before) != each.digest]
    refused = [each.change for each in changed if store.stages.has_reached(each.stage)]
    if refused:
        raise SettingsError(
            f"run {context.settings.name!r} cannot continue: {', and '.join(refused)} since this run began. Undo the "
            "change, or give --name for a new run"
        )
    store.keep_inputs({each.name: each.digest for each in now}, _describe_definitions(context))
    if not store.stages.has_reached("keywords"):
        return []
    return [
        f"{each.change} since this run began; this is accepted, because the stage {each.stage!r} has not started"
        for each in changed
    ]
