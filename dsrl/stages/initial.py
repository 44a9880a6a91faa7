"""Initial samples: one request, one passage, one sample (paper 4.1, Figure 6)."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

from dsrl.database import storable
from dsrl.errors import RowRefused
from dsrl.instructor import SAMPLE_SCHEMA, Definition, Instructor, as_json
from dsrl.prompts import render
from dsrl.records import Example, Passage, Reply, Sample
from dsrl.stages.passages import PASSAGE_LENGTH

#: Demonstrations shown beside the pattern (as the original does).
MOST_DEMOS = 3
#: Characters; mending takes time that grows with the square of the length.
LONGEST_MENDED = 50_000
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
    try:
        (reply,) = await instructor.ask("write", messages, {"passage": text}, first=number, schema=SAMPLE_SCHEMA)
    except RowRefused as refused:
        return Sample(sample_id, round, slot, "initial", "", "", dropped=refused.reason, passage=place)
    example, reason = read_sample(reply)
    return Sample(sample_id, round, slot, "initial", example.input, example.output, dropped=reason, passage=place)


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
        found = _embedded(text) or _repaired(text)
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


def _repaired(text: str) -> Any:
    """Find the object in prose, code fences, single quotes or half-finished JSON."""
    opening = _KEY.search(text)
    start, end = opening.start() if opening else text.find("{"), text.rfind("}")
    if start < 0 or len(text) > LONGEST_MENDED:
        return None
    from json_repair import repair_json

    try:
        return repair_json(text[start : end + 1] if end > start else text[start:], return_objects=True)
    except (ValueError, RecursionError):
        return None


def _as_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    return storable(str(value)).strip()
