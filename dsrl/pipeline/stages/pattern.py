"""Pattern: the teacher summarises the common form of the demonstrations (paper 4.1, Table 1)."""

from __future__ import annotations

from dsrl.errors import RowRefused, TeacherError
from dsrl.pipeline import signals
from dsrl.pipeline.instructor import Definition, Instructor, format_example
from dsrl.pipeline.prompts import render
from dsrl.pipeline.runtime import OpenRun

#: Demonstrations that the prompt shows (as in the original).
MAX_DEMOS = 50


def find_pattern(run: OpenRun, iteration: int) -> None:
    """Store the pattern of the demonstrations."""
    if run.store.stages.is_finished(iteration, "pattern"):
        return
    with run.clock.measure("pattern"):
        pattern = signals.run(_ask_pattern(run))
    run.store.add_pattern(iteration, pattern)


async def _ask_pattern(run: OpenRun) -> str:
    async with run.open_instructor() as instructor:
        return await summarise_pattern(instructor, run.context.definition)


async def summarise_pattern(instructor: Instructor, definition: Definition) -> str:
    """Ask the teacher for the pattern. Without demonstrations it is empty, and the teacher is not asked.

    Raises:
        TeacherError: the teacher refuses the request, or cannot continue.
    """
    if not definition.demos:
        return ""
    examples = "\n".join(format_example(demo) for demo in definition.demos[:MAX_DEMOS])
    messages = render("pattern", **definition.get_instructions(), examples=examples)
    try:
        (reply,) = await instructor.ask("pattern", messages, {"examples": examples})
    except RowRefused as refused:
        raise TeacherError(
            f"the teacher refuses to summarise the pattern of the demonstrations ({refused}); choose other "
            "demonstrations with --demos, or another --teacher"
        ) from refused
    return reply.text.strip()
