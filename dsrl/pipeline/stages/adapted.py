"""Difficulty adaptation: solved samples are rewritten harder, unsolved ones easier (paper 4.2, Figure 7)."""

from __future__ import annotations

from dataclasses import replace

from dsrl.pipeline.instructor import Definition, Instructor, as_json
from dsrl.pipeline.prompts import render
from dsrl.pipeline.stages.initial import ask_sample
from dsrl.types import Example, Kind, Sample


async def rewrite(instructor: Instructor, definition: Definition, sample: Sample, solved: bool, number: int) -> Sample:
    """Ask for the harder (``solved``) or easier sample that descends from ``sample``.

    Returns:
        The new sample; with ``dropped`` set where the reply is no sample.
    """
    kind: Kind = "harder" if solved else "easier"
    messages = render(kind, **definition.words(), sample=as_json(Example(sample.input, sample.output)))
    variables = {"direction": kind, "input": sample.input}
    new = Sample(
        f"{sample.id}{kind[0]}", sample.round, sample.slot, kind, "", "", None, None, sample.id, sample.passage
    )
    example, reason = await ask_sample(instructor, "rewrite", messages, variables, number)
    return replace(new, input=example.input, output=example.output, dropped=reason)
