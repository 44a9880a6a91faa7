"""Reading the files of results that providers write for batches: one JSON object on each line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dsrl import Message, Request, TransientError
from dsrl_http.json_values import get_member, parse_object

#: Seconds by which the clocks of a provider and of this machine may differ.
CLOCK_TOLERANCE = 600.0
#: A request's number in its batch; the name of the batch may stand before it.
_CUSTOM_ID = re.compile(r"(?:\w+-)?(\d{1,9})", re.ASCII)


def parse_rows(lines: Iterable[bytes], provider: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the number of each request with its row of results, in any order. Unreadable lines are left out.

    Raises:
        TransientError: not one line is readable, so the text is something else, such as a page of HTML.
    """
    is_empty, has_rows = True, False
    for line in filter(bytes.strip, lines):
        is_empty = False
        row = parse_object(line) or {}
        match = _CUSTOM_ID.fullmatch(get_member(row, "custom_id", str))
        if match is not None:
            has_rows = True
            yield int(match[1]), row
    if not (is_empty or has_rows):
        raise TransientError(f"{provider} returned lines that are not results of a batch")


def make_full_request(model: str) -> Request:
    """Return a request with every setting that a request can have, because a batch's results do not say what was sent."""
    return Request("write", model, (Message("user", ""),), 1.0, 1, n=2, top_p=0.5, schema={"type": "object"})
