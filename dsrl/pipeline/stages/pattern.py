"""Pattern: the teacher summarises the form that the demonstrations share (paper 4.1, Table 1)."""

from __future__ import annotations

from dsrl.errors import RowRefused, TeacherError
from dsrl.pipeline.instructor import Definition, Instructor, as_json
from dsrl.pipeline.prompts import render

#: Demonstrations that the teacher is shown (as the original does).
MOST_DEMOS = 50


async def summarise_pattern(instructor: Instructor, definition: Definition) -> str:
    """Give the pattern; empty without demonstrations, and then the teacher is not asked."""
    if not definition.demos:
        return ""
    examples = "\n".join(as_json(demo) for demo in definition.demos[:MOST_DEMOS])
    messages = render("pattern", **definition.words(), examples=examples)
    try:
        (reply,) = await instructor.ask("pattern", messages, {"examples": examples})
    except RowRefused as refused:
        raise TeacherError(
            f"the teacher refuses to summarise the pattern of the demonstrations ({refused}); choose other "
            "demonstrations with --demos, or another --teacher"
        ) from refused
    return reply.text.strip()
