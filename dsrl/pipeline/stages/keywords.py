"""Keywords: the teacher names the task's domain and its synonyms (paper 4.1, Figure 5)."""

from __future__ import annotations

import re

from dsrl.errors import RowRefused
from dsrl.pipeline.instructor import Definition, Instructor, as_json
from dsrl.pipeline.prompts import render

#: More of a reply is not a list of keywords any more.
_MOST = 16
_LONGEST = 80
# "- ", "1. ", "2) " before a keyword, but not the 3 of "3D imaging". Dashes are looked at from the first of them only:
# begun anew at each of them, a long line of dashes would take time that grows with the square of its length.
_BULLET = re.compile(r"(?:(?<![-*•·])[-*•·]++\s+|\(?\d{1,2}[.):](?!\d)\s*)+")


async def find_keywords(instructor: Instructor, definition: Definition) -> list[str]:
    """Ask for the domain's name and synonyms; may be empty if the reply holds none."""
    examples = "\n".join(as_json(demo) for demo in definition.demos[:3])
    messages = render(
        "keywords",
        description=definition.description,
        examples_note=" with examples" if examples else "",
        examples=f"\nExamples:\n{examples}" if examples else "",
    )
    try:
        (reply,) = await instructor.ask("keywords", messages, {"description": definition.description})
    except RowRefused:
        return []
    return read_keywords(reply.text)


def read_keywords(text: str) -> list[str]:
    """Read keywords out of a reply: a line (or a comma) each, without bullets, numbers, quotes and doubles."""
    found: dict[str, str] = {}
    for line in text.replace(",", "\n").splitlines():
        word = " ".join(_BULLET.sub("", line.strip()).strip(" \t-*•·.;:\"'`").split())
        if word and len(word) <= _LONGEST:
            found.setdefault(word.casefold(), word)
            if len(found) == _MOST:
                break
    return list(found.values())
