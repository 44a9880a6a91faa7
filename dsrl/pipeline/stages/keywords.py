"""Keywords: the teacher names the domain of the task and its synonyms (paper 4.1, Figure 5)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dsrl.errors import RowRefused
from dsrl.pipeline import signals
from dsrl.pipeline.instructor import Definition, Instructor, format_example
from dsrl.pipeline.prompts import render
from dsrl.pipeline.runtime import OpenRun

#: Keywords that are read from a reply; a longer list is no list of keywords any more.
_MAX_KEYWORDS = 16
#: Characters of a keyword.
_MAX_LENGTH = 80
# "- ", "1. ", "2) " before a keyword, but not the 3 of "3D imaging". A match may start only at the first of several
# dashes: otherwise the time for a long line of dashes would grow with the square of its length.
_BULLET = re.compile(r"(?:(?<![-*•·])[-*•·]++\s+|\(?\d{1,2}[.):](?!\d)\s*)+")


def name_keywords(run: OpenRun, iteration: int) -> None:
    """Store the keywords of each domain. The teacher is asked if neither the settings nor the task name a domain."""
    if run.store.stages.is_finished(iteration, "keywords"):
        return
    tasks = run.context.tasks
    named = {}
    if unnamed := [key for key, task in tasks.items() if not task.domains]:
        with run.clock.measure("keywords"):
            named = signals.run(_ask_keywords(run, unnamed))
    keywords: dict[str, dict[str, list[str]]] = {}
    for key, task in tasks.items():
        if task.domains:
            keywords[key] = {domain: [domain] for domain in task.domains}
            continue
        words = named[key]
        if not words:
            of_task = f" {key!r}" if key else ""
            run.add_note(
                f"the teacher named no keywords; the description of the task{of_task} is used to search for passages"
            )
            words = [task.definition.description]
        keywords[key] = {words[0]: words}
    run.store.add_keywords(iteration, keywords)
    found = (words[:4] for domains in keywords.values() for words in domains.values())
    run.progress.finish("keywords", "; ".join(map(", ".join, found)))


async def _ask_keywords(run: OpenRun, tasks: Sequence[str]) -> dict[str, list[str]]:
    """Ask for the keywords of tasks without a domain; return task -> keywords."""
    async with run.open_instructors() as instructors:
        return {key: await find_keywords(instructors[key], run.context.tasks[key].definition) for key in tasks}


async def find_keywords(instructor: Instructor, definition: Definition) -> list[str]:
    """Ask the teacher for the name of the domain and its synonyms; empty if the reply holds none."""
    examples = "\n".join(format_example(demo) for demo in definition.demos[:3])
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
    """Return the keywords of a reply: one per line or comma, without bullets, numbers, quotes and repetitions."""
    keywords: dict[str, str] = {}
    for line in text.replace(",", "\n").splitlines():
        word = " ".join(_BULLET.sub("", line.strip()).strip(" \t-*•·.;:\"'`").split())
        if word and len(word) <= _MAX_LENGTH:
            keywords.setdefault(word.casefold(), word)
            if len(keywords) == _MAX_KEYWORDS:
                break
    return list(keywords.values())
