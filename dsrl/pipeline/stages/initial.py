"""Initial samples: one request, one passage, one sample (paper 4.1, Figure 6)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from math import isfinite
from random import Random
from typing import Any

from dsrl.errors import RowRefused
from dsrl.pipeline.instructor import SAMPLE_SCHEMA, Definition, Instructor, as_json
from dsrl.pipeline.loose_json import read_object
from dsrl.pipeline.prompts import render
from dsrl.pipeline.stages.passages import PASSAGE_LENGTH
from dsrl.text import replace_surrogates
from dsrl.types import Example, Message, Passage, Purpose, Reply, Sample

#: Demonstrations shown beside the pattern (as the original does).
MOST_DEMOS = 3
#: Characters. No sample is longer, and reading half-finished JSON takes longer than reading JSON.
LONGEST_MENDED = 50_000
#: From the number of a reply to that of the next try: above every number, and three of them below 2**63.
NEXT_TRY = 2_200_000_000 * 1_000_000_000
_BRACES_TRIED = 64
# A brace that a key follows, as in half-finished JSON.
_KEY = re.compile(r"\{\s*[\"']?input\b", re.IGNORECASE)


async def write_initial(
    instructor: Instructor,
    definition: Definition,
    pattern: str,
    passage: Passage | None,
    round: int,
    slot: int,
    number: int,
    rng: Random,
) -> Sample:
    """Ask the teacher for the sample of one slot.

    Args:
        pattern: may be empty.
        passage: what the sample must rest on.
        number: of the reply among those to the same prompt; another number is another sample.
        rng: draws the demonstrations that are shown.

    Returns:
        The sample; with ``dropped`` set where the reply is no sample.
    """
    demos = rng.sample(definition.demos, min(MOST_DEMOS, len(definition.demos)))
    text = passage.text[:PASSAGE_LENGTH] if passage else ""
    messages = render(
        "write",
        **definition.words(),
        pattern=f"\nPattern of inputs and outputs, to be followed:\n{pattern}\n" if pattern else "",
        examples="Demonstrations:\n" + "\n".join(map(as_json, demos)) + "\n" if demos else "",
        passage=text or "None; choose a fitting subject yourself.",
    )
    sample_id = f"{round}-{slot:05d}"
    place = passage.id if passage else None
    example, reason = await ask_sample(instructor, "write", messages, {"passage": text}, number)
    return Sample(sample_id, round, slot, "initial", example.input, example.output, dropped=reason, passage=place)


async def ask_sample(
    instructor: Instructor, purpose: Purpose, messages: tuple[Message, ...], variables: Mapping[str, str], number: int
) -> tuple[Example, str | None]:
    """Ask for a sample, anew where the reply is none and the settings allow it.

    Returns:
        As :func:`read_sample`; the reason is the provider's where it refuses.
    """
    example, reason = Example("", ""), None
    for again in range(instructor.retries_unreadable + 1):
        try:
            (reply,) = await instructor.ask(
                purpose, messages, variables, first=number + again * NEXT_TRY, schema=SAMPLE_SCHEMA
            )
        except RowRefused as refused:
            return Example("", ""), refused.reason
        example, reason = read_sample(reply)
        if reason is None:
            break
    return example, reason


def read_sample(reply: Reply) -> tuple[Example, str | None]:
    """Read a sample out of a reply.

    Returns:
        The sample and None, or an empty sample and the reason: ``truncated`` (cut off by the length limit),
        ``not_json`` (no JSON object), ``no_input_or_output`` (a key is missing, empty or no text).
    """
    nothing = Example("", "")
    if reply.finish_reason == "length":
        return nothing, "truncated"
    found = _json_object(reply.text)
    if found is None:
        return nothing, "not_json"
    keys = {str(key).strip().lower(): value for key, value in found.items()}
    texts = [_as_text(keys.get("input")), _as_text(keys.get("output"))]
    if not all(texts):
        return nothing, "no_input_or_output"
    return Example(*texts), None


def _json_object(text: str) -> dict[Any, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = _embedded(text) or _loose(text)
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    return found if isinstance(found, dict) else None


def _embedded(text: str) -> dict[Any, Any] | None:
    """Find a whole sample in the prose around it, which may hold braces too."""
    decoder = json.JSONDecoder(strict=False)
    start = -1
    for _ in range(_BRACES_TRIED):
        start = text.find("{", start + 1)
        if start < 0:
            break
        try:
            found, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if {"input", "output"} <= {str(key).strip().lower() for key in found}:
            return dict(found)
    return None


def _loose(text: str) -> dict[str, Any] | None:
    """Find the object in prose, code fences, single quotes or half-finished JSON."""
    opening = _KEY.search(text)
    start = opening.start() if opening else text.find("{")
    return read_object(text, start) if start >= 0 and len(text) <= LONGEST_MENDED else None


def _as_text(value: Any) -> str:
    """Give a value of a sample as text; empty where it is none, as ``NaN`` and ``Infinity`` are none."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    if isinstance(value, float) and not isfinite(value):
        return ""
    return replace_surrogates(str(value)).strip()
