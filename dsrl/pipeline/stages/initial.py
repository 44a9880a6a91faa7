"""Initial samples: the teacher writes one sample for each slot, from one passage (paper 4.1, Figure 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from random import Random
from typing import Any

from dsrl.errors import RowRefused
from dsrl.pipeline.instructor import SAMPLE_SCHEMA, Definition, Instructor, format_domain, format_example
from dsrl.pipeline.json_replies import read_json_reply
from dsrl.pipeline.prompts import render
from dsrl.pipeline.stages.passages import PASSAGE_LENGTH
from dsrl.text import replace_surrogates
from dsrl.types import Example, Message, Passage, Purpose, Reply, Sample

#: Demonstrations that a prompt shows beside the pattern (as in the original).
MAX_DEMOS = 3
#: Distance from the number of a reply to the number of the next try: above every number, and three times below 2**63.
NEXT_TRY = 2_200_000_000 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class SampleSource:
    """What the sample of a slot is written from.

    Attributes:
        iteration, slot: the place of the sample in the run.
        number: the number of the reply among those to the same prompt; another number is another sample.
        rng: draws the demonstrations that the prompt shows.
        pattern: the pattern of the demonstrations; may be empty.
        passage: what the sample is based on; None if there is no passage.
        task: name of the sample's task; empty in a run of one task.
        domain: the domain of the sample.
        named_domain: the domain as the prompt names it; empty if the task has only one, and the prompt names none.
    """

    iteration: int
    slot: int
    number: int
    rng: Random
    pattern: str = ""
    passage: Passage | None = None
    task: str = ""
    domain: str = ""
    named_domain: str = ""


async def write_initial(instructor: Instructor, definition: Definition, source: SampleSource) -> Sample:
    """Ask the teacher for the sample of one slot.

    Returns:
        The sample; ``dropped`` is set if the reply holds no sample.
    """
    passage, pattern = source.passage, source.pattern
    demos = source.rng.sample(definition.demos, min(MAX_DEMOS, len(definition.demos)))
    text = passage.text[:PASSAGE_LENGTH] if passage else ""
    messages = render(
        "write",
        **definition.get_instructions(),
        pattern=f"\nPattern of inputs and outputs, to be followed:\n{pattern}\n" if pattern else "",
        examples="Demonstrations:\n" + "\n".join(map(format_example, demos)) + "\n" if demos else "",
        passage=text or "None; choose a fitting subject yourself.",
        domain=format_domain(source.named_domain),
    )
    sample_id = f"{source.iteration}-{source.slot:05d}"
    variables = {"passage": text, "domain": source.named_domain}
    example, reason = await ask_sample(instructor, "write", messages, variables, source.number)
    return Sample(
        sample_id,
        source.iteration,
        source.slot,
        "initial",
        example.input,
        example.output,
        dropped=reason,
        passage=passage.id if passage else None,
        task=source.task,
        domain=source.domain,
    )


async def ask_sample(
    instructor: Instructor, purpose: Purpose, messages: tuple[Message, ...], variables: Mapping[str, str], number: int
) -> tuple[Example, str | None]:
    """Ask for a sample, and ask again if the reply holds none and the settings allow it.

    Returns:
        The sample and None, or what :func:`read_sample` returns, or an empty sample and the provider's reason if it
        refuses the request.
    """
    example, reason = Example("", ""), None
    for retry in range(instructor.retries_unreadable + 1):
        try:
            (reply,) = await instructor.ask(
                purpose, messages, variables, first=number + retry * NEXT_TRY, schema=SAMPLE_SCHEMA
            )
        except RowRefused as refused:
            return Example("", ""), refused.reason
        example, reason = read_sample(reply)
        if reason is None:
            break
    return example, reason


def read_sample(reply: Reply) -> tuple[Example, str | None]:
    """Read the sample in a reply.

    Returns:
        The sample and None; or an example without an input, whose output is the text of the reply (``dsrl show --sample``
        shows it), and the reason: ``truncated`` (cut off by the length limit), ``not_json`` (no JSON object),
        ``no_input_or_output`` (a key is missing, or its value is empty or not a text).
    """
    empty = Example("", replace_surrogates(reply.text))
    if reply.finish_reason == "length":
        return empty, "truncated"
    record = read_json_reply(reply.text, ("input", "output"))
    if record is None:
        return empty, "not_json"
    texts = [_read_text(record.get("input")), _read_text(record.get("output"))]
    if not all(texts):
        return empty, "no_input_or_output"
    return Example(*texts), None


def _read_text(value: Any) -> str:
    """Return a value of a sample as text; empty if it is neither a text nor a number (``NaN`` is no number)."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    if isinstance(value, float) and not isfinite(value):
        return ""
    return replace_surrogates(str(value)).strip()
