"""The requests that a run will send, made by its own stages without a teacher: to measure them, and to price the first."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from random import Random
from typing import Any

from dsrl.pipeline.context import RunContext
from dsrl.pipeline.instructor import Instructor
from dsrl.pipeline.stages.adapted import rewrite
from dsrl.pipeline.stages.initial import SampleSource, write_initial
from dsrl.pipeline.stages.keywords import find_keywords
from dsrl.pipeline.stages.passages import PASSAGE_LENGTH
from dsrl.pipeline.stages.pattern import summarise_pattern
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


def _open_recorder(context: RunContext) -> tuple[_Recorder, Instructor]:
    recorder, settings = _Recorder(), context.settings
    return recorder, Instructor(recorder, context.teachers, settings.teacher_temperature, settings.teacher_max_tokens)


def make_first_request(context: RunContext) -> Request:
    """Return the first request of a run; if it is to write a sample, as short as it can be."""
    recorder, instructor = _open_recorder(context)
    definition = context.definition
    first: Coroutine[Any, Any, Any]
    if not context.domains:
        first = find_keywords(instructor, definition)
    elif definition.demos:
        first = summarise_pattern(instructor, definition)
    else:
        first = write_initial(instructor, definition, SampleSource(1, 0, 0, Random(0)))
    asyncio.run(first)
    return recorder.requests[0]


def measure_prompts(context: RunContext) -> dict[Purpose, int]:
    """Return the bytes of a prompt for each purpose; what is not known yet is replaced by texts of a usual length."""
    recorder, instructor = _open_recorder(context)
    definition = context.definition
    text = "x" * max((len(demo.input) for demo in definition.demos), default=_INPUT_LENGTH)
    sample = Sample("1-00000", 1, 0, "initial", text, "x" * _OUTPUT_LENGTH, label="x")
    source = SampleSource(1, 0, 0, Random(0), "x" * _PATTERN_LENGTH, Passage("p", "x" * PASSAGE_LENGTH))

    async def make_requests() -> None:
        coroutines: list[Coroutine[Any, Any, Any]] = [
            find_keywords(instructor, definition),
            summarise_pattern(instructor, definition),
            write_initial(instructor, definition, source),
            rewrite(instructor, definition, sample, True, 0),
        ]
        await asyncio.gather(*coroutines)

    asyncio.run(make_requests())
    sizes: dict[Purpose, int] = dict.fromkeys(context.teachers, 0)
    for request in recorder.requests:
        sizes[request.purpose] = sum(
            len(message.content.encode("utf-8", "replace")) + _MESSAGE_BYTES for message in request.messages
        )
    sizes["solve"] = len(definition.make_question(text).encode()) + _MESSAGE_BYTES
    return sizes
