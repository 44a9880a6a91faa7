"""Difficulty adaptation: solved samples are rewritten harder, unsolved ones easier (paper 4.2, Figure 7)."""

from __future__ import annotations

from dataclasses import replace

from dsrl.pipeline.instructor import Definition, Instructor, format_domain, format_example
from dsrl.pipeline.prompts import render
from dsrl.pipeline.stages.initial import ask_sample
from dsrl.types import Example, Kind, Sample


async def rewrite(
    instructor: Instructor, definition: Definition, sample: Sample, solved: bool, number: int, domain: str = ""
) -> Sample:
    """Ask the teacher to rewrite a sample: harder if the base model solved it, else easier.

    Args:
        instructor: asks the teacher.
        definition: the definition of the task.
        sample: the sample to rewrite.
        solved: whether the base model solved it.
        number: the number of the reply among those to the same prompt.
        domain: the domain as the prompt names it; empty if the task has only one, and the prompt names none.

    Returns:
        The new sample; ``dropped`` is set if the reply holds no sample.
    """
    kind: Kind = "harder" if solved else "easier"
    messages = render(
        kind,
        **definition.get_instructions(),
        sample=format_example(Example(sample.input, sample.output)),
        domain=format_domain(domain),
    )
    variables = {"direction": kind, "input": sample.input, "domain": domain}
    example, reason = await ask_sample(instructor, "rewrite", messages, variables, number)
    return replace(
        sample,
        id=f"{sample.id}{kind[0]}",
        kind=kind,
        input=example.input,
        output=example.output,
        label=None,
        dropped=reason,
        parent=sample.id,
    )
