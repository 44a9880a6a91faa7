"""The requests that a run will send, made by its own stages without a teacher: to measure them, and to price the first."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from random import Random
from statistics import fmean
from typing import Any

from dsrl.pipeline.context import RunContext
from dsrl.pipeline.instructor import Instructor
from dsrl.pipeline.judging import Judge, make_submission
from dsrl.pipeline.run_tasks import RunTask
from dsrl.pipeline.stages.adapted import rewrite
from dsrl.pipeline.stages.initial import SampleSource, write_initial
from dsrl.pipeline.stages.keywords import find_keywords
from dsrl.pipeline.stages.passages import PASSAGE_LENGTH
from dsrl.pipeline.stages.pattern import summarise_pattern
from dsrl.settings import Settings
from dsrl.types import Completion, Passage, Purpose, Reply, Request, Sample

#: Characters of an input if there is no demonstration to measure.
_INPUT_LENGTH = 600
_OUTPUT_LENGTH = 200
_PATTERN_LENGTH = 800
#: Bytes that a message takes beside its text.
_MESSAGE_BYTES = 16


class _Recorder:
    """Stands in for the ledger: records the requests and answers them with an empty sample."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    async def complete(self, request: Request) -> Completion:
        self.requests.append(request)
        return Completion((Reply('{"input": "i", "output": "o"}'),) * request.n)


def _open_recorder(settings: Settings, task: RunTask) -> tuple[_Recorder, Instructor]:
    recorder = _Recorder()
    return recorder, Instructor(recorder, task.teachers, settings.teacher_temperature, settings.teacher_max_tokens)


def make_first_request(context: RunContext) -> Request:
    """Return the first request of a run; if it is to write a sample, as short as it can be."""
    tasks = context.tasks.values()
    asking = next((task for task in tasks if not task.domains), None)
    showing = next((task for task in tasks if task.list_pattern_domains()), None)
    task = asking or showing or next(iter(tasks))
    recorder, instructor = _open_recorder(context.settings, task)
    first: Coroutine[Any, Any, Any]
    if asking:
        first = find_keywords(instructor, task.definition)
    elif showing:
        first = summarise_pattern(instructor, task.get_definition(task.list_pattern_domains()[0]))
    else:
        first = write_initial(instructor, task.definition, SampleSource(1, 0, 0, Random(0)))
    asyncio.run(first)
    return recorder.requests[0]


def make_first_judge_request(context: RunContext) -> Request | None:
    """Return a request to the judge, as short as it can be; None if no task is judged."""
    task = next((task for task in context.tasks.values() if task.rubric), None)
    if task is None:
        return None
    recorder, instructor = _open_recorder(context.settings, task)
    judge = Judge(instructor, task.definition.description, task.rubric)
    asyncio.run(judge.judge([make_submission("", "x")]))
    return recorder.requests[0]


def measure_prompts(context: RunContext) -> dict[Purpose, int]:
    """Return the bytes of a prompt for each purpose; what is not known yet is replaced by texts of a usual length.

    With several tasks, it is the mean over the tasks, because the samples are divided evenly; for the judge, over those that
    are judged.
    """
    sizes = [_measure_task(context.settings, task) for task in context.tasks.values()]
    judged = [size for size, task in zip(sizes, context.tasks.values(), strict=True) if task.rubric]
    means = {purpose: round(fmean(size[purpose] for size in sizes)) for purpose in sizes[0]}
    return {**means, "judge": round(fmean(size["judge"] for size in judged)) if judged else 0}


def _measure_task(settings: Settings, task: RunTask) -> dict[Purpose, int]:
    recorder, instructor = _open_recorder(settings, task)
    definition = task.get_definition(next(iter(task.domain_demos), ""))
    domain = task.get_named_domain(next(iter(task.domains), ""))
    text = "x" * max((len(demo.input) for demo in definition.demos), default=_INPUT_LENGTH)
    sample = Sample("1-00000", 1, 0, "initial", text, "x" * _OUTPUT_LENGTH, label="x")
    passage = Passage("p", "x" * PASSAGE_LENGTH) if settings.passages else None
    source = SampleSource(1, 0, 0, Random(0), "x" * _PATTERN_LENGTH, passage, named_domain=domain)

    async def make_requests() -> None:
        coroutines: list[Coroutine[Any, Any, Any]] = [
            find_keywords(instructor, definition),
            summarise_pattern(instructor, definition),
            write_initial(instructor, definition, source),
            rewrite(instructor, definition, sample, True, 0, domain),
        ]
        if task.rubric:
            judge = Judge(instructor, definition.description, task.rubric)
            coroutines.append(judge.judge([make_submission(text, sample.output, sample.output)]))
        await asyncio.gather(*coroutines)

    asyncio.run(make_requests())
    sizes: dict[Purpose, int] = dict.fromkeys(task.teachers, 0)
    for request in recorder.requests:
        sizes[request.purpose] = sum(
            len(message.content.encode("utf-8", "replace")) + _MESSAGE_BYTES for message in request.messages
        )
    sizes["solve"] = len(definition.make_question(text).encode()) + _MESSAGE_BYTES
    return sizes
