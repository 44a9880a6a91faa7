"""Find the JSON object in the reply of a teacher: alone, in other text, or almost in JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from dsrl.pipeline.loose_json import read_object

#: Characters. Reading almost-JSON takes longer than reading JSON.
MAX_LOOSE_JSON = 50_000
#: Braces in a reply at which whole JSON may start.
_MAX_BRACES = 64


def read_json_reply(text: str, keys: Sequence[str]) -> dict[str, Any] | None:
    """Return the object in a reply, with its keys in lower case; None if there is no object.

    Args:
        text: the reply.
        keys: keys of the object, in lower case. An object with all of them is looked for in other text; in almost-JSON, the
            first of them marks the object.
    """
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        record = _find_json(text, frozenset(keys)) or _find_loose_json(text, keys[0])
    if isinstance(record, list) and len(record) == 1:
        record = record[0]
    return _lower_keys(record) if isinstance(record, dict) else None


def _lower_keys(record: dict[Any, Any]) -> dict[str, Any]:
    return {str(key).strip().lower(): value for key, value in record.items()}


def _find_json(text: str, keys: frozenset[str]) -> dict[Any, Any] | None:
    """Return the object in a text that holds other text around it, perhaps with braces too."""
    decoder = json.JSONDecoder(strict=False)
    start = -1
    for _ in range(_MAX_BRACES):
        start = text.find("{", start + 1)
        if start < 0:
            break
        try:
            record, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if keys <= _lower_keys(record).keys():
            return dict(record)
    return None


def _find_loose_json(text: str, key: str) -> dict[str, Any] | None:
    """Return the object in prose, in a code fence, with single quotes or in unfinished JSON."""
    opening = re.search(rf"\{{\s*[\"']?{key}\b", text, re.IGNORECASE)
    start = opening.start() if opening else text.find("{")
    return read_object(text, start) if start >= 0 and len(text) <= MAX_LOOSE_JSON else None
